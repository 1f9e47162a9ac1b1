// The stock phoenix.js client over TLS, which OpenSSL speaks in Node.js and BoringSSL in Chromium.

import assert from "node:assert/strict"
import { X509Certificate, createHash } from "node:crypto"
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, before, describe, it, test } from "node:test"
import { fileURLToPath } from "node:url"
import { WebSocket } from "ws"
import { firstEvent, launch } from "../lib/browser.mjs"
import { ChannelNode } from "../lib/node.mjs"
import { Client } from "../lib/phoenix.mjs"
import { VERSIONS, begin } from "../lib/players.mjs"
import { CERTIFICATE, Run, Stage, clients as listed } from "../lib/stage.mjs"
import { HANG } from "../lib/wait.mjs"

const data = name => fileURLToPath(new URL(`../../../node/tests/data/tls/${name}`, import.meta.url))
const ca = readFileSync(data("ca.crt"))
let node
let directory
const clients = []

/** A socket that trusts the CA of the test data and asks for one version and, if named, one cipher suite. */
function socketOf(ciphers, version = "TLSv1.3") {
  return class extends WebSocket {
    constructor(url, protocols) {
      const versions = { minVersion: version, maxVersion: version }
      super(url, protocols, { ca, servername: "localhost", ciphers, ...versions })
    }
  }
}

before(async () => {
  directory = mkdtempSync(join(tmpdir(), "channel-node-tls-"))
  copyFileSync(data("one.crt"), join(directory, "tls.crt"))
  copyFileSync(data("one.key"), join(directory, "tls.key"))
  node = await ChannelNode.start(["--shards", "2", "--tls", directory, "--tls-min-version", "1.2"])
})

after(async () => {
  for (const one of clients) one.socket.disconnect()
  await node?.end("SIGKILL")
  rmSync(directory, { recursive: true })
})

const suites = [
  ["TLS_AES_128_GCM_SHA256", "TLSv1.3"],
  ["TLS_AES_256_GCM_SHA384", "TLSv1.3"],
  ["TLS_CHACHA20_POLY1305_SHA256", "TLSv1.3"],
  ["ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256", "TLSv1.2"],
  ["ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384", "TLSv1.2"],
  ["ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305", "TLSv1.2"],
]
for (const [suite, version] of suites) {
  test(`clients hear each other over ${version} with ${suite}`, { timeout: HANG }, async () => {
    const url = node.socket.replace("ws:", "wss:")
    const pair = [1, 2].map(() => new Client(url, { transport: socketOf(suite, version) }))
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

describe("stock phoenix.js over TLS", { concurrency: 2 }, () => {
  let stage
  let browser

  before(async () => {
    stage = await Stage.secure()
    // The browser takes this one key in the place of an authority.
    const key = new X509Certificate(readFileSync(CERTIFICATE)).publicKey.export({ type: "spki", format: "der" })
    const digest = createHash("sha256").update(key).digest("base64")
    browser = await launch([`--ignore-certificate-errors-spki-list=${digest}`])
  })

  after(async () => {
    await browser?.close()
    await stage?.end()
  })

  for (const client of Object.keys(VERSIONS)) {
    for (const [where, cannot] of Object.entries(listed[client].runs)) {
      it(`${client} in ${where}`, { timeout: 2 * HANG }, async t => {
        const run = await Run.on(stage, `${client} ${where} TLS`, cannot)
        await begin(browser, run, client, where)
        await run.judge(t)
      })
    }
  }

  it("a browser that trusts nobody else does not connect", { timeout: HANG }, async () => {
    const stranger = await launch()
    const page = await stranger.context.newPage()
    const url = `${stage.node.socket.replace("ws:", "wss:")}/websocket?vsn=2.0.0`
    assert.equal(await firstEvent(page, url), "close")
    await stranger.close()
  })
})
