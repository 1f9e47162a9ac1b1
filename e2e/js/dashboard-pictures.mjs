// Takes the pictures of the dashboard that docs/OPERATIONS.md shows: `NATS_SERVER=... node dashboard-pictures.mjs DIRECTORY`. Two
// nodes have some clients that talk for half a minute.

import { mkdir } from "node:fs/promises"
import { join } from "node:path"
import { launch } from "./lib/browser.mjs"
import { entered, login, polled, tab } from "./lib/dashboard.mjs"
import { Fleet } from "./lib/fleet.mjs"
import { Client } from "./lib/phoenix.mjs"

const [directory] = process.argv.slice(2)
if (!directory) {
  console.error("usage: dashboard-pictures.mjs DIRECTORY")
  process.exit(2)
}
const CLIENTS = 60
const POLLS = 16
/** Pixels of each picture: together they are to stay below 150 KB. */
const HEIGHTS = { light: 660, dark: 360 }

const fleet = await Fleet.start('rooms: {topics: ["room:*"]}')
const browser = await launch()
try {
  const clients = await Promise.all(
    Array.from({ length: CLIENTS }, (_, n) => new Client(fleet.nodes[n % 3 === 0 ? 1 : 0].socket).connect()),
  )
  const rooms = await Promise.all(clients.map((client, n) => client.join(`room:${n % 4}`)))
  let beat = 0
  const talking = setInterval(() => {
    beat += 1
    const speakers = 2 + Math.round(2 * Math.sin(beat / 25))
    for (let n = 0; n < speakers; n++) rooms[(beat * 7 + n) % CLIENTS].cast("message", { user: "ann", text: "hello" })
  }, 100)
  const { page } = await tab(browser.context, fleet.nodes[0])
  await page.setViewportSize({ width: 1_000, height: HEIGHTS.light })
  await login(page, fleet.nodes[0])
  await entered(page)
  await polled(page, POLLS)
  await mkdir(directory, { recursive: true })
  for (const [colorScheme, height] of Object.entries(HEIGHTS)) {
    await page.setViewportSize({ width: 1_000, height })
    await page.emulateMedia({ colorScheme })
    await page.screenshot({ path: join(directory, `dashboard-${colorScheme}.png`) })
  }
  clearInterval(talking)
} finally {
  await browser.close()
  await fleet.end()
}
process.exit(0)
