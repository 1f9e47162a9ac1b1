// The stock phoenix.js client with the MessagePack shim of docs/PROTOCOL.md, beside clients that speak JSON.

import assert from "node:assert/strict"
import { after, before, test } from "node:test"
import { LongPoll } from "phoenix"
import { Fleet } from "../lib/fleet.mjs"
import { shimOfThePage } from "../lib/messagepack.mjs"
import { ChannelNode } from "../lib/node.mjs"
import { Client, Silent } from "../lib/phoenix.mjs"
import { Realtime } from "../lib/realtime.mjs"
import { HANG } from "../lib/wait.mjs"

const { messagePack } = await shimOfThePage()

let node
const clients = []

async function client(options = messagePack, url = node.socket) {
  const one = new Client(url, options)
  clients.push(one)
  return one.connect()
}

before(async () => {
  node = await ChannelNode.start(["--shards", "3"])
})

after(async () => {
  for (const one of clients) one.socket.disconnect()
  await node?.end("SIGKILL")
})

const VALUES = {
  text: "Grüße, 世界 🎉 \"\\\n\u0001",
  numbers: [0, -1, 127, 128, -129, 65_536, -40_000, 2 ** 40, -(2 ** 40), 1.5, 0.1, 1e300, -0.25],
  nested: { "": [], deep: [{ a: [[null, true, false]] }] },
  long: "x".repeat(300),
  many: Array.from({ length: 20 }, (_, n) => n),
}

test("clients of both serializers hear each other on every shard", { timeout: HANG }, async () => {
  const all = await Promise.all(Array.from({ length: 6 }, (_, n) => client(n % 2 === 0 ? messagePack : {})))
  const rooms = await Promise.all(all.map(one => one.join("room:both")))
  const boxes = rooms.map(room => room.on("msg"))
  for (const room of rooms.slice(0, 2)) {
    room.cast("msg", VALUES)
    for (const box of boxes) assert.deepEqual(await box.take(), VALUES)
  }
  for (const room of rooms.slice(0, 2)) {
    room.cast("msg", Uint8Array.of(0, 255, 10).buffer)
    for (const box of boxes) {
      const bytes = await box.take()
      assert.ok(bytes instanceof ArrayBuffer, "as in V2")
      assert.deepEqual([...new Uint8Array(bytes)], [0, 255, 10])
    }
  }
})

test("joins, pushes and leaves are answered", { timeout: HANG }, async () => {
  const one = await client()
  assert.ok((await one.ping()) >= 0)
  assert.deepEqual(await one.tryJoin("nowhere:1"), { status: "error", response: { reason: "unmatched topic" } })
  const room = await one.join("room:answers")
  assert.deepEqual(await room.push("echo", VALUES), { status: "ok", response: VALUES })
  assert.deepEqual(await room.push("echo_error", { why: "x" }), { status: "error", response: { why: "x" } })
  const { response } = await room.push("echo", Uint8Array.of(1, 2).buffer)
  assert.deepEqual([response instanceof ArrayBuffer, ...new Uint8Array(response)], [true, 1, 2])
  const box = room.on("pushed")
  room.cast("push_me", { n: 1 })
  assert.deepEqual(await box.take(), { n: 1 })
  assert.equal((await room.leave()).status, "ok")
  await one.join("room:answers")
})

test("a member that says what the library refuses harms nobody", { timeout: HANG }, async () => {
  const [one, other] = [await client(), await client({})]
  const [room, hostile] = [await one.join("room:hostile"), await other.join("room:hostile")]
  const box = room.on("msg")
  hostile.cast("msg", JSON.parse('{"__proto__": {"polluted": true}}'))
  hostile.cast("msg", { n: 1 })
  assert.deepEqual(await box.take(), { n: 1 })
  assert.equal({}.polluted, undefined)
})

test("a value that JSON has no form for ends the connection, and the client comes back", { timeout: HANG }, async () => {
  const one = await client()
  const room = await one.join("room:dates")
  room.cast("msg", { at: new Date() })
  assert.equal(await one.closed(), 1011)
  await one.opened()
  await room.joins.take()
  assert.deepEqual(await room.push("echo", { n: 1 }), { status: "ok", response: { n: 1 } })
})

test("a client that falls back to long-poll goes on with it", { timeout: HANG }, async () => {
  const [one, other] = [await client({ ...messagePack, transport: Silent, longPollFallbackMs: 50 }), await client({})]
  const [room, far] = [await one.join("room:fallback"), await other.join("room:fallback")]
  assert.equal(one.socket.transport, LongPoll)
  assert.deepEqual(await room.push("echo", VALUES), { status: "ok", response: VALUES })
  const box = room.on("msg")
  far.cast("msg", VALUES)
  assert.deepEqual(await box.take(), VALUES)
  far.cast("msg", Uint8Array.of(255).buffer)
  assert.deepEqual([...new Uint8Array(await box.take())], [255])
})

test("members of Realtime rooms are heard, and hear bytes too", { timeout: HANG }, async () => {
  const realtime = new Realtime(node.socket, "2.0.0")
  try {
    const subscription = await realtime.subscribe("packed")
    const room = await (await client()).join("realtime:packed", { config: { broadcast: { ack: true } } })
    assert.deepEqual(room.response, { postgres_changes: [] })
    const [theirs, ours] = [subscription.on("move"), room.on("broadcast")]
    const said = { type: "broadcast", event: "move", payload: VALUES }
    assert.deepEqual(await room.push("broadcast", said), { status: "ok", response: {} })
    assert.deepEqual(await theirs.take(), said)
    await subscription.send("move", VALUES)
    assert.deepEqual(await ours.take(), said)
    await subscription.send("move", Uint8Array.of(255).buffer)
    assert.deepEqual([...(await ours.take()).payload], [255])
  } finally {
    await realtime.disconnect()
  }
})

test("clients of both serializers hear each other on two nodes", { timeout: HANG }, async () => {
  const fleet = await Fleet.start("")
  try {
    const [a, b] = fleet.nodes
    const here = await (await client(messagePack, a.socket)).join("room:fleet")
    const there = await Promise.all(
      [messagePack, {}].map(async options => (await client(options, b.socket)).join("room:fleet")),
    )
    const boxes = there.map(room => room.on("msg"))
    // The way between the nodes opens a moment after the joins.
    const arrived = there.map(room => room.on("opening"))
    while (arrived.some(box => box.items.length === 0)) {
      here.cast("opening", {})
      await new Promise(resolve => setTimeout(resolve, 20))
    }
    here.cast("msg", VALUES)
    for (const box of boxes) assert.deepEqual(await box.take(), VALUES)
    here.cast("msg", Uint8Array.of(255).buffer)
    for (const box of boxes) assert.deepEqual([...new Uint8Array(await box.take())], [255])
  } finally {
    for (const one of clients) one.socket.disconnect()
    await fleet.end()
  }
})
