// Stock phoenix.js of three versions as players of the scenarios of ../../clients/clients.json.

import { fileURLToPath } from "node:url"
import { playerPage } from "./browser.mjs"

const DRIVER = fileURLToPath(new URL("../driver.mjs", import.meta.url))

/** Alias of each version in package.json, and how it says its token. */
export const VERSIONS = {
  "phoenix 1.7.23": ["phoenix-1.7", "params"],
  "phoenix 1.8.0": ["phoenix-1.8.0", "text"],
  "phoenix 1.8.16": ["phoenix", "function"],
}

function inNode(run, name, polls, tokenIn) {
  run.drive(process.execPath, [DRIVER, name, polls ? "long-poll" : "WebSocket", tokenIn])
}

async function inChromium(browser, run, name, polls, tokenIn) {
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

/** Begins a run of a version; `where` says the place and the transport, as in clients.json. */
export async function begin(browser, run, client, where) {
  const [name, tokenIn] = VERSIONS[client]
  const [place, transport] = where.split(", ")
  const polls = transport === "long-poll"
  if (place === "Chromium") await inChromium(browser, run, name, polls, tokenIn)
  else inNode(run, name, polls, tokenIn)
}
