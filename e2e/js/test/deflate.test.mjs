// Stock clients that compress: ws in Node.js, and Chromium, which offers it by itself, beside clients without it.

import assert from "node:assert/strict"
import { after, before, test } from "node:test"
import { WebSocket } from "ws"
import { joinInPage, launch, stockPage } from "../lib/browser.mjs"
import { ChannelNode } from "../lib/node.mjs"
import { Client } from "../lib/phoenix.mjs"
import { HANG, until } from "../lib/wait.mjs"

const CONFIGURATION = `
auth: {anonymous: true}
rooms: {ackEvents: [said]}
compression: {level: 2, minBytes: 256}
chatPage: true
`
const LONG = { items: Array.from({ length: 200 }, (_, n) => ({ id: n, name: `item ${n}`, umlaut: "Gr\u00fc\u00dfe" })) }

/** A transport for phoenix.js: ws, which compresses what is longer than `threshold` bytes. */
function compressing(threshold) {
  return class extends WebSocket {
    constructor(url, protocols) {
      super(url, protocols, { perMessageDeflate: { threshold } })
    }
  }
}

class Plain extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, { perMessageDeflate: false })
  }
}

let node
const clients = []

async function room(transport, topic, options) {
  const one = new Client(node.socket, { transport, ...options })
  clients.push(one)
  await one.connect()
  return { room: await one.join(topic), extensions: one.socket.conn.extensions }
}

before(async () => {
  node = await ChannelNode.configured(CONFIGURATION)
})

after(async () => {
  for (const one of clients) one.socket.disconnect()
  await node?.remove()
})

test("clients with and without compression hear the same in one room", { timeout: HANG }, async () => {
  const [all, some, none] = await Promise.all([
    room(compressing(0), "room:deflate"),
    room(compressing(1024), "room:deflate"),
    room(Plain, "room:deflate"),
  ])
  assert.equal(all.extensions, "permessage-deflate")
  assert.equal(none.extensions, "")
  const boxes = [all, some, none].map(one => one.room.on("said"))
  const messages = [{ n: 1 }, LONG, { text: "x".repeat(20_000) }, { list: [null, 1.5, "\u4e16\u754c \ud83c\udf89"] }]
  for (const from of [all, some, none]) {
    for (const message of messages) {
      assert.equal((await from.room.push("said", message)).status, "ok")
      for (const box of boxes) assert.deepEqual(await box.take(), message)
    }
  }
  // What is short is sent as it is. A shard shows what it has counted at the end of its turn.
  await until("all is counted", async () => (await node.metric("deflated_messages_total")) >= 6)
  const [before, after] = [await node.metric("deflated_bytes_total"), await node.metric("deflated_to_bytes_total")]
  assert.ok(after > 0 && before > 4 * after, `${before} became ${after}`)
  assert.ok((await node.metric("inflated_messages_total")) > 0)
  assert.equal(await node.metric("deflated_messages_total"), 6)
})

test("bytes are compressed as well", { timeout: HANG }, async () => {
  const [a, b] = await Promise.all([room(compressing(0), "room:bytes"), room(compressing(0), "room:bytes")])
  const box = b.room.on("said")
  const bytes = Uint8Array.from({ length: 5_000 }, (_, n) => n % 7)
  assert.equal((await a.room.push("said", bytes.buffer)).status, "ok")
  assert.deepEqual(new Uint8Array(await box.take()), bytes)
})

test("many messages in both directions keep their order", { timeout: HANG }, async () => {
  const [a, b] = await Promise.all([room(compressing(0), "room:order"), room(Plain, "room:order")])
  const [own, others] = [a.room.on("n"), b.room.on("n")]
  for (let n = 0; n < 300; n++) (n % 2 ? a : b).room.cast("n", { n, ...(n % 3 ? LONG : {}) })
  for (const box of [own, others]) {
    const seen = { 0: [], 1: [] }
    for (let n = 0; n < 300; n++) {
      const message = await box.take()
      seen[message.n % 2].push(message.n)
      assert.deepEqual(message, { n: message.n, ...(message.n % 3 ? LONG : {}) })
    }
    for (const list of Object.values(seen)) assert.deepEqual(list, [...list].sort((x, y) => x - y))
  }
})

test("a bomb is refused with 1009", { timeout: HANG }, async () => {
  const socket = new (compressing(0))(`${node.socket}/websocket?vsn=2.0.0`)
  const code = new Promise(resolve => socket.on("close", resolve))
  socket.on("open", () => socket.send("x".repeat(10_000_000)))
  assert.equal(await code, 1009)
})

test("a page in Chromium compresses by itself", { timeout: HANG }, async context => {
  const browser = await launch()
  context.after(() => browser.close())
  const outside = await room(Plain, "room:page")
  const box = outside.room.on("said")
  const page = await stockPage(browser.context, node.http)
  await joinInPage(page, "room:page", "said")
  assert.equal(await page.evaluate(() => window.socket.conn.extensions.split(";")[0]), "permessage-deflate")
  const [deflated, inflated] = [await node.metric("deflated_messages_total"), await node.metric("inflated_messages_total")]
  assert.equal((await outside.room.push("said", LONG)).status, "ok")
  await box.take()
  await page.waitForFunction(() => window.got.some(({ items }) => items?.length === 200))
  await page.evaluate(message => window.channel.push("said", message), LONG)
  assert.deepEqual(await box.take(), LONG)
  assert.deepEqual(await page.evaluate(() => window.got.at(-1)), LONG)
  await until("both are counted", async () => {
    const counts = [await node.metric("deflated_messages_total"), await node.metric("inflated_messages_total")]
    return counts[0] === deflated + 2 && counts[1] > inflated
  })
})
