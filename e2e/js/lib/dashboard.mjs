// The dashboard of a node in Chromium, used as a person without a mouse does.

import { HANG } from "./wait.mjs"

/** The address of a node's dashboard. */
export const address = node => `http://127.0.0.1:${node.admin}/dashboard`

/**
 * A tab that collects what must not happen: requests to anywhere else, errors of scripts, lines of the console that are errors or
 * warnings, as those about the content security policy are.
 */
export async function tab(context, node) {
  const page = await context.newPage()
  page.setDefaultTimeout(HANG)
  const problems = []
  page.on("pageerror", error => problems.push(error.message))
  page.on("console", message => {
    if (["error", "warning"].includes(message.type())) problems.push(message.text())
  })
  page.on("request", request => {
    if (!request.url().startsWith(`${address(node)}`)) problems.push(request.url())
  })
  return { page, problems }
}

/** Opens the dashboard and types the token where the focus is, unless the browser has a session. */
export async function login(page, node, token = "token") {
  await page.goto(address(node))
  if (page.url() === address(node)) return
  // The page is loaded a moment before its field has the focus, and on a busy machine what is typed then is lost.
  await page.waitForFunction(() => document.activeElement?.name === "token")
  await page.keyboard.type(token)
  await page.keyboard.press("Enter")
}

/** Waits until the page shows its figures, whatever page is there now. */
export const entered = page => page.waitForFunction(() => window.channelDashboard?.polls > 0)

/** Waits until the page has shown its figures so many times more. */
export async function polled(page, times = 1) {
  const now = await page.evaluate(() => window.channelDashboard.polls)
  await page.waitForFunction(least => window.channelDashboard.polls >= least, now + times)
}
