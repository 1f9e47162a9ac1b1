// The stock phoenix.js client in Node.js against one node.

import assert from "node:assert/strict"
import { after, before, test } from "node:test"
import { WebSocket } from "ws"
import { ChannelNode } from "../lib/node.mjs"
import { Client } from "../lib/phoenix.mjs"
import { HANG, Mailbox, guarded } from "../lib/wait.mjs"

let node
const clients = []

async function client(options) {
  const one = new Client(node.socket, options)
  clients.push(one)
  return one.connect()
}

before(async () => {
  node = await ChannelNode.start()
})

after(async () => {
  for (const one of clients) one.socket.disconnect()
  await node?.end("SIGKILL")
})

test("a push is broadcast to every member, its sender included", { timeout: HANG }, async () => {
  const [a, b, elsewhere] = await Promise.all([client(), client(), client()])
  const rooms = await Promise.all([a.join("room:lobby"), b.join("room:lobby", { name: "b" })])
  const other = await elsewhere.join("room:other")
  const strays = other.on("msg")
  const boxes = rooms.map(room => room.on("msg"))
  rooms[0].cast("msg", { body: "Grüße, 世界 🎉", n: 1.5, list: [1, null, { deep: true }] })
  for (const box of boxes) {
    assert.deepEqual(await box.take(), { body: "Grüße, 世界 🎉", n: 1.5, list: [1, null, { deep: true }] })
  }
  // When a later message comes on the same connection, this shows that none came before it.
  other.cast("msg", { last: true })
  assert.deepEqual(await strays.take(), { last: true })
})

test("order is kept", { timeout: HANG }, async () => {
  const [a, b] = await Promise.all([client(), client()])
  const [from, to] = await Promise.all([a.join("room:order"), b.join("room:order")])
  const box = to.on("n")
  for (let n = 0; n < 500; n++) from.cast("n", { n })
  for (let n = 0; n < 500; n++) assert.deepEqual(await box.take(), { n })
})

test("an event ending _ack is broadcast without the suffix and replied", { timeout: HANG }, async () => {
  const [a, b] = await Promise.all([client(), client()])
  const [from, to] = await Promise.all([a.join("room:ack"), b.join("room:ack")])
  const [own, others] = [from.on("msg"), to.on("msg")]
  const answer = await from.push("msg_ack", { n: 1 })
  assert.equal(answer.status, "ok")
  assert.deepEqual(await own.take(), { n: 1 })
  assert.deepEqual(await others.take(), { n: 1 })
})

test("echo is replied with its payload and not broadcast", { timeout: HANG }, async () => {
  const [a, b] = await Promise.all([client(), client()])
  const [from, to] = await Promise.all([a.join("room:echo"), b.join("room:echo")])
  const box = to.on("echo")
  assert.deepEqual(await from.push("echo", { n: [1, 2] }), { status: "ok", response: { n: [1, 2] } })
  const last = to.on("last")
  from.cast("last", {})
  await last.take()
  assert.equal(box.items.length, 0)
})

test("after leave nothing comes any more, and one can join again", { timeout: HANG }, async () => {
  const [a, b] = await Promise.all([client(), client()])
  const [leaver, stayer] = await Promise.all([a.join("room:leave"), b.join("room:leave")])
  const box = leaver.on("msg")
  assert.equal((await leaver.leave()).status, "ok")
  assert.equal(leaver.channel.state, "closed")
  const own = stayer.on("msg")
  stayer.cast("msg", { n: 1 })
  await own.take()
  const again = await a.join("room:leave")
  const fresh = again.on("msg")
  stayer.cast("msg", { n: 2 })
  assert.deepEqual(await fresh.take(), { n: 2 })
  assert.equal(box.items.length, 0)
})

test("heartbeats are answered, also by themselves", { timeout: HANG }, async () => {
  const one = await client({ heartbeatIntervalMs: 50 })
  assert.ok((await one.ping()) >= 0)
  const room = await one.join("room:heartbeat")
  // phoenix.js closes when a heartbeat is not answered before the next is due.
  const replies = new Mailbox("a heartbeat reply")
  one.socket.onMessage(message => message.topic === "phoenix" && replies.put(message))
  for (let n = 0; n < 5; n++) await replies.take()
  assert.equal((await room.push("echo", {})).status, "ok")
  assert.equal(one.events.items.filter(event => event.kind === "close").length, 0)
})

test("an unknown topic is refused with a reason", { timeout: HANG }, async () => {
  const one = await client()
  const answer = await one.tryJoin("nowhere:1")
  assert.deepEqual(answer, { status: "error", response: { reason: "unmatched topic" } })
})

test("binary payloads pass as they are", { timeout: HANG }, async () => {
  const [a, b] = await Promise.all([client(), client()])
  const [from, to] = await Promise.all([a.join("room:binary"), b.join("room:binary")])
  const box = to.on("blob")
  const bytes = Uint8Array.from({ length: 300 }, (_, n) => n % 256)
  from.cast("blob", bytes.buffer)
  assert.deepEqual(new Uint8Array(await box.take()), bytes)
})

/** A connection without phoenix.js, to see single frames. */
async function raw(options = {}, query = "?vsn=2.0.0") {
  const socket = new WebSocket(`${node.socket}/websocket${query}`, options)
  const frames = new Mailbox("a frame")
  socket.on("message", data => frames.put(JSON.parse(data)))
  const status = await guarded(
    "the upgrade",
    new Promise(resolve => {
      socket.on("open", () => resolve(101))
      socket.on("unexpected-response", (_, response) => resolve(response.statusCode))
      socket.on("error", () => {})
    }),
  )
  return { socket, frames, status, send: frame => socket.send(JSON.stringify(frame)) }
}

test("a second join of the same topic replaces the first", { timeout: HANG }, async () => {
  const one = await raw()
  one.send(["1", "1", "room:twice", "phx_join", {}])
  assert.deepEqual(await one.frames.take(), ["1", "1", "room:twice", "phx_reply", { status: "ok", response: {} }])
  one.send(["2", "2", "room:twice", "phx_join", {}])
  assert.deepEqual(await one.frames.take(), ["2", "2", "room:twice", "phx_reply", { status: "ok", response: {} }])
  assert.deepEqual((await one.frames.take()).slice(0, 4), ["1", "1", "room:twice", "phx_close"])
  // The old join_ref is stale now, so the node drops the message without a reply.
  one.send(["1", "3", "room:twice", "echo", { stale: true }])
  one.send(["2", "4", "room:twice", "echo", { stale: false }])
  const reply = await one.frames.take()
  assert.deepEqual(reply, ["2", "4", "room:twice", "phx_reply", { status: "ok", response: { stale: false } }])
  one.socket.terminate()
})

test("a push to a topic that is not joined is refused", { timeout: HANG }, async () => {
  const one = await raw()
  one.send(["1", "7", "room:not-joined", "msg", {}])
  const refused = { status: "error", response: { reason: "unmatched topic" } }
  assert.deepEqual(await one.frames.take(), [null, "7", "room:not-joined", "phx_reply", refused])
  one.socket.terminate()
})

test("the first version of the serializer is spoken when asked for", { timeout: HANG }, async () => {
  const one = await raw({}, "")
  assert.equal(one.status, 101)
  one.send({ topic: "room:v1", event: "phx_join", payload: {}, ref: "1" })
  const reply = { topic: "room:v1", event: "phx_reply", payload: { status: "ok", response: {} }, ref: "1" }
  assert.deepEqual(await one.frames.take(), reply)
  one.socket.terminate()
})

test("origins and versions that do not fit are refused before the upgrade", { timeout: HANG }, async () => {
  assert.equal((await raw({ origin: "http://elsewhere.example" })).status, 403)
  assert.equal((await raw({ headers: { Origin: "" } })).status, 403)
  assert.equal((await raw({}, "?vsn=7.0.0")).status, 403)
  const same = await raw({ origin: `http://127.0.0.1:${node.port}` })
  assert.equal(same.status, 101)
  same.socket.terminate()
})

test("a client is told what it said about itself, with the token that stands in no URL", { timeout: HANG }, async () => {
  const one = await client({ params: { user_id: "ann & bob" }, authToken: "t/o?k+e=n~" })
  const room = await one.join("room:whoami")
  const response = { user_id: "ann & bob", auth_token: "t/o?k+e=n~" }
  assert.deepEqual(await room.push("whoami", {}), { status: "ok", response })
  assert.ok(!one.socket.endPointURL().includes("n~"))
})

test("the server pushes, and ends a channel for good", { timeout: HANG }, async () => {
  const one = await client()
  const room = await one.join("room:server")
  const box = room.on("pushed")
  room.cast("push_me", { n: 1 })
  assert.deepEqual(await box.take(), { n: 1 })
  room.cast("push_me", Uint8Array.of(1, 2, 3).buffer)
  assert.deepEqual(new Uint8Array(await box.take()), Uint8Array.of(1, 2, 3))
  assert.deepEqual(await room.push("echo_error", { why: "x" }), { status: "error", response: { why: "x" } })
  room.cast("stop", {})
  assert.equal(await room.ended.take(), "closed")
  assert.equal(room.channel.state, "closed")
})

test("a channel that crashed is joined again by the client itself", { timeout: HANG }, async () => {
  const one = await client({ rejoinAfterMs: () => 10 })
  const room = await one.join("room:crash")
  room.cast("phx_reply", {})
  assert.deepEqual(await room.ended.take(), { reason: "channel_crash" })
  await room.joins.take()
  assert.deepEqual(await room.push("echo", { n: 1 }), { status: "ok", response: { n: 1 } })
})

test("a malformed message closes with 1011, and the client comes back", { timeout: HANG }, async () => {
  const one = await client()
  one.socket.conn.send("nonsense")
  assert.equal(await one.closed(), 1011)
  await one.opened()
})

test("who asks to be refused is", { timeout: HANG }, async () => {
  assert.equal((await raw({}, "?vsn=2.0.0&refuse=1")).status, 403)
  const one = await client()
  assert.deepEqual(await one.tryJoin("room:denied"), { status: "error", response: { reason: "unauthorized" } })
})
