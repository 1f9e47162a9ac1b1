// A stock phoenix.js client of any version with promises around it. Nothing of the client itself is changed. This file
// runs in browsers too.

import { Mailbox, guarded } from "./wait.mjs"

/** The answer to a join or push. */
function outcome(what, push) {
  return guarded(
    what,
    new Promise(resolve => {
      for (const status of ["ok", "error", "timeout"]) {
        push.receive(status, response => resolve({ status, response }))
      }
    }),
  )
}

export class Client {
  /** A socket of the class `Socket` of some phoenix.js to `url` (the mount, without `/websocket`). */
  constructor(Socket, url, options = {}) {
    this.events = new Mailbox("a socket event")
    this.socket = new Socket(url, options)
    this.socket.onOpen(() => this.events.put({ kind: "open" }))
    this.socket.onClose(event => this.events.put({ kind: "close", code: event.code }))
    // phoenix.js reports each failed attempt here; without a listener it is only logged.
    this.socket.onError(() => this.events.put({ kind: "error" }))
  }

  async connect() {
    this.socket.connect()
    await this.events.takeIf(event => event.kind === "open")
    return this
  }

  /** The code of the next close. */
  async closed() {
    return (await this.events.takeIf(event => event.kind === "close")).code
  }

  async opened() {
    await this.events.takeIf(event => event.kind === "open")
  }

  /** Joins a topic; throws unless the reply is ok. */
  async join(topic, params = {}) {
    const room = new Room(this.socket.channel(topic, params))
    const answer = await outcome(`the join of ${topic}`, room.channel.join())
    if (answer.status !== "ok") throw new Error(`join of ${topic}: ${JSON.stringify(answer)}`)
    room.response = await room.joins.take()
    return room
  }

  /** Joins a topic and returns the answer, whatever it is. */
  tryJoin(topic, params = {}) {
    return outcome(`the join of ${topic}`, this.socket.channel(topic, params).join())
  }

  /** Milliseconds of a heartbeat's round trip. */
  ping() {
    return guarded("a heartbeat reply", new Promise(resolve => this.socket.ping(resolve)))
  }

  disconnect() {
    return new Promise(resolve => this.socket.disconnect(resolve))
  }
}

export class Room {
  constructor(channel) {
    this.channel = channel
    this.joins = new Mailbox(`a join reply of ${channel.topic}`)
    this.ended = new Mailbox(`the end of ${channel.topic}`)
    // phoenix.js calls this for the first join, which `join` takes out, and for each join that it makes by itself.
    channel.joinPush.receive("ok", response => this.joins.put(response))
    channel.onClose(() => this.ended.put("closed"))
    channel.onError(reason => this.ended.put(reason))
  }

  /** A mailbox of the payloads of an event. */
  on(event) {
    const mailbox = new Mailbox(`${event} on ${this.channel.topic}`)
    this.channel.on(event, payload => mailbox.put(payload))
    return mailbox
  }

  /** Pushes an event and returns its answer; the status is `timeout` when none comes within `limit` milliseconds. */
  push(event, payload, limit) {
    return outcome(`the reply to ${event}`, this.channel.push(event, payload, limit))
  }

  /** Pushes an event that gets no answer. */
  cast(event, payload) {
    // phoenix.js would wait for a reply all the same, and keep the process alive meanwhile.
    this.channel.push(event, payload).cancelTimeout()
  }

  leave() {
    return outcome(`the leave of ${this.channel.topic}`, this.channel.leave())
  }
}
