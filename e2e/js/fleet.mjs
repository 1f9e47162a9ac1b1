// Stock phoenix.js clients that stay: `fleet.mjs WS_URL COUNT [ROOM_SIZE] [SOURCE_ADDRESS,...]`, where the URL is
// the socket mount (ws://ADDRESS:4000/socket, or wss:// with a certificate for localhost). Prints a JSON line for each event:
//   {"at": milliseconds, "event": "ready", "clients": COUNT}          all are in their room for the first time
//   {"at", "client", "event": "node", "node"}                         the node of its first connection
//   {"at", "client", "event": "join", "topic", "after"}               joined; "after" only when it came back:
//                                                                     milliseconds since its connection ended
//   {"at", "client", "event": "close", "code"}                        its connection ended
//   {"at", "client", "event": "error"}                                an attempt to connect failed
//   {"at", "client", "event": "away", ...}                            with SIGUSR2 and with each summary, for each
//                                                                     client that is not in its room (see away)
//   {"at", "event": "summary", ...}                                   answer to SIGUSR1, and last of all
// "at" is wall-clock time, so that it can be compared with events elsewhere. Each client also checks that it hears itself
// after a rejoin. Ends with SIGTERM or SIGINT: exit code 0 when all are in their room, else 1.

import { Socket } from "phoenix"
import { WebSocket } from "ws"

const [url, countText, sizeText = "50", sources = ""] = process.argv.slice(2)
const count = Number(countText)
if (!url || !(count > 0)) {
  console.error("usage: fleet.mjs WS_URL COUNT [ROOM_SIZE] [SOURCE_ADDRESS,...]")
  process.exit(2)
}
const addresses = sources.split(",").filter(address => address)
const rooms = Math.max(1, Math.ceil(count / Number(sizeText)))
/** New connections are begun this far apart, milliseconds. */
const PACE = 2

const state = { ends: new Map(), joined: new Set(), heard: new Set(), reconnects: [], closes: {}, errors: 0, ready: false }

function log(line) {
  process.stdout.write(JSON.stringify({ at: Date.now(), ...line }) + "\n")
}

/** The stock transport, from a source address of the client's own where addresses are given. */
function transport(client) {
  if (addresses.length === 0) return WebSocket
  const localAddress = addresses[client % addresses.length]
  return class extends WebSocket {
    constructor(address, protocols) {
      super(address, protocols, { localAddress, servername: "localhost" })
    }
  }
}

/** What keeps a client away: its transport's state, the port that it connects from, and the channel's state. */
function away({ client, socket, channel }) {
  const conn = socket.conn
  const tcp = conn?._socket ?? conn?._req?.socket
  log({
    client,
    event: "away",
    transport: conn ? ["connecting", "open", "closing", "closed"][conn.readyState] : "none",
    tcp: tcp && { connecting: tcp.connecting, port: tcp.localPort, read: tcp.bytesRead, written: tcp.bytesWritten },
    opened: socket.connectClock,
    channel: channel.state,
  })
}

function start(client) {
  const topic = `room:fleet-${client % rooms}`
  const socket = new Socket(url, { transport: transport(client) })
  let closedAt = null
  socket.onError(() => {
    state.errors += 1
    log({ client, event: "error" })
  })
  socket.onClose(({ code }) => {
    // phoenix.js reports a failed attempt to connect as a close, too; only the close of a joined client is an end.
    if (state.joined.delete(client)) {
      closedAt = performance.now()
      state.heard.delete(client)
      state.closes[code] = (state.closes[code] ?? 0) + 1
      state.ends.set(client, (state.ends.get(client) ?? 0) + 1)
      log({ client, event: "close", code })
    }
  })
  // A client joins this topic before the room and then leaves it for good: only here the node tells its name.
  const cluster = socket.channel("$cluster", {})
  cluster.join().receive("ok", ({ node }) => {
    log({ client, event: "node", node })
    cluster.leave()
  })
  const channel = socket.channel(topic, {})
  channel.on("hear", ({ client: from }) => {
    if (from === client) state.heard.add(client)
  })
  channel
    .join()
    .receive("ok", () => {
      const after = closedAt === null ? undefined : performance.now() - closedAt
      if (after !== undefined) state.reconnects.push(after)
      state.joined.add(client)
      log({ client, event: "join", topic, after })
      channel.push("hear", { client })
      if (!state.ready && state.joined.size === count) {
        state.ready = true
        log({ event: "ready", clients: count })
      }
    })
    .receive("error", reason => log({ client, event: "refused", reason }))
  socket.connect()
  return { client, socket, channel }
}

/** Tells of each client that is not in its room. */
function tellAway() {
  for (const each of clients) {
    if (!state.joined.has(each.client)) away(each)
  }
}

function summary() {
  tellAway()
  const sorted = [...state.reconnects].sort((a, b) => a - b)
  const at = quantile => sorted[Math.min(sorted.length - 1, Math.floor(quantile * sorted.length))] ?? null
  log({
    event: "summary",
    clients: count,
    joined: state.joined.size,
    heard: state.heard.size,
    reconnects: sorted.length,
    closes: state.closes,
    most: Math.max(0, ...state.ends.values()),
    errors: state.errors,
    p50: at(0.5),
    p99: at(0.99),
    max: sorted.at(-1) ?? null,
  })
}

const clients = []
for (let client = 0; client < count; client++) {
  clients.push(start(client))
  await new Promise(resolve => setTimeout(resolve, PACE))
}

process.on("SIGUSR1", summary)
process.on("SIGUSR2", tellAway)
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, () => {
    summary()
    process.exit(state.joined.size === count ? 0 : 1)
  })
}
