// Plays the scenarios with a stock phoenix.js in Node.js: `driver.mjs PACKAGE TRANSPORT TOKEN_IN`, where PACKAGE is an alias of
// package.json, TRANSPORT is `WebSocket` or `long-poll`, and TOKEN_IN is that of `play`.

import { createInterface } from "node:readline"
import { WebSocket } from "ws"
import XMLHttpRequest from "xhr2"
import { play } from "./lib/scenarios.mjs"
import { Mailbox } from "./lib/wait.mjs"

const [name, transport, tokenIn] = process.argv.slice(2)
const polls = transport === "long-poll"
// phoenix.js 1.7 knows only the way of browsers to send a request; later versions use fetch, which Node.js has.
if (polls && tokenIn === "params") Object.assign(globalThis, { self: globalThis, XMLHttpRequest })
const { Socket, LongPoll } = await import(name)

const answers = new Mailbox("an answer of the stage")
createInterface({ input: process.stdin }).on("line", line => answers.put(JSON.parse(line)))
const say = message => process.stdout.write(`${JSON.stringify(message)}\n`)

await play({
  ...JSON.parse(process.env.STAGE),
  Socket,
  transport: polls ? LongPoll : WebSocket,
  polls,
  tokenIn,
  ask: what => {
    say({ ask: what })
    return answers.take()
  },
  report: say,
})
process.exit(0)
