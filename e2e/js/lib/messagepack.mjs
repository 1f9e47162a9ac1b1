// The shim of docs/PROTOCOL.md, as it stands there.

import { readFile, rm, writeFile } from "node:fs/promises"
import { fileURLToPath } from "node:url"

const PAGE = new URL("../../../docs/PROTOCOL.md", import.meta.url)

/** What the lines of the page export. They run from a file among the packages, so that their imports are found. */
export async function shimOfThePage() {
  const page = await readFile(PAGE, "utf8")
  const blocks = page.split("```js\n").slice(1).map(block => block.split("```")[0])
  const lines = blocks.find(block => block.includes("@msgpack/msgpack"))
  const file = new URL(`../node_modules/.shim-${process.pid}.mjs`, import.meta.url)
  await writeFile(file, lines)
  try {
    return await import(file)
  } finally {
    await rm(fileURLToPath(file))
  }
}
