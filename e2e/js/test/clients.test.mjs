// The list of stock clients agrees with the packages that are installed and with docs/PROTOCOL.md.

import assert from "node:assert/strict"
import { readFile } from "node:fs/promises"
import { test } from "node:test"
import { clients, page, scenarios } from "../lib/stage.mjs"

const file = path => readFile(new URL(`../../../${path}`, import.meta.url), "utf8")

test("each client is installed in the version that its name says", async () => {
  for (const [client, { pin: [path, text] }] of Object.entries(clients)) {
    assert.ok((await file(path)).includes(text), `${path} has no ${text} for ${client}`)
    assert.ok(text.includes(client.split(" ").at(-1)), `${client}: ${text}`)
  }
})

test("what a client does not play is a scenario, and has a reason", () => {
  for (const { runs } of Object.values(clients)) {
    for (const [scenario, reason] of Object.values(runs).flatMap(Object.entries)) {
      assert.ok(scenario in scenarios && reason.length > 10, `${scenario}: ${reason}`)
    }
  }
})

test("the page has all clients", async () => {
  assert.ok((await file("docs/PROTOCOL.md")).includes(page()), `docs/PROTOCOL.md should have:\n\n${page()}`)
})
