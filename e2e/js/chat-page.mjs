// The chat page of one node in real Chromium talks to a stock phoenix.js client on another:
// `chat-page.mjs PAGE_URL WS_URL TOPIC NODES`, where PAGE_URL is a node's http address, WS_URL the socket mount of
// the other (ws://ADDRESS:4000/socket), and NODES how many nodes the page must show in the end. Prints one JSON line
// and exits 0 when each client heard the other and the page shows the figures.

import { launch, screenshot } from "./lib/browser.mjs"
import { Client } from "./lib/phoenix.mjs"
import { HANG } from "./lib/wait.mjs"

const [pageUrl, socketUrl, topic, nodes] = process.argv.slice(2)
if (!nodes) {
  console.error("usage: chat-page.mjs PAGE_URL WS_URL TOPIC NODES")
  process.exit(2)
}

const browser = await launch()
try {
  const stock = await new Client(socketUrl).connect()
  const room = await stock.join(topic)
  const box = room.on("message")
  const page = await browser.context.newPage()
  page.setDefaultTimeout(HANG)
  await page.goto(`${pageUrl}#${encodeURIComponent(topic)}`)
  await page.waitForFunction(() => window.channelCluster?.joined)

  // A subscription between nodes may take a moment after the join, so the first words are repeated.
  const calling = setInterval(() => room.cast("message", { user: "stock", text: "is anybody there?" }), 200)
  await page.getByRole("log").getByText("is anybody there?", { exact: true }).first().waitFor()
  clearInterval(calling)
  await page.getByLabel("Message", { exact: true }).fill("yes, I am")
  await page.getByRole("button", { name: "Send" }).click()
  await box.takeIf(({ text }) => text === "yes, I am")

  await page.waitForFunction(count => window.channelCluster.figures?.nodes === count, Number(nodes))
  await screenshot(page, "chat-page-cluster.png")
  const { node, figures } = await page.evaluate(() => {
    const { node, figures } = window.channelCluster
    return { node, figures }
  })
  console.log(JSON.stringify({ node, nodes: figures.nodes, list: figures.list.map(one => one.node) }))
} finally {
  await browser.close()
}
process.exit(0)
