// Headless Chromium as Debian packages it, driven through playwright-core.

import { once } from "node:events"
import { existsSync } from "node:fs"
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises"
import { createServer } from "node:http"
import { createRequire } from "node:module"
import { connect } from "node:net"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { chromium } from "playwright-core"

/** Directory of the screenshots. */
export const REPORTS =
  process.env.CHANNELCLUSTER_REPORTS ?? fileURLToPath(new URL("../../../target/e2e", import.meta.url))

/** A file of a version of phoenix.js, by its alias in package.json. */
const phoenixFile = (name, file) => join(dirname(createRequire(import.meta.url).resolve(name)), file)

const ARGUMENTS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-dev-shm-usage",
  // Pages of another origin have a name that is not this machine's: in dev mode a node takes all loopback names.
  "--host-resolver-rules=MAP elsewhere.example 127.0.0.1",
]

/** A browser with a profile of its own and these further arguments; `close` removes both. */
export async function launch(args = []) {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium"
  if (!existsSync(executablePath)) {
    throw new Error(`${executablePath} is missing: apt-get install chromium, or name one in CHROMIUM`)
  }
  const profile = await mkdtemp(join(tmpdir(), "channelcluster-chromium-"))
  const context = await chromium.launchPersistentContext(profile, {
    executablePath,
    args: [...ARGUMENTS, ...args],
    headless: true,
    chromiumSandbox: false,
  })
  return {
    context,
    close: async () => {
      await context.close()
      await rm(profile, { recursive: true, force: true })
    },
  }
}

/** Takes a picture for the reports. */
export async function screenshot(page, name) {
  await mkdir(REPORTS, { recursive: true })
  await page.screenshot({ path: join(REPORTS, name), fullPage: true })
}

/**
 * A page of the test's own that has stock phoenix.js as `Phoenix`, from a small server that passes WebSocket
 * upgrades on to the node at `node` (an http URL) as they are: page and socket have one origin, as the node
 * and Chromium's local network checks demand.
 */
export async function stockPage(context, node) {
  const script = await readFile(phoenixFile("phoenix", "phoenix.js"), "utf8")
  const server = createServer((request, response) => {
    if (request.url === "/phoenix.js") {
      response.setHeader("content-type", "text/javascript").end(script)
    } else {
      response.setHeader("content-type", "text/html").end("<!doctype html><title>stock</title><script src=phoenix.js></script>")
    }
  })
  const { hostname, port } = new URL(node)
  server.on("upgrade", (request, socket, head) => {
    const upstream = connect(Number(port || 80), hostname)
    const headers = request.rawHeaders.reduce((text, word, n) => text + word + (n % 2 ? "\r\n" : ": "), "")
    upstream.write(`GET ${request.url} HTTP/1.1\r\n${headers}\r\n`)
    upstream.write(head)
    for (const [from, to] of [[socket, upstream], [upstream, socket]]) {
      from.pipe(to)
      from.on("error", () => to.destroy())
      from.on("close", () => to.destroy())
    }
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const page = await context.newPage()
  page.on("close", () => server.close())
  await page.goto(`http://127.0.0.1:${server.address().port}/`)
  return page
}

/**
 * A page that plays the scenarios with the phoenix.js of an alias: its `played` does what `play` does. `ask` and
 * `report` are functions of the test.
 */
export async function playerPage(context, name, { ask, report }) {
  const files = { "/phoenix.mjs": phoenixFile(name, "phoenix.mjs") }
  for (const file of ["client", "scenarios", "wait"]) {
    files[`/${file}.mjs`] = fileURLToPath(new URL(`${file}.mjs`, import.meta.url))
  }
  const texts = { "/": ["text/html", "<!doctype html><title>player</title><script type=module src=page.mjs></script>"] }
  texts["/page.mjs"] = ["text/javascript", PAGE]
  for (const [path, file] of Object.entries(files)) texts[path] = ["text/javascript", await readFile(file, "utf8")]
  const server = createServer((request, response) => {
    const [type, text] = texts[request.url] ?? ["text/plain", ""]
    response.setHeader("content-type", type).end(text)
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const page = await context.newPage()
  page.on("close", () => server.close())
  await page.exposeFunction("ask", ask)
  await page.exposeFunction("report", report)
  await page.goto(`http://127.0.0.1:${server.address().port}/`)
  await page.waitForFunction(() => window.played)
  // A busy browser may begin the document before it knows the functions of the test; the next document has them.
  if (await page.evaluate(() => !window.ask || !window.report)) {
    await page.reload()
    await page.waitForFunction(() => window.played && window.ask && window.report)
  }
  return page
}

const PAGE = `
import { LongPoll, Socket } from "./phoenix.mjs"
import { play } from "./scenarios.mjs"
window.played = setup => play({ ...setup, Socket, transport: setup.polls ? LongPoll : undefined, ask, report })
`

/** Connects the page's stock client and joins a topic; messages of `event` are collected in the page. */
export function joinInPage(page, topic, event) {
  return page.evaluate(
    ([topic, event]) =>
      new Promise((resolve, reject) => {
        const { Socket } = window.Phoenix
        window.closes = []
        window.got = []
        window.joins = 0
        window.socket = new Socket("/socket")
        window.socket.onClose(close => window.closes.push(close.code))
        window.socket.connect()
        window.channel = window.socket.channel(topic, {})
        window.channel.on(event, payload => window.got.push(payload))
        window.channel
          .join()
          .receive("ok", response => {
            window.joins += 1
            resolve(response)
          })
          .receive("error", response => reject(new Error(JSON.stringify(response))))
      }),
    [topic, event],
  )
}

/** Opens a WebSocket in the page, and tells whether it opened or closed: "open" or "close". */
export function firstEvent(page, url) {
  return page.evaluate(
    url =>
      new Promise(resolve => {
        const socket = new WebSocket(url)
        socket.onopen = () => resolve("open")
        socket.onclose = () => resolve("close")
      }),
    url,
  )
}
