// The node's own chat page in real Chromium.

import assert from "node:assert/strict"
import { once } from "node:events"
import { createServer } from "node:http"
import { after, before, test } from "node:test"
import { launch, screenshot } from "../lib/browser.mjs"
import { ChannelNode } from "../lib/node.mjs"
import { Client } from "../lib/phoenix.mjs"
import { HANG } from "../lib/wait.mjs"

let node
let browser
/** The addresses of all WebSockets of the page. */
const sockets = []

before(async () => {
  node = await ChannelNode.start(["--node-name", "node-of-the-test"])
  browser = await launch()
})

after(async () => {
  await browser?.close()
  await node?.end("SIGKILL")
})

/** Opens the page in a tab that fails the test on any script error. */
async function open(room, problems) {
  const page = await browser.context.newPage()
  page.setDefaultTimeout(HANG)
  page.on("pageerror", error => problems.push(error.message))
  page.on("websocket", socket => sockets.push(socket.url()))
  page.on("request", request => {
    if (!request.url().startsWith(node.http) && !request.url().startsWith("data:")) problems.push(request.url())
  })
  await page.goto(`${node.http}#${encodeURIComponent(room)}`)
  await page.waitForFunction(() => window.channelCluster?.joined)
  return page
}

async function say(page, text) {
  await page.getByLabel("Message", { exact: true }).fill(text)
  await page.getByRole("button", { name: "Send" }).click()
}

const shown = (page, text) => page.getByRole("log").getByText(text, { exact: true }).waitFor()

test("two tabs chat with each other, and with a stock client", { timeout: HANG }, async () => {
  const problems = []
  const [a, b] = await Promise.all([open("room:page", problems), open("room:page", problems)])
  const stock = await new Client(node.socket).connect()
  const room = await stock.join("room:page")
  const box = room.on("message")
  await a.getByLabel("Your name").fill("Ada")
  await say(a, "hello from <b>a</b>")
  await shown(b, "hello from <b>a</b>")
  await shown(b, "Ada")
  assert.equal((await box.take()).text, "hello from <b>a</b>")
  await say(b, "and back")
  await shown(a, "and back")
  room.cast("message", { user: "stock", text: "from a stock client" })
  for (const page of [a, b]) await shown(page, "from a stock client")
  // Own messages are shown once although the node echoes them.
  assert.equal(await a.getByRole("log").getByText("hello from <b>a</b>").count(), 1)
  stock.socket.disconnect()
  assert.deepEqual(problems, [])
  await Promise.all([a.close(), b.close()])
})

test("what a client knows is in no address", { timeout: HANG }, async () => {
  const problems = []
  const page = await open("room:address", problems)
  assert.ok(sockets.length > 0)
  for (const url of sockets) assert.deepEqual([...new URL(url).searchParams.keys()], ["vsn"], url)
  assert.deepEqual(problems, [])
  await page.close()
})

test("the page stands in no frame, and runs nothing that was put into it", { timeout: HANG }, async () => {
  const server = createServer((_, response) => {
    response.setHeader("content-type", "text/html").end(`<!doctype html><iframe src="${node.http}"></iframe>`)
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const around = await browser.context.newPage()
  await around.goto(`http://127.0.0.1:${server.address().port}/`)
  const [, inner] = around.frames()
  assert.match(inner.url(), /^chrome-error:/)
  await around.close()
  server.close()
  const page = await open("room:put-in", [])
  const refused = await page.evaluate(
    () =>
      new Promise(resolve => {
        document.addEventListener("securitypolicyviolation", event => resolve(event.effectiveDirective))
        const image = document.createElement("img")
        try {
          image.setAttribute("onerror", "window.ran = true")
        } catch {
          // Newer browsers refuse the attribute, and older ones its handler.
        }
        image.src = "data:,"
        document.body.append(image)
      }),
  )
  assert.ok(["script-src-attr", "require-trusted-types-for"].includes(refused), refused)
  assert.equal(await page.evaluate(() => window.ran), undefined)
  await page.close()
})

test("the page shows its node and live figures of the fleet", { timeout: HANG }, async () => {
  const problems = []
  const page = await open("room:figures", problems)
  await page.waitForFunction(() => window.channelCluster.figures !== null)
  assert.equal(await page.locator("#node").textContent(), "node-of-the-test")
  assert.equal(await page.locator("#nodes").textContent(), "1")
  // The figures change when there are more connections, and when somebody writes.
  const before = await page.evaluate(() => window.channelCluster.figures.connections)
  const others = await Promise.all([1, 2, 3].map(() => new Client(node.socket).connect()))
  const rooms = await Promise.all(others.map(other => other.join("room:figures")))
  await page.waitForFunction(n => window.channelCluster.figures.connections >= n + 3, before)
  const writing = setInterval(() => rooms[0].cast("message", { user: "w", text: "tick" }), 50)
  await page.waitForFunction(() => window.channelCluster.figures.writesPerSecond > 0)
  await screenshot(page, "chat-page.png")
  clearInterval(writing)
  for (const other of others) other.socket.disconnect()
  assert.deepEqual(problems, [])
  await page.close()
})

test("a tab is back in its room after the node restarts", { timeout: HANG }, async () => {
  const problems = []
  const page = await open("room:restart", problems)
  assert.equal(await node.end("SIGTERM"), 0)
  await page.waitForFunction(() => window.channelCluster.state !== "open")
  await screenshot(page, "chat-page-reconnecting.png")
  await node.spawn()
  await page.waitForFunction(() => window.channelCluster.joined && window.channelCluster.state === "open")
  await say(page, "back again")
  await shown(page, "back again")
  assert.ok((await page.evaluate(() => window.channelCluster.reconnects)) > 0)
  assert.deepEqual(problems, [])
  await page.close()
})
