// The stock phoenix.js client of the newest version that is tested, over `ws` unless told otherwise.

import { Socket } from "phoenix"
import { WebSocket } from "ws"
import { Client as AnyVersion } from "./client.mjs"

export class Client extends AnyVersion {
  constructor(url, options = {}) {
    super(Socket, url, { transport: WebSocket, ...options })
  }
}
