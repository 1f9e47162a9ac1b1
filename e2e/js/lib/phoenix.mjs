// The stock phoenix.js client of the newest version that is tested, over `ws` unless told otherwise.

import { Socket } from "phoenix"
import { WebSocket } from "ws"
import { Client as AnyVersion } from "./client.mjs"

export class Client extends AnyVersion {
  constructor(url, options = {}) {
    super(Socket, url, { transport: WebSocket, ...options })
  }
}

/** A transport in a network that lets no WebSocket through: nothing ever answers. */
export class Silent {
  constructor() {
    this.readyState = 0
    this.bufferedAmount = 0
  }
  close() {
    this.readyState = 3
  }
  send() {}
}
