// A `channel-node` of the test's own, in dev mode unless told otherwise.

import { spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync } from "node:fs"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { until } from "./wait.mjs"

const DEFAULT_BINARY = fileURLToPath(new URL("../../../target/debug/channel-node", import.meta.url))

/** Two ports that were free a moment ago. */
export async function freePorts() {
  const servers = [createServer(), createServer()]
  const ports = []
  for (const server of servers) {
    server.listen(0, "127.0.0.1")
    await once(server, "listening")
    ports.push(server.address().port)
  }
  for (const server of servers) {
    server.close()
    await once(server, "close")
  }
  return ports
}

export class ChannelNode {
  /** Starts a node on loopback and waits until it serves; `args` are added to its command line after those of its mode. */
  static async start(args = [], mode = ["--dev"]) {
    const binary = process.env.CHANNEL_NODE ?? DEFAULT_BINARY
    if (!existsSync(binary)) {
      throw new Error(`${binary} is missing: cargo build --bin channel-node, or name one in CHANNEL_NODE`)
    }
    const node = new ChannelNode(binary, await freePorts(), [...mode, ...args])
    await node.spawn()
    return node
  }

  /** Starts a node of one shard with this text as its configuration file. */
  static async configured(text) {
    const directory = await mkdtemp(join(tmpdir(), "channel-node-"))
    const file = join(directory, "node.yaml")
    await writeFile(file, text)
    await writeFile(join(directory, "admin-token"), "token")
    const node = await ChannelNode.start(["--shards", "1"], ["--config", file, "--secrets", directory])
    node.directory = directory
    return node
  }

  /** Kills the process, and removes what `configured` made. */
  async remove() {
    await this.end("SIGKILL")
    if (this.directory) await rm(this.directory, { recursive: true })
  }

  constructor(binary, [port, admin], args) {
    this.binary = binary
    this.port = port
    this.admin = admin
    this.args = args
    this.log = ""
    this.process = null
  }

  get http() {
    return `http://127.0.0.1:${this.port}/`
  }

  get socket() {
    return `ws://127.0.0.1:${this.port}/socket`
  }

  /** Starts the process, at first or again on the same ports. */
  async spawn() {
    const listen = ["--listen", `127.0.0.1:${this.port}`, "--admin", `127.0.0.1:${this.admin}`]
    const child = spawn(this.binary, [...listen, ...this.args], { stdio: ["ignore", "pipe", "pipe"] })
    this.process = child
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", data => (this.log += data))
    }
    await until("the node is ready", async () => {
      if (child.exitCode !== null || child.signalCode !== null) {
        throw new Error(`channel-node ended with ${child.exitCode ?? child.signalCode}:\n${this.log}`)
      }
      const answer = await fetch(`http://127.0.0.1:${this.admin}/readyz`).catch(() => null)
      return answer?.ok === true
    })
  }

  /** The value of a metric without labels. */
  async metric(name) {
    const text = await (await fetch(`http://127.0.0.1:${this.admin}/metrics`)).text()
    const line = text.split("\n").find(line => line.startsWith(`channelcluster_node_${name} `))
    return Number(line?.split(" ")[1])
  }

  /** Ends the process with a signal and waits for its end; returns its exit code (null after SIGKILL). */
  async end(signal) {
    const child = this.process
    if (child === null || child.exitCode !== null || child.signalCode !== null) return child?.exitCode
    const exit = once(child, "exit")
    child.kill(signal)
    const [code] = await exit
    return code
  }
}
