// Tokens of stock phoenix.js clients: what it makes of the warning before their end, and how its channels come back with
// another token.

import assert from "node:assert/strict"
import { createHmac } from "node:crypto"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, before, test } from "node:test"
import { ChannelNode } from "../lib/node.mjs"
import { Client } from "../lib/phoenix.mjs"
import { HANG, Mailbox } from "../lib/wait.mjs"

const SECRET = "a secret of at least thirty-two bytes"
const config = onExpiry => `
auth:
  jwt: [{algorithms: [HS256], keyFile: tokens/secret, leewayMillis: 0}]
  expiryWarningMillis: 2000
  onExpiry: ${onExpiry}
`
const directory = mkdtempSync(join(tmpdir(), "channel-node-tokens-"))
const nodes = {}
const clients = []

before(async () => {
  mkdirSync(join(directory, "tokens"))
  writeFileSync(join(directory, "tokens/secret"), SECRET)
  writeFileSync(join(directory, "admin-token"), "token")
  for (const onExpiry of ["Close", "EndChannels"]) {
    const file = join(directory, `${onExpiry}.yaml`)
    writeFileSync(file, config(onExpiry))
    nodes[onExpiry] = await ChannelNode.start([], ["--config", file, "--secrets", directory, "--token-keys", directory])
  }
})

after(async () => {
  for (const one of clients) one.socket.disconnect()
  for (const node of Object.values(nodes)) await node.end("SIGKILL")
  rmSync(directory, { recursive: true })
})

function token(seconds) {
  const exp = Math.ceil(Date.now() / 1000) + seconds
  const parts = [{ alg: "HS256" }, { sub: "ann", exp }]
  const text = parts.map(part => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".")
  return `${text}.${createHmac("sha256", SECRET).update(text).digest("base64url")}`
}

/** A client of a node with a token that `current` returns at each connect, and the warnings that it gets. */
async function clientOf(onExpiry, current) {
  const one = new Client(nodes[onExpiry].socket, { authToken: current })
  clients.push(one)
  const warnings = new Mailbox("a warning")
  one.socket.onMessage(({ topic, event, payload }) => {
    if (topic === "phoenix" && event === "token_expiring") warnings.put(payload.expires_in_ms)
  })
  return { one: await one.connect(), warnings }
}

test("a client is warned, and comes back with the token that it has then", { timeout: HANG }, async () => {
  let current = token(4)
  const { one, warnings } = await clientOf("Close", () => current)
  const room = await one.join("room:1")
  const left = await warnings.take()
  assert.ok(left > 0 && left <= 2_000, `${left}`)
  current = token(3_600)
  assert.equal(await one.closed(), 4001)
  await one.opened()
  await room.joins.take()
})

test("a token that is pushed after the warning keeps the connection", { timeout: HANG }, async () => {
  const { one, warnings } = await clientOf("Close", () => token(4))
  const room = await one.join("room:1")
  await warnings.take()
  room.cast("access_token", { access_token: token(6) })
  await warnings.take()
  room.cast("access_token", { access_token: token(3_600) })
  await new Promise(resolve => setTimeout(resolve, 3_000))
  assert.deepEqual(one.events.items, [])
  assert.ok((await one.ping()) >= 0)
})

test("a channel joins again by itself with the token in its params", { timeout: HANG }, async () => {
  let current = token(4)
  const { one } = await clientOf("EndChannels", () => current)
  const room = await one.join("room:1", () => ({ access_token: current }))
  current = token(3_600)
  await room.joins.take()
  assert.deepEqual(one.events.items, [], "the connection has stayed")
  room.cast("access_token", { access_token: "no token" })
  assert.equal(await one.closed(), 4001)
})

test("without another token a channel asks at the client's own pace, and is told why it waits", { timeout: HANG }, async () => {
  let current = token(3)
  const { one } = await clientOf("EndChannels", () => current)
  const room = await one.join("room:1", () => ({ access_token: current }))
  const refusals = new Mailbox("a refused join")
  room.channel.joinPush.receive("error", ({ reason }) => refusals.put({ reason, at: Date.now() }))
  assert.deepEqual(await room.ended.take(), { reason: "token_expired" })
  const [first, second] = [await refusals.take(), await refusals.take()]
  assert.deepEqual([first.reason, second.reason], ["token_expired", "token_expired"])
  assert.ok(second.at - first.at > 1_500, `${second.at - first.at} ms`)
  assert.deepEqual(one.events.items, [], "the connection has stayed")
  current = token(3_600)
  await room.joins.take()
  assert.equal(room.channel.state, "joined")
})
