// What all drivers of stock clients play on: the scenarios of ../../clients/clients.json, a node in dev mode, one that takes
// tokens and long messages, and for each run a relay that can break its connections. Over TLS there is a node in dev mode alone.

import assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { createHmac } from "node:crypto"
import { once } from "node:events"
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { connect, createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { WebSocket } from "ws"
import { ChannelNode } from "./node.mjs"
import { HANG, guarded } from "./wait.mjs"

const CLIENTS = fileURLToPath(new URL("../../clients/clients.json", import.meta.url))
const certificate = name => fileURLToPath(new URL(`../../../node/tests/data/tls/${name}`, import.meta.url))
/** The authority that vouches for the node with TLS, and the certificate of that node. */
export const AUTHORITY = certificate("ca.crt")
export const CERTIFICATE = certificate("one.crt")
/** What clients play over TLS: what else they can does not depend on it. */
const OVER_TLS = ["join granted", "join refused", "push with reply", "broadcast"]
const SECRET = "a secret of at least thirty-two bytes"
/** Seconds that a short token lives at least: a client connects and gets another one within that time. */
const SHORT = 4
const LONG = 3600
const CONFIG = `
rooms: {ackEvents: [send], echoEvents: [echo]}
limits: {maxFrameBytes: 1048576, sendQueueBytes: 4194304}
auth:
  anonymous: true
  jwt: [{issuer: stage, algorithms: [HS256], keyFile: tokens/secret, leewayMillis: 0}]
  tokenParam: token
  # Each client with a token is told at once that it ends soon, which none of them may mind.
  expiryWarningMillis: 3600000
  allowedOrigins: ["*"]
longPoll: true
`

/** The scenarios and the clients that play them. */
export const { scenarios, clients } = JSON.parse(await readFile(CLIENTS, "utf8"))

function token(seconds) {
  const exp = Math.ceil(Date.now() / 1000) + seconds
  const parts = [{ alg: "HS256" }, { iss: "stage", sub: "ann", exp }]
  const text = parts.map(part => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".")
  return `${text}.${createHmac("sha256", SECRET).update(text).digest("base64url")}`
}

/** Ends a connection by a reset. Node.js 18 would not end after a reset, and so it closes: its peers read an end without a word. */
function reset(socket) {
  if (process.version.startsWith("v18.")) socket.destroy()
  else socket.resetAndDestroy()
}

/** A way to a node's port that can be broken. */
class Relay {
  static async to(port) {
    const relay = new Relay()
    relay.pairs = new Set()
    relay.server = createServer(near => relay.pass(near, port))
    await relay.listen(0)
    return relay
  }

  async listen(port) {
    this.server.listen(port, "127.0.0.1")
    await once(this.server, "listening")
    this.port = this.server.address().port
  }

  pass(near, port) {
    const far = connect(port, "127.0.0.1")
    const pair = [near, far]
    this.pairs.add(pair)
    for (const [from, to] of [pair, [far, near]]) {
      from.on("data", data => pair.silent || to.write(data))
      from.on("error", () => {})
      from.on("close", () => {
        this.pairs.delete(pair)
        if (!pair.silent) to.destroy()
      })
    }
  }

  /** Ends all connections at once, as a network does that forgets them. */
  cut() {
    for (const pair of this.pairs) pair.forEach(reset)
  }

  /** Ends all connections, and refuses new ones until `up`. */
  async down() {
    this.server.close()
    this.cut()
    await once(this.server, "close")
  }

  up() {
    return this.listen(this.port)
  }

  /** Drops all that is said on the connections of now, in both directions, and ends none. */
  silence() {
    for (const pair of this.pairs) pair.silent = true
  }

  end() {
    this.server.close()
    this.cut()
  }
}

/** The part of docs/PROTOCOL.md about clients. */
export function page() {
  const lines = ["| scenario | what must hold |", "|---|---|"]
  for (const [scenario, what] of Object.entries(scenarios)) lines.push(`| ${scenario} | ${what} |`)
  lines.push("", "| client | language | runs | does not play |", "|---|---|---|---|")
  for (const [client, { language, runs }] of Object.entries(clients)) {
    const alike = new Map()
    for (const [run, cannot] of Object.entries(runs)) {
      const reasons = Object.entries(cannot).map(([scenario, reason]) => `${scenario}: ${reason}`)
      const key = reasons.join("; ") || "-"
      alike.set(key, [...(alike.get(key) ?? []), run])
    }
    for (const [reasons, names] of alike) lines.push(`| ${client} | ${language} | ${names.join("; ")} | ${reasons} |`)
  }
  return `${lines.join("\n")}\n`
}

/** The nodes. */
export class Stage {
  static async start() {
    const stage = new Stage()
    stage.directory = await mkdtemp(join(tmpdir(), "channelcluster-stage-"))
    await mkdir(join(stage.directory, "jwt/tokens"), { recursive: true })
    const files = { "node.yaml": CONFIG, "admin-token": "token", "jwt/tokens/secret": SECRET }
    for (const [name, text] of Object.entries(files)) await writeFile(join(stage.directory, name), text)
    const mode = ["--config", join(stage.directory, "node.yaml"), "--secrets", stage.directory]
    mode.push("--token-keys", join(stage.directory, "jwt"))
    stage.node = await ChannelNode.start(["--shards", "2"])
    stage.tokens = await ChannelNode.start(["--shards", "2"], mode)
    return stage
  }

  /** The same with TLS. */
  static async secure() {
    const stage = new Stage()
    stage.directory = await mkdtemp(join(tmpdir(), "channelcluster-stage-"))
    await copyFile(CERTIFICATE, join(stage.directory, "tls.crt"))
    await copyFile(certificate("one.key"), join(stage.directory, "tls.key"))
    stage.node = await ChannelNode.start(["--shards", "2", "--tls", stage.directory])
    stage.isSecure = true
    return stage
  }

  async end() {
    await this.node?.end("SIGKILL")
    await this.tokens?.end("SIGKILL")
    await rm(this.directory, { recursive: true, force: true })
  }
}

/** One driver's run: what it is told, what it may ask for, and its results. */
export class Run {
  /** `cannot` has the scenarios that the client cannot play, each with the reason. */
  static async on(stage, name, cannot = {}) {
    const run = new Run()
    Object.assign(run, { stage, name, cannot })
    run.relay = await Relay.to(stage.node.port)
    run.results = new Map(Object.keys(scenarios).map(scenario => [scenario, deferred()]))
    for (const { promise } of run.results.values()) promise.catch(() => {})
    return run
  }

  /** What a driver is told. */
  get told() {
    const played = Object.keys(scenarios).filter(scenario => !(scenario in this.cannot))
    if (this.stage.isSecure) {
      const node = this.stage.node.socket.replace("ws:", "wss:")
      const some = played.filter(scenario => OVER_TLS.includes(scenario))
      return { run: this.name.replace(/\W+/g, "-"), urls: { node }, authority: AUTHORITY, scenarios: some }
    }
    const relay = `ws://127.0.0.1:${this.relay.port}/socket`
    const urls = { node: this.stage.node.socket, relay, tokens: this.stage.tokens.socket }
    return { run: this.name.replace(/\W+/g, "-"), urls, scenarios: played }
  }

  /** Does what a driver asks for. */
  async ask(what) {
    switch (what) {
      case "tokens":
        return this.makeTokens()
      case "expired":
        return guarded("the end of a token", this.expired)
      default:
        assert.ok(["cut", "down", "up", "silence"].includes(what), what)
        return this.relay[what]()
    }
  }

  /** A token that ends soon and one that does not. The end shows on a connection with the former. */
  async makeTokens() {
    const [short, long] = [token(SHORT), token(LONG)]
    const watch = new WebSocket(`${this.stage.tokens.socket}/websocket?vsn=2.0.0&token=${short}`)
    this.expired = once(watch, "close").then(([code]) => assert.equal(code, 4001))
    this.expired.catch(() => {})
    await once(watch, "open")
    return { short, long }
  }

  report({ scenario, why }) {
    const result = this.results.get(scenario)
    assert.ok(result && !(scenario in this.cannot), `${this.name} plays ${scenario}, which it should not`)
    if (why === null) result.resolve()
    else result.reject(new Error(`${this.name}: ${why}`))
  }

  /** No more results come. */
  end(why) {
    this.relay.end()
    for (const [scenario, { reject }] of this.results) reject(new Error(`${this.name} did not play ${scenario}: ${why}`))
  }

  /** Makes a test of each scenario that the client plays. */
  async judge(t) {
    for (const scenario of this.told.scenarios) {
      await t.test(scenario, { timeout: HANG }, () => this.results.get(scenario).promise)
    }
    this.child?.kill("SIGKILL")
    this.relay.end()
  }

  /**
   * Starts a driver: a program that reads what it is told from the variable STAGE, prints a line of JSON for each result
   * and for each thing that it asks for, and reads the answer from its standard input.
   */
  drive(command, args, options = {}) {
    const trust = { SSL_CERT_FILE: AUTHORITY, NODE_EXTRA_CA_CERTS: AUTHORITY }
    const env = { ...process.env, ...(this.stage.isSecure && trust), ...options.env, STAGE: JSON.stringify(this.told) }
    const child = spawn(command, args, { ...options, env, stdio: ["pipe", "pipe", "pipe"] })
    this.child = child
    let said = ""
    child.stderr.on("data", data => (said = (said + data).slice(-4000)))
    child.stdin.on("error", () => {})
    createInterface({ input: child.stdout }).on("line", async line => {
      try {
        const message = JSON.parse(line)
        if (!("ask" in message)) return this.report(message)
        const answer = (await this.ask(message.ask)) ?? null
        child.stdin.write(`${JSON.stringify(answer)}\n`)
      } catch (error) {
        said += `${line}\n${error.stack}\n`
        child.kill("SIGKILL")
      }
    })
    child.on("error", error => this.end(error.message))
    child.on("close", code => this.end(`the driver ended with ${code}\n${said}`))
  }
}

function deferred() {
  const result = {}
  result.promise = new Promise((resolve, reject) => Object.assign(result, { resolve, reject }))
  return result
}
