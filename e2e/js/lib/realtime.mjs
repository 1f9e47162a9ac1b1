// The stock realtime-js client with promises around it. Nothing of the client itself is changed.

import { RealtimeClient } from "@supabase/realtime-js"
import { WebSocket } from "ws"
import { Mailbox, guarded } from "./wait.mjs"

export class Realtime {
  /** A client of `url` (the mount, without `/websocket`) that speaks `vsn`. */
  constructor(url, vsn, options = {}) {
    this.client = new RealtimeClient(url, { transport: WebSocket, params: { apikey: "anybody" }, vsn, ...options })
  }

  /** Subscribes to a topic, which gets `realtime:` in front; waits until that is done unless `waits` is false. */
  async subscribe(topic, config = {}, { prepare = () => {}, waits = true } = {}) {
    const one = new Subscription(this.client.channel(topic, { config }))
    prepare(one.channel)
    one.channel.subscribe((status, error) => one.statuses.put(error ? `${status}: ${error.message}` : status))
    if (waits) await one.statuses.takeIf(status => status === "SUBSCRIBED")
    return one
  }

  disconnect() {
    return guarded("the end of a connection", this.client.disconnect())
  }
}

export class Subscription {
  constructor(channel) {
    this.channel = channel
    this.statuses = new Mailbox(`a status of ${channel.topic}`)
  }

  /** A mailbox of the broadcasts of an event, or of all. */
  on(event) {
    const mailbox = new Mailbox(`${event} on ${this.channel.topic}`)
    this.channel.on("broadcast", { event }, payload => mailbox.put(payload))
    return mailbox
  }

  /** Broadcasts an event. Resolves with the answer where the subscription asked for answers, otherwise at once. */
  send(event, payload) {
    return guarded(`the answer to ${event}`, this.channel.send({ type: "broadcast", event, payload }))
  }
}
