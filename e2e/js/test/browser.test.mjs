// The stock phoenix.js client in real Chromium against one node.

import assert from "node:assert/strict"
import { createServer } from "node:http"
import { once } from "node:events"
import { after, before, test } from "node:test"
import { firstEvent, joinInPage, launch, stockPage } from "../lib/browser.mjs"
import { ChannelNode } from "../lib/node.mjs"
import { Client } from "../lib/phoenix.mjs"
import { HANG } from "../lib/wait.mjs"

let node
let browser

before(async () => {
  node = await ChannelNode.start()
  browser = await launch()
})

after(async () => {
  await browser?.close()
  await node?.end("SIGKILL")
})

test("two tabs and a Node.js client chat in one room", { timeout: HANG }, async () => {
  const [a, b] = await Promise.all([stockPage(browser.context, node.http), stockPage(browser.context, node.http)])
  const outside = await new Client(node.socket).connect()
  const room = await outside.join("room:browser")
  const box = room.on("msg")
  await Promise.all([joinInPage(a, "room:browser", "msg"), joinInPage(b, "room:browser", "msg")])
  await a.evaluate(() => window.channel.push("msg", { from: "a" }))
  for (const page of [a, b]) await page.waitForFunction(() => window.got.some(({ from }) => from === "a"))
  assert.deepEqual(await box.take(), { from: "a" })
  room.cast("msg", { from: "outside" })
  for (const page of [a, b]) await page.waitForFunction(() => window.got.some(({ from }) => from === "outside"))
  const echoed = await b.evaluate(
    () => new Promise(resolve => window.channel.push("echo", { n: 1 }).receive("ok", resolve)),
  )
  assert.deepEqual(echoed, { n: 1 })
  outside.socket.disconnect()
  await Promise.all([a.close(), b.close()])
})

test("a tab is back in its room after the node restarts", { timeout: HANG }, async () => {
  const page = await stockPage(browser.context, node.http)
  await joinInPage(page, "room:restart", "msg")
  assert.equal(await node.end("SIGTERM"), 0)
  await page.waitForFunction(() => window.closes.length > 0)
  assert.equal(await page.evaluate(() => window.closes[0]), 1012)
  await node.spawn()
  await page.waitForFunction(() => window.joins === 2, null, { timeout: HANG })
  await page.evaluate(() => window.channel.push("msg", { back: true }))
  await page.waitForFunction(() => window.got.some(({ back }) => back))
  await page.close()
})

test("a page of another origin is refused", { timeout: HANG }, async () => {
  const server = createServer((_, response) => response.end("<!doctype html>elsewhere"))
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const page = await browser.context.newPage()
  // The node judges an origin by its host, as Phoenix does. The browser is told that this name is at 127.0.0.1.
  await page.goto(`http://elsewhere.example:${server.address().port}/`)
  assert.equal(await firstEvent(page, `${node.socket}/websocket?vsn=2.0.0`), "close")
  await page.close()
  server.close()
})
