// The stock phoenix.js client over long-poll, in Node.js and in real Chromium, against one node of several shards.

import assert from "node:assert/strict"
import { after, before, test } from "node:test"
import { LongPoll } from "phoenix"
import { launch, stockPage } from "../lib/browser.mjs"
import { ChannelNode } from "../lib/node.mjs"
import { Client, Silent } from "../lib/phoenix.mjs"
import { HANG } from "../lib/wait.mjs"

let node
const clients = []

async function client(options = { transport: LongPoll }) {
  const one = new Client(node.socket, options)
  clients.push(one)
  return one.connect()
}

async function metric(name) {
  const text = await (await fetch(`http://127.0.0.1:${node.admin}/metrics`)).text()
  return Number(text.match(new RegExp(`^channelcluster_node_${name} (\\d+)`, "m"))[1])
}

before(async () => {
  node = await ChannelNode.start(["--shards", "3"])
})

after(async () => {
  for (const one of clients) one.socket.disconnect()
  await node?.end("SIGKILL")
})

test("clients of both transports hear each other, in order", { timeout: HANG }, async () => {
  const [a, b, socket] = await Promise.all([client(), client(), client({})])
  const rooms = await Promise.all([a, b, socket].map(one => one.join("room:both")))
  const boxes = rooms.map(room => room.on("n"))
  for (let n = 0; n < 250; n++) rooms[n % 3].cast("n", { from: n % 3, n })
  for (const box of boxes) {
    const last = [-1, -1, -1]
    for (let n = 0; n < 250; n++) {
      const message = await box.take()
      assert.ok(message.n > last[message.from], "in the order of its sender")
      last[message.from] = message.n
    }
    assert.equal(box.items.length, 0)
  }
})

test("pushes are answered, joins refused and rooms left", { timeout: HANG }, async () => {
  const one = await client()
  const room = await one.join("room:answers")
  assert.deepEqual(await room.push("echo", { n: ["ä", null] }), { status: "ok", response: { n: ["ä", null] } })
  assert.equal((await room.push("msg_ack", {})).status, "ok")
  assert.deepEqual(await one.tryJoin("nowhere:1"), { status: "error", response: { reason: "unmatched topic" } })
  assert.equal((await room.leave()).status, "ok")
  assert.equal(room.channel.state, "closed")
  await one.join("room:answers")
})

test("binary messages pass, where a client can read them", { timeout: HANG }, async () => {
  const [from, socket] = await Promise.all([client(), client({})])
  // phoenix.js posts binary messages, but takes all that come for JSON.
  const decode = from.socket.decode
  from.socket.decode = (raw, callback) => {
    if (raw.startsWith("[")) return decode(raw, callback)
    const bytes = raw.charCodeAt(0) < 32 ? Buffer.from(raw) : Buffer.from(raw, "base64")
    decode(Uint8Array.from(bytes).buffer, callback)
  }
  const rooms = await Promise.all([from, socket].map(one => one.join("room:binary")))
  const boxes = rooms.map(room => room.on("blob"))
  for (const bytes of [[0, 255, 10], [97, 98]]) {
    for (const room of rooms) {
      room.cast("blob", Uint8Array.from(bytes).buffer)
      for (const box of boxes) assert.deepEqual([...new Uint8Array(await box.take())], bytes)
    }
  }
})

test("a client without WebSocket falls back", { timeout: HANG }, async () => {
  const one = await client({ transport: Silent, longPollFallbackMs: 50 })
  const room = await one.join("room:fallback")
  assert.equal((await room.push("echo", { n: 1 })).response.n, 1)
  assert.equal(one.socket.transport, LongPoll)
})

test("a client is back in its room after its node has ended", { timeout: HANG }, async () => {
  const one = await client()
  const room = await one.join("room:back")
  assert.ok((await metric("poll_sessions")) >= 1)
  assert.equal(await node.end("SIGTERM"), 0)
  assert.notEqual(await one.closed(), 1000)
  await node.spawn()
  await room.joins.take()
  assert.equal((await room.push("echo", { back: true })).response.back, true)
})

test("a page of another origin on this machine chats over long-poll", { timeout: HANG }, async () => {
  const browser = await launch()
  try {
    const page = await stockPage(browser.context, node.http)
    const outside = await client({})
    const room = await outside.join("room:page")
    const box = room.on("msg")
    await page.evaluate(
      url =>
        new Promise((resolve, reject) => {
          const { Socket, LongPoll } = window.Phoenix
          const socket = new Socket(url, { transport: LongPoll })
          socket.connect()
          window.got = []
          window.channel = socket.channel("room:page", {})
          window.channel.on("msg", payload => window.got.push(payload))
          window.channel.join().receive("ok", resolve).receive("timeout", () => reject(new Error("no answer")))
        }),
      node.socket,
    )
    await page.evaluate(() => window.channel.push("msg", { from: "page" }))
    assert.deepEqual(await box.take(), { from: "page" })
    room.cast("msg", { from: "outside" })
    await page.waitForFunction(() => window.got.some(({ from }) => from === "outside"))
    await page.close()
  } finally {
    await browser.close()
  }
})
