// The stock phoenix.js client over TLS, which OpenSSL speaks in Node.js.

import assert from "node:assert/strict"
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, before, test } from "node:test"
import { fileURLToPath } from "node:url"
import { WebSocket } from "ws"
import { ChannelNode } from "../lib/node.mjs"
import { Client } from "../lib/phoenix.mjs"
import { HANG } from "../lib/wait.mjs"

const data = name => fileURLToPath(new URL(`../../../node/tests/data/tls/${name}`, import.meta.url))
const ca = readFileSync(data("ca.crt"))
let node
let directory
const clients = []

/** A socket that trusts the CA of the test data and asks for one cipher suite. */
function socketOf(ciphers) {
  return class extends WebSocket {
    constructor(url, protocols) {
      super(url, protocols, { ca, servername: "localhost", ciphers, minVersion: "TLSv1.3" })
    }
  }
}

before(async () => {
  directory = mkdtempSync(join(tmpdir(), "channel-node-tls-"))
  copyFileSync(data("one.crt"), join(directory, "tls.crt"))
  copyFileSync(data("one.key"), join(directory, "tls.key"))
  node = await ChannelNode.start(["--shards", "2", "--tls", directory])
})

after(async () => {
  for (const one of clients) one.socket.disconnect()
  await node?.end("SIGKILL")
  rmSync(directory, { recursive: true })
})

for (const suite of ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]) {
  test(`clients hear each other over ${suite}`, { timeout: HANG }, async () => {
    const url = node.socket.replace("ws:", "wss:")
    const pair = [1, 2].map(() => new Client(url, { transport: socketOf(suite) }))
    clients.push(...pair)
    const [a, b] = await Promise.all(
      pair.map(async client => (await client.connect()).join(`room:${suite}`)),
    )
    const [heardByA, heardByB] = [a.on("n"), b.on("n")]
    for (const length of [0, 10, 3_000, 20_000, 50_000]) {
      const payload = { text: "ä".repeat(length / 2) }
      assert.deepEqual((await a.push("echo", payload)).response, payload)
      b.cast("n", payload)
      assert.deepEqual(await heardByA.take(), payload)
      assert.deepEqual(await heardByB.take(), payload)
    }
    for (const client of pair) await client.disconnect()
  })
}

test("the node's end is a close that the client comes back from", { timeout: HANG }, async () => {
  const client = new Client(node.socket.replace("ws:", "wss:"), { transport: socketOf(undefined) })
  clients.push(client)
  await client.connect()
  await node.end("SIGTERM")
  assert.equal(await client.closed(), 1012)
  await node.spawn()
  await client.opened()
})
