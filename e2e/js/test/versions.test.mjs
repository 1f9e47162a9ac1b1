// Stock phoenix.js of three versions plays the scenarios of ../../clients/clients.json, in Node.js and in Chromium, over WebSocket
// and over long-poll.

import { after, before, describe, it } from "node:test"
import { launch } from "../lib/browser.mjs"
import { VERSIONS, begin } from "../lib/players.mjs"
import { Run, Stage, clients } from "../lib/stage.mjs"
import { HANG } from "../lib/wait.mjs"

let stage
let browser

before(async () => {
  stage = await Stage.start()
  browser = await launch()
})

after(async () => {
  await browser?.close()
  await stage?.end()
})

describe("stock phoenix.js", { concurrency: 6 }, () => {
  for (const client of Object.keys(VERSIONS)) {
    for (const [where, cannot] of Object.entries(clients[client].runs)) {
      it(`${client} in ${where}`, { timeout: 2 * HANG }, async t => {
        const run = await Run.on(stage, `${client} ${where}`, cannot)
        await begin(browser, run, client, where)
        await run.judge(t)
      })
    }
  }
})
