// Two stock phoenix.js clients at two addresses chat in one room: `chat-pair.mjs WS_URL WS_URL [TOPIC]`, where
// a URL is the socket mount (ws://ADDRESS:4000/socket). Prints one JSON line and exits 0 when each got all
// messages of both, in each sender's order.

import { Client } from "./lib/phoenix.mjs"

const [first, second, topic = "room:pair"] = process.argv.slice(2)
if (!second) {
  console.error("usage: chat-pair.mjs WS_URL WS_URL [TOPIC]")
  process.exit(2)
}
const COUNT = 20

const clients = await Promise.all([first, second].map(url => new Client(url).connect()))
const rooms = await Promise.all(clients.map(client => client.join(topic)))
const boxes = rooms.map(room => room.on("pair"))

// A subscription between nodes may take a moment after the join: both ends are there once each hears the other.
const hellos = rooms.map(room => room.on("hello"))
for (const [n, room] of rooms.entries()) {
  const timer = setInterval(() => room.cast("hello", { from: n }), 50)
  await hellos[1 - n].takeIf(({ from }) => from === n)
  clearInterval(timer)
}

const started = performance.now()
for (const [n, room] of rooms.entries()) {
  for (let number = 0; number < COUNT; number++) room.cast("pair", { from: n, number })
}
for (const box of boxes) {
  const next = [0, 0]
  while (next[0] < COUNT || next[1] < COUNT) {
    const { from, number } = await box.take()
    if (number !== next[from]) throw new Error(`message ${number} of client ${from} came instead of ${next[from]}`)
    next[from] += 1
  }
}
console.log(JSON.stringify({ messages: 2 * COUNT, milliseconds: performance.now() - started }))
for (const client of clients) client.socket.disconnect()
process.exit(0)
