// The scenarios of ../../clients/clients.json as a program for stock phoenix.js, in Node.js and in browsers.

import { Client } from "./client.mjs"
import { HANG } from "./wait.mjs"

/** Bytes that are neither text nor base64 by accident. */
const BYTES = Uint8Array.from({ length: 300 }, (_, n) => n % 256)
const PAYLOAD = "0123456789abcdef".repeat(256 * 64)
const ORDER = 20

function equal(got, wanted) {
  const [a, b] = [got, wanted].map(value => JSON.stringify(value))
  if (a !== b) throw new Error(`got ${a?.slice(0, 200)} instead of ${b?.slice(0, 200)}`)
}

const bytes = buffer => Array.from(new Uint8Array(buffer))
const ok = response => ({ status: "ok", response })
const error = response => ({ status: "error", response })

/** One client's part in a run; see `run` for its fields. */
class Player {
  constructor(setup) {
    Object.assign(this, setup)
    this.clients = []
  }

  topic(name) {
    return `room:${this.run}-${name}`
  }

  /** A connected client of the node at `url`. */
  async client(url = this.urls.node, options = {}) {
    const one = new Client(this.Socket, url, { transport: this.transport, ...options })
    this.clients.push(one)
    return one.connect()
  }

  /** The options by which this version of phoenix.js says the token that `current` returns, also when it reconnects. */
  token(current) {
    if (this.tokenIn === "params") return { params: () => ({ token: current() }) }
    return { authToken: this.tokenIn === "function" ? current : current() }
  }

  async end() {
    const clients = this.clients.splice(0)
    for (const one of clients) one.socket.disconnect()
  }
}

/** Takes part in a room through the relay, for scenarios that break its connection. */
async function behindRelay(player, name, options) {
  const one = await player.client(player.urls.relay, options)
  const room = await one.join(player.topic(name))
  return { one, room }
}

/**
 * The answer to an echo. Over long-poll a push may be lost with its connection, and nothing tells when to say it again: browsers
 * repeat a lost poll by themselves, and the session goes on.
 */
async function answered(player, room, payload) {
  const until = Date.now() + HANG
  for (;;) {
    const answer = await room.push("echo", payload, player.polls ? 200 : undefined)
    if (answer.status !== "timeout" || Date.now() > until) return answer
  }
}

const SCENARIOS = {
  async "join granted"(player) {
    const one = await player.client()
    const room = await one.join(player.topic("granted"), { name: "ann" })
    equal(room.response, {})
  },

  async "join refused"(player) {
    const one = await player.client()
    equal(await one.tryJoin("room:denied"), error({ reason: "unauthorized" }))
    equal(await one.tryJoin("nowhere:1"), error({ reason: "unmatched topic" }))
  },

  async "push with reply"(player) {
    const room = await (await player.client()).join(player.topic("reply"))
    const payload = { text: "Grüße, 世界 🎉", list: [1.5, null, { deep: true }] }
    equal(await room.push("echo", payload), ok(payload))
    equal(await room.push("echo_error", { why: "x" }), error({ why: "x" }))
  },

  async broadcast(player) {
    const [a, b] = await Promise.all([player.client(), player.client()])
    const rooms = await Promise.all([a, b].map(one => one.join(player.topic("broadcast"))))
    const strays = (await b.join(player.topic("elsewhere"))).on("n")
    const boxes = rooms.map(room => room.on("n"))
    for (let n = 0; n < ORDER; n++) rooms[0].cast("n", { n })
    for (const box of boxes) {
      for (let n = 0; n < ORDER; n++) equal(await box.take(), { n })
      equal(box.items, [])
    }
    equal(strays.items, [])
  },

  async "binary to the node"(player) {
    const room = await (await player.client()).join(player.topic("binary-up"))
    equal((await room.push("whoami", BYTES.buffer)).status, "ok")
  },

  async "binary both ways"(player) {
    const [a, b] = await Promise.all([player.client(), player.client()])
    const rooms = await Promise.all([a, b].map(one => one.join(player.topic("binary"))))
    const boxes = rooms.map(room => room.on("blob"))
    const pushed = rooms[0].on("pushed")
    const { status, response } = await rooms[0].push("echo", BYTES.buffer)
    equal([status, bytes(response)], ["ok", bytes(BYTES)])
    rooms[0].cast("blob", BYTES.buffer)
    for (const box of boxes) equal(bytes(await box.take()), bytes(BYTES))
    rooms[0].cast("push_me", BYTES.buffer)
    equal(bytes(await pushed.take()), bytes(BYTES))
  },

  async "forty topics"(player) {
    const one = await player.client()
    const rooms = await Promise.all(Array.from({ length: 40 }, (_, n) => one.join(player.topic(`forty-${n}`))))
    const boxes = rooms.map(room => room.on("n"))
    for (const [n, room] of rooms.entries()) room.cast("n", { n })
    const answers = await Promise.all(rooms.map((room, n) => room.push("echo", { n })))
    equal(answers, rooms.map((_, n) => ok({ n })))
    for (const [n, box] of boxes.entries()) {
      equal(await box.take(), { n })
      equal(box.items, [])
    }
  },

  async "duplicate join"(player) {
    const one = await player.client()
    const first = await one.join(player.topic("twice"))
    const before = first.on("n")
    const second = await one.join(player.topic("twice"))
    await first.ended.take()
    const box = second.on("n")
    second.cast("n", { n: 1 })
    equal(await second.push("echo", { n: 2 }), ok({ n: 2 }))
    equal(await box.take(), { n: 1 })
    equal([box.items, before.items], [[], []])
  },

  async leave(player) {
    const [a, b] = await Promise.all([player.client(), player.client()])
    const [leaver, stayer] = await Promise.all([a, b].map(one => one.join(player.topic("leave"))))
    const [old, own] = [leaver.on("n"), stayer.on("n")]
    equal((await leaver.leave()).status, "ok")
    equal(leaver.channel.state, "closed")
    stayer.cast("n", { n: 1 })
    await own.take()
    const again = (await a.join(player.topic("leave"))).on("n")
    stayer.cast("n", { n: 2 })
    equal(await again.take(), { n: 2 })
    equal(old.items, [])
  },

  async "thirty reconnects"(player) {
    const { room } = await behindRelay(player, "thirty")
    for (let n = 0; n < 30; n++) {
      await player.ask("cut")
      if (!player.polls) await room.joins.take()
      equal(await answered(player, room, { n }), ok({ n }))
    }
  },

  async "network drop"(player) {
    const { one, room } = await behindRelay(player, "drop")
    const other = await (await player.client()).join(player.topic("drop"))
    const [box, own] = [room.on("n"), other.on("n")]
    await player.ask("down")
    await one.closed()
    other.cast("n", { n: "lost" })
    await own.take()
    await player.ask("up")
    await room.joins.take()
    other.cast("n", { n: "heard" })
    equal(await box.take(), { n: "heard" })
  },

  async "silent network"(player) {
    const { room } = await behindRelay(player, "silence", { heartbeatIntervalMs: 200 })
    await player.ask("silence")
    await room.joins.take()
    equal(await room.push("echo", {}), ok({}))
  },

  async "token refresh"(player) {
    const { short, long } = await player.ask("tokens")
    const one = await player.client(player.urls.tokens, player.token(() => short))
    const room = await one.join(player.topic("token"))
    room.cast("access_token", { access_token: long })
    await player.ask("expired")
    equal((await room.push("send", {})).status, "ok")
    equal(one.events.items.filter(({ kind }) => kind === "close"), [])
  },

  async "token at a reconnect"(player) {
    const { short, long } = await player.ask("tokens")
    let current = short
    const one = await player.client(player.urls.tokens, player.token(() => current))
    const room = await one.join(player.topic("renewed"))
    current = long
    if (player.tokenIn === "text") one.socket.authToken = long
    await room.joins.take()
    equal((await room.push("send", {})).status, "ok")
  },

  async "256 KB payload"(player) {
    const [a, b] = await Promise.all([player.client(player.urls.tokens), player.client(player.urls.tokens)])
    const [from, to] = await Promise.all([a, b].map(one => one.join(player.topic("large"))))
    const box = to.on("large")
    equal(await from.push("echo", { text: PAYLOAD }), ok({ text: PAYLOAD }))
    from.cast("large", { text: PAYLOAD })
    equal(await box.take(), { text: PAYLOAD })
  },
}

/**
 * Plays the named scenarios one after the other.
 *
 * `setup` has the class `Socket`, the `transport` class (or undefined for the client's own choice) and whether it `polls`,
 * `tokenIn` (how this version says its token: `params`, `text` or `function`), `urls` of the nodes, the name of the `run` (rooms are called
 * by it), the `scenarios`, the function `ask` that has the stage do something, and `report`, which gets each result.
 */
export async function play(setup) {
  for (const scenario of setup.scenarios) {
    const player = new Player(setup)
    let why = null
    try {
      await SCENARIOS[scenario](player)
    } catch (failure) {
      why = String(failure?.stack ?? failure)
    }
    await player.end()
    await setup.report({ scenario, why })
  }
}
