// Stock phoenix.js of three versions plays the scenarios of ../../clients/clients.json, in Node.js and in Chromium, over WebSocket
// and over long-poll.

import { after, before, describe, it } from "node:test"
import { fileURLToPath } from "node:url"
import { launch, playerPage } from "../lib/browser.mjs"
import { Run, Stage, clients } from "../lib/stage.mjs"
import { HANG } from "../lib/wait.mjs"

const DRIVER = fileURLToPath(new URL("../driver.mjs", import.meta.url))
/** Alias of each version in package.json, and how it says its token. */
const VERSIONS = {
  "phoenix 1.7.23": ["phoenix-1.7", "params"],
  "phoenix 1.8.0": ["phoenix-1.8.0", "text"],
  "phoenix 1.8.16": ["phoenix", "function"],
}

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

async function inNode(run, name, polls, tokenIn) {
  run.drive(process.execPath, [DRIVER, name, polls ? "long-poll" : "WebSocket", tokenIn])
}

async function inChromium(run, name, polls, tokenIn) {
  const page = await playerPage(browser.context, name, {
    ask: async what => (await run.ask(what)) ?? null,
    report: message => run.report(message),
  })
  // The page is played in while the tests of its scenarios wait.
  page
    .evaluate(setup => window.played(setup), { ...run.told, polls, tokenIn })
    .then(() => run.end("the page ended"), error => run.end(error.message))
    .finally(() => page.close())
}

describe("stock phoenix.js", { concurrency: 6 }, () => {
  for (const [client, [name, tokenIn]] of Object.entries(VERSIONS)) {
    for (const [where, cannot] of Object.entries(clients[client].runs)) {
      it(`${client} in ${where}`, { timeout: 2 * HANG }, async t => {
        const [place, transport] = where.split(", ")
        const run = await Run.on(stage, `${client} ${where}`, cannot)
        const start = place === "Chromium" ? inChromium : inNode
        await start(run, name, transport === "long-poll", tokenIn)
        await run.judge(t)
      })
    }
  }
})
