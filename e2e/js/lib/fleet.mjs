// Two nodes of a fleet with a real NATS server between them.

import { spawn } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { connect } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { ChannelNode, freePorts } from "./node.mjs"
import { until } from "./wait.mjs"

/** Whether something listens on a port of loopback. */
function listens(port) {
  return new Promise(resolve => {
    const socket = connect(port, "127.0.0.1", () => resolve(true) ?? socket.destroy())
    socket.on("error", () => resolve(false))
  })
}

export class Fleet {
  /** Starts the server and two nodes with this text as a part of their configuration. */
  static async start(config) {
    const program = process.env.NATS_SERVER
    if (program === undefined) {
      throw new Error("NATS_SERVER is not set: run `cargo xtask test`, or name an executable nats-server in it")
    }
    const fleet = new Fleet()
    fleet.directory = mkdtempSync(join(tmpdir(), "channel-fleet-"))
    const [port] = await freePorts()
    fleet.nats = spawn(program, ["--addr", "127.0.0.1", "--port", String(port)], { stdio: "ignore" })
    await until("nats-server listens", () => listens(port))
    const file = join(fleet.directory, "node.yaml")
    const bus = `bus: {nats: {urls: ["nats://127.0.0.1:${port}"]}}`
    writeFileSync(file, `cluster: {namespace: default, name: chat}\nauth: {anonymous: true}\n${bus}\n${config}\n`)
    writeFileSync(join(fleet.directory, "admin-token"), "token")
    const mode = ["--config", file, "--secrets", fleet.directory]
    const node = name => ChannelNode.start(["--shards", "2", "--node-name", name], mode)
    fleet.nodes = await Promise.all([node("a"), node("b")])
    return fleet
  }

  async end() {
    await Promise.all((this.nodes ?? []).map(node => node.end("SIGKILL")))
    this.nats?.kill("SIGKILL")
    rmSync(this.directory, { recursive: true, force: true })
  }
}
