// The stock realtime-js client of Supabase against one node of several shards, and against two nodes.

import assert from "node:assert/strict"
import { after, before, test } from "node:test"
import { WebSocket } from "ws"
import { Fleet } from "../lib/fleet.mjs"
import { ChannelNode } from "../lib/node.mjs"
import { Realtime } from "../lib/realtime.mjs"
import { HANG, Mailbox, guarded } from "../lib/wait.mjs"

const VERSIONS = ["1.0.0", "2.0.0"]

let node
const clients = []

function client(vsn, options, url = node.socket) {
  const one = new Realtime(url, vsn, options)
  clients.push(one)
  return one
}

before(async () => {
  node = await ChannelNode.start(["--shards", "3"])
})

after(async () => {
  await Promise.all(clients.map(one => one.disconnect()))
  await node?.end("SIGKILL")
})

for (const vsn of VERSIONS) {
  test(`vsn ${vsn}: what one broadcasts the others hear, each version in its form`, { timeout: HANG }, async () => {
    const topic = `forms ${vsn}`
    const listeners = VERSIONS.flatMap(vsn => [client(vsn), client(vsn), client(vsn)])
    const subscriptions = await Promise.all(listeners.map(one => one.subscribe(topic)))
    const speaker = await client(vsn).subscribe(topic)
    const boxes = subscriptions.map(one => one.on("move"))
    const [own, all] = [speaker.on("*"), subscriptions[5].on("*")]
    const payloads = [{ text: "Grüße 🎉", n: [1.5, null] }, { ids: [1] }, {}]
    for (const payload of payloads) {
      assert.equal(await speaker.send("move", payload), "ok")
      for (const box of boxes) assert.deepEqual(await box.take(), { type: "broadcast", event: "move", payload })
    }
    await speaker.send("other", { n: 1 })
    assert.deepEqual((await all.takeIf(({ event }) => event === "other")).payload, { n: 1 })
    assert.deepEqual([own.items.length, boxes[0].items.length], [0, 0])
  })

  test(`vsn ${vsn}: who asks for it hears itself and gets an answer`, { timeout: HANG }, async () => {
    const one = await client(vsn).subscribe(`self ${vsn}`, { broadcast: { self: true, ack: true } })
    const box = one.on("move")
    for (let n = 0; n < 100; n++) assert.equal(await one.send("move", { n }), "ok")
    for (let n = 0; n < 100; n++) assert.deepEqual((await box.take()).payload, { n })
    // Events that cannot be served are answered as well, so that nobody waits for them.
    assert.equal(await guarded("an answer", one.channel.track({ online: true })), "error")
  })

  test(`vsn ${vsn}: a join that asks for presence and more is served`, { timeout: HANG }, async () => {
    const config = { private: true, presence: { key: "ann" }, broadcast: { replay: { since: 1, limit: 2 } } }
    const synced = new Mailbox("presence")
    const prepare = channel => channel.on("presence", { event: "sync" }, () => synced.put("sync"))
    const [a, b] = await Promise.all([
      client(vsn).subscribe(`presence ${vsn}`, config, { prepare }),
      client(vsn).subscribe(`presence ${vsn}`),
    ])
    const box = a.on("move")
    await b.send("move", { n: 1 })
    assert.deepEqual((await box.take()).payload, { n: 1 })
    assert.equal(synced.items.length, 0)
  })

  test(`vsn ${vsn}: who asks for changes of a database is told that there are none`, { timeout: HANG }, async () => {
    const changes = { event: "*", schema: "public", table: "messages" }
    const prepare = channel => channel.on("postgres_changes", changes, () => {})
    const one = await client(vsn).subscribe(`changes ${vsn}`, {}, { prepare, waits: false })
    const status = await one.statuses.takeIf(status => status.startsWith("CHANNEL_ERROR"))
    assert.match(status, /mismatch between server and client bindings/)
  })

  test(`vsn ${vsn}: a topic that was left can be subscribed to again at once`, { timeout: HANG }, async () => {
    const [a, b] = [client(vsn), await client(vsn).subscribe(`again ${vsn}`)]
    // realtime-js disconnects when its last channel goes.
    await a.subscribe("stays")
    for (let n = 0; n < 5; n++) {
      const old = await a.subscribe(`again ${vsn}`)
      old.channel.unsubscribe()
      const fresh = await a.subscribe(`again ${vsn}`)
      const box = fresh.on("move")
      await b.send("move", { n })
      assert.deepEqual((await box.take()).payload, { n })
      assert.equal(fresh.channel.state, "joined")
      assert.equal(await guarded("the leave", fresh.channel.unsubscribe()), "ok")
    }
  })

  test(`vsn ${vsn}: tokens are refreshed and given to nobody, heartbeats answered`, { timeout: HANG }, async () => {
    const beats = new Mailbox("a heartbeat")
    const heartbeatCallback = status => beats.put(status)
    const one = client(vsn, { heartbeatIntervalMs: 50, heartbeatCallback })
    const [a, b] = [await one.subscribe(`token ${vsn}`), await client(vsn).subscribe(`token ${vsn}`)]
    const strays = new Mailbox("a token")
    b.channel.channelAdapter.on("access_token", payload => strays.put(payload))
    await one.client.setAuth("a.b.c")
    for (let n = 0; n < 3; n++) await beats.takeIf(status => status === "ok")
    const box = b.on("move")
    await a.send("move", { n: 1 })
    await box.take()
    assert.equal(strays.items.length, 0)
    assert.equal(a.channel.state, "joined")
  })
}

test("bytes are for those who can read them", { timeout: HANG }, async () => {
  const [from, to, old] = await Promise.all(["2.0.0", "2.0.0", "1.0.0"].map(vsn => client(vsn).subscribe("bytes")))
  const [box, without] = [to.on("blob"), old.on("*")]
  for (const bytes of [[], [0, 255, 10], Array.from({ length: 70 }, (_, n) => n)]) {
    await from.send("blob", Uint8Array.from(bytes).buffer)
    const { type, event, payload } = await box.take()
    assert.deepEqual([type, event, [...new Uint8Array(payload)]], ["broadcast", "blob", bytes])
  }
  await from.send("last", {})
  assert.equal((await without.take()).event, "last")
})

test("clients are back in their rooms after their node has ended", { timeout: HANG }, async () => {
  const fast = { reconnectAfterMs: () => 20 }
  const [a, b] = await Promise.all(VERSIONS.map(vsn => client(vsn, fast).subscribe("back")))
  await node.end("SIGTERM")
  await node.spawn()
  for (const one of [a, b]) await one.statuses.takeIf(status => status === "SUBSCRIBED")
  const box = b.on("move")
  await a.send("move", { back: true })
  assert.deepEqual((await box.take()).payload, { back: true })
})

/** A connection without realtime-js, to see single messages. */
async function raw() {
  const socket = new WebSocket(`${node.socket}/websocket?apikey=x&vsn=2.0.0`)
  const messages = new Mailbox("a message")
  socket.binaryType = "nodebuffer"
  socket.on("message", (data, isBinary) => messages.put(isBinary ? data : JSON.parse(data)))
  await guarded("the upgrade", new Promise(resolve => socket.on("open", resolve)))
  return { socket, messages }
}

test("the bytes of user broadcasts are those of Supabase's server", { timeout: HANG }, async () => {
  const { socket, messages } = await raw()
  const config = { broadcast: { self: true, ack: false } }
  socket.send(JSON.stringify(["1", "1", "realtime:x", "phx_join", { config }]))
  const joined = { status: "ok", response: { postgres_changes: [] } }
  assert.deepEqual(await messages.take(), ["1", "1", "realtime:x", "phx_reply", joined])
  const names = "12realtime:xmove"
  socket.send(Buffer.concat([Buffer.from([3, 1, 1, 10, 4, 2, 1]), Buffer.from(`${names}{}{"n":1}`)]))
  assert.deepEqual(await messages.take(), Buffer.concat([Buffer.from([4, 10, 4, 0, 1]), Buffer.from('realtime:xmove{"n":1}')]))
  socket.send(Buffer.concat([Buffer.from([3, 1, 1, 10, 4, 0, 0]), Buffer.from(names), Buffer.from([255])]))
  assert.deepEqual(
    await messages.take(),
    Buffer.concat([Buffer.from([4, 10, 4, 0, 0]), Buffer.from("realtime:xmove"), Buffer.from([255])]),
  )
  socket.terminate()
})

test("members on two nodes hear each other in their forms", { timeout: HANG }, async () => {
  const fleet = await Fleet.start('rooms: {policies: [{topics: "realtime:*", dialect: Realtime}]}')
  try {
    const at = (node, vsn) => client(vsn, {}, node.socket).subscribe("fleet", { broadcast: { ack: true } })
    const [a, b] = fleet.nodes
    const members = await Promise.all([at(a, "1.0.0"), at(a, "2.0.0"), at(b, "1.0.0"), at(b, "2.0.0")])
    const boxes = members.map(one => one.on("n"))
    // The way between the nodes opens a moment after the joins.
    for (const [from, to] of [[0, 3], [2, 1]]) {
      const [opening, arrived] = [members[from].channel, members[to].on("opening")]
      while (arrived.items.length === 0) {
        await opening.send({ type: "broadcast", event: "opening", payload: {} })
        await new Promise(resolve => setTimeout(resolve, 20))
      }
    }
    for (let n = 0; n < 100; n++) assert.equal(await members[n % 4].send("n", { n }), "ok")
    const heard = await Promise.all(
      boxes.map(async box => {
        const numbers = []
        while (numbers.length < 75) numbers.push((await box.take()).payload.n)
        return numbers
      }),
    )
    for (const [index, numbers] of heard.entries()) {
      const others = Array.from({ length: 100 }, (_, n) => n).filter(n => n % 4 !== index)
      assert.deepEqual(numbers.sort((x, y) => x - y), others)
    }
    const blobs = [members[1], members[3]].map(one => one.on("blob"))
    await members[1].send("blob", Uint8Array.of(0, 255).buffer)
    assert.deepEqual([...new Uint8Array((await blobs[1].take()).payload)], [0, 255])
  } finally {
    await Promise.all(clients.map(one => one.disconnect()))
    await fleet.end()
  }
})
