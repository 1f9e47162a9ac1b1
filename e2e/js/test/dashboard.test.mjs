// The dashboard of a node in real Chromium, by keyboard.

import assert from "node:assert/strict"
import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import { after, before, test } from "node:test"
import { launch, screenshot } from "../lib/browser.mjs"
import { address, entered, login, polled, tab } from "../lib/dashboard.mjs"
import { ChannelNode } from "../lib/node.mjs"
import { Client } from "../lib/phoenix.mjs"
import { HANG, until } from "../lib/wait.mjs"

const CONFIG = 'cluster: {namespace: default, name: chat}\nrooms: {topics: ["room:*"], maxMembers: 4}\nauth: {anonymous: true}\n'

let node
let browser

before(async () => {
  node = await ChannelNode.configured(CONFIG)
  browser = await launch()
})

after(async () => {
  await browser?.close()
  await node?.remove()
})

const text = (page, id) => page.locator(`#${id}`).textContent()

/** Presses Tab until the element with this selector has the focus. */
async function tabTo(page, selector) {
  for (let presses = 0; presses < 30; presses++) {
    await page.keyboard.press("Tab")
    if (await page.evaluate(selector => document.activeElement?.matches(selector), selector)) return
  }
  throw new Error(`the key Tab does not lead to ${selector}`)
}

test("who has the token logs in by keyboard and sees health and figures of real clients", { timeout: HANG }, async () => {
  const { page, problems } = await tab(browser.context, node)
  await login(page, node)
  await entered(page)
  assert.equal(page.url(), address(node))
  assert.match(await text(page, "health"), /^Healthy: /)
  assert.equal(await text(page, "connections"), "0")
  assert.equal(await text(page, "explain"), "kubectl channels explain chat -n default")
  await page.evaluate(() => {
    window.announced = 0
    new MutationObserver(() => (window.announced += 1)).observe(document.getElementById("health"), {
      childList: true, characterData: true, subtree: true,
    })
  })

  const clients = await Promise.all([1, 2, 3].map(() => new Client(node.socket).connect()))
  const rooms = await Promise.all(clients.map(client => client.join("room:seen")))
  const writing = setInterval(() => rooms[0].cast("message", { text: "tick" }), 50)
  await page.waitForFunction(() => document.getElementById("connections").textContent === "3")
  await page.waitForFunction(() => window.channelDashboard.data.figures.writes_per_second > 0)
  await polled(page, 2)
  assert.match(await text(page, "writes"), /^[1-9]/)
  assert.match(await text(page, "amplification"), /^[23]/)
  assert.ok((await page.locator("#writes-spark polyline").getAttribute("points")).split(" ").length > 2)
  assert.equal(await page.locator("#nodes tr").count(), 1)
  const named = list => page.waitForFunction(list => document.getElementById(list).innerText.startsWith("room:seen"), list)
  for (const list of ["top-writes", "top-members"]) await named(list)
  assert.equal(await page.evaluate(() => window.announced), 0, "figures change without a word of a screen reader")

  // The room takes four members.
  const more = await Promise.all([4, 5].map(() => new Client(node.socket).connect()))
  await more[0].join("room:seen")
  assert.equal((await more[1].tryJoin("room:seen")).response.reason, "room full")
  await page.getByRole("status").getByText("Not healthy: a limit of this node was reached within the last minute.").waitFor()
  assert.equal(await text(page, "details"), "Reached: rooms.maxMembers.")
  assert.match(await page.locator("#limits").innerText(), /^rooms\.maxMembers\s+[1-9]\d*\s+[1-9]\d*$/)
  assert.equal(await page.evaluate(() => window.announced), 1)
  clearInterval(writing)
  for (const client of [...clients, ...more]) client.socket.disconnect()

  await tabTo(page, "#logout button")
  await page.keyboard.press("Enter")
  await page.getByLabel("Admin token").waitFor()
  assert.equal(page.url(), `${address(node)}/login`)
  assert.deepEqual(await browser.context.cookies(), [])
  assert.deepEqual(problems, [])
  await page.close()
})

test("a screen reader finds landmarks, headings and captions, and what has the focus is seen", { timeout: HANG }, async () => {
  const { page, problems } = await tab(browser.context, node)
  await login(page, node)
  await entered(page)
  for (const role of ["banner", "main", "status"]) assert.equal(await page.getByRole(role).count(), 1, role)
  assert.equal(await page.getByRole("heading", { level: 1 }).count(), 1)
  for (const name of ["Health", "This node", "Fleet", "Shards", "Drains and moves", "Limits reached", "Memory ledger", "Tuning", "Top rooms"]) {
    await page.getByRole("region", { name, exact: true }).waitFor()
    await page.getByRole("heading", { name, level: 2, exact: true }).waitFor()
  }
  const nameless = await page.evaluate(() =>
    [...document.querySelectorAll("table")].filter(table => !table.caption?.textContent).length)
  assert.equal(nameless, 0, "each table has a caption")
  await page.locator("#nodes th[scope=row]").waitFor()
  await tabTo(page, ".skip")
  await page.keyboard.press("Enter")
  assert.equal(await page.evaluate(() => document.activeElement.id), "main")
  await tabTo(page, "#pause")
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineWidth)
  assert.equal(outline, "3px")
  await page.keyboard.press("Space")
  assert.equal(await page.locator("#pause").getAttribute("aria-pressed"), "true")
  assert.deepEqual(problems, [])
  await page.close()
})

/** The least contrast of any text that is seen with what is behind it (WCAG 2.2, relative luminance). */
function leastContrast() {
  const part = value => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
  const numbers = color => color.match(/[\d.]+/g).map(Number)
  const light = color => {
    const [red, green, blue] = numbers(color).map(value => part(value / 255))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
  }
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor
      if (numbers(color)[3] !== 0) return color
    }
    return "rgb(255, 255, 255)"
  }
  let least = { ratio: 21 }
  for (const element of document.querySelectorAll("body *")) {
    const has = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())
    if (!has || !element.checkVisibility()) continue
    const [a, b] = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a)
    const ratio = (a + 0.05) / (b + 0.05)
    if (ratio < least.ratio) least = { ratio, what: element.outerHTML.slice(0, 80) }
  }
  return { ...least, paper: getComputedStyle(document.body).backgroundColor }
}

test("the page is readable in light and in dark", { timeout: HANG }, async () => {
  const { page, problems } = await tab(browser.context, node)
  const papers = []
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme })
    await login(page, node)
    await entered(page)
    const { ratio, what, paper } = await page.evaluate(leastContrast)
    assert.ok(ratio >= 4.5, `${colorScheme}: ${ratio} of ${what}`)
    papers.push(paper)
    await screenshot(page, `dashboard-${colorScheme}.png`)
    await page.getByRole("button", { name: "Log out" }).click()
    await page.getByLabel("Admin token").waitFor()
    const door = await page.evaluate(leastContrast)
    assert.ok(door.ratio >= 4.5, `${colorScheme}: ${door.ratio} of ${door.what}`)
  }
  assert.notEqual(papers[0], papers[1])
  assert.deepEqual(problems, [])
  await page.close()
})

test("figures of rooms are shown where the node has them", { timeout: HANG }, async () => {
  const { page, problems } = await tab(browser.context, node)
  const room = { topic: "room:<b>1</b>", members: 900, writes_per_second: 1_234, bytes_per_second: 2_048 }
  await page.route("**/dashboard/data", async route => {
    const answer = await route.fetch()
    const data = { ...(await answer.json()), top_rooms: { by_writes: [room], by_members: [room, room] } }
    await route.fulfill({ response: answer, json: data })
  })
  await login(page, node)
  await page.getByRole("region", { name: "Top rooms" }).waitFor()
  assert.equal(await page.locator("#top-writes").innerText(), "room:<b>1</b>\t1,234\t2 KiB\t900")
  assert.equal(await page.locator("#top-members tr").count(), 2)
  assert.deepEqual(problems, [])
  await page.close()
})

test("a tab that is not seen asks for nothing, and at once when it is seen again", { timeout: HANG }, async () => {
  const { page, problems } = await tab(browser.context, node)
  await page.clock.install()
  await login(page, node)
  await page.waitForFunction(() => window.channelDashboard?.polls === 1)
  let asked = 0
  page.on("request", request => (asked += request.url().endsWith("/data") ? 1 : 0))
  const look = hidden =>
    page.evaluate(hidden => {
      Object.defineProperty(document, "hidden", { configurable: true, value: hidden })
      document.dispatchEvent(new Event("visibilitychange"))
    }, hidden)
  await look(true)
  await page.clock.runFor(60_000)
  assert.equal(asked, 0)
  await look(false)
  await page.waitForFunction(() => window.channelDashboard.polls === 2)
  await page.clock.runFor(2_000)
  await page.waitForFunction(() => window.channelDashboard.polls >= 3)
  await page.getByRole("button", { name: "Pause" }).click()
  const before = asked
  await page.clock.runFor(60_000)
  assert.ok(asked <= before + 1, "what was under way may end")
  assert.deepEqual(problems, [])
  await page.close()
})

test("the page says when its session has ended and when its node is gone", { timeout: HANG }, async t => {
  const own = await ChannelNode.configured(CONFIG)
  t.after(() => own.remove())
  const { page } = await tab(browser.context, own)
  await login(page, own, "wrong")
  await page.getByRole("alert").getByText("This is not the admin token of this node.").waitFor()
  assert.ok(!(await page.content()).includes("wrong\""), "what was typed does not come back")
  await login(page, own)
  await entered(page)
  await writeFile(join(own.directory, "admin-token"), "another")
  await page.waitForURL(`${address(own)}/login`)
  await page.getByLabel("Admin token").fill("another")
  await page.keyboard.press("Enter")
  await entered(page)
  await own.end("SIGKILL")
  await page.getByRole("status").getByText("Not known: this node does not answer.").waitFor()
  await until("the log is read", () => own.log.includes("logged in to the dashboard"))
  for (const secret of ["wrong\"", "another"]) assert.ok(!own.log.includes(secret), secret)
  await page.close()
})

test("a page of another site neither frames the dashboard nor logs anybody out", { timeout: HANG }, async () => {
  const { page } = await tab(browser.context, node)
  await login(page, node)
  await entered(page)
  const foreign = await browser.context.newPage()
  await foreign.route("http://elsewhere.example/", route =>
    route.fulfill({
      contentType: "text/html",
      body: `<!doctype html><iframe src="${address(node)}"></iframe>
        <form method="post" action="${address(node)}/logout"><button>Go</button></form>`,
    }))
  await foreign.goto("http://elsewhere.example/")
  await until("the frame is refused", () => foreign.frames()[1]?.url().startsWith("chrome-error:"))
  await foreign.getByRole("button", { name: "Go" }).click()
  await foreign.getByRole("alert").getByText("The form was sent from another site").waitFor()
  await foreign.close()
  await polled(page, 2)
  assert.match(await text(page, "health"), /healthy/i)
  await page.close()
})
