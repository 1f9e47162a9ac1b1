// The stock phoenix.js client over long-poll, behind a load balancer that sends each request to another node of two.

import assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { createServer, request } from "node:http"
import { createServer as createTcpServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, before, test } from "node:test"
import { LongPoll } from "phoenix"
import { ChannelNode } from "../lib/node.mjs"
import { Client } from "../lib/phoenix.mjs"
import { HANG, until } from "../lib/wait.mjs"

const NATS_SERVER = process.env.NATS_SERVER
const skip = NATS_SERVER ? false : "NATS_SERVER names no nats-server: run `cargo xtask test`"

let directory, bus, balancer, socket
const nodes = []
const clients = []
const sent = [0, 0]

async function freePort() {
  const server = createTcpServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const { port } = server.address()
  server.close()
  await once(server, "close")
  return port
}

async function metric(node, name) {
  const text = await (await fetch(`http://127.0.0.1:${node.admin}/metrics`)).text()
  return Number(text.match(new RegExp(`^channelcluster_node_${name} (\\d+)`, "m"))[1])
}

/** Sends each request to the next node, and ends it when its client does. */
function balance(near, answer) {
  const turn = (sent[0] + sent[1]) % nodes.length
  sent[turn] += 1
  const { method, url, headers } = near
  const far = request({ host: "127.0.0.1", port: nodes[turn].port, agent: false, method, path: url, headers }, from => {
    answer.writeHead(from.statusCode, from.headers)
    from.pipe(answer)
  })
  far.on("error", () => answer.destroy())
  answer.on("close", () => far.destroy())
  near.pipe(far)
}

async function client() {
  const one = new Client(socket, { transport: LongPoll })
  clients.push(one)
  return one.connect()
}

before(async () => {
  if (skip) return
  const port = await freePort()
  bus = spawn(NATS_SERVER, ["--addr", "127.0.0.1", "--port", String(port)], { stdio: "ignore" })
  directory = await mkdtemp(join(tmpdir(), "channelcluster-nodes-"))
  const config = `
cluster: {namespace: default, name: chat}
rooms: {echoEvents: [echo]}
auth: {anonymous: true}
longPoll: true
bus: {nats: {urls: ["nats://127.0.0.1:${port}"]}}
`
  for (const [name, text] of Object.entries({ "node.yaml": config, "admin-token": "token" })) {
    await writeFile(join(directory, name), text)
  }
  const mode = ["--config", join(directory, "node.yaml"), "--secrets", directory]
  for (const name of ["a", "b"]) nodes.push(await ChannelNode.start(["--shards", "2", "--node-name", name], mode))
  for (const node of nodes) await until("a node knows the other", async () => (await metric(node, "bus_nodes")) === 2)
  balancer = createServer(balance).listen(0, "127.0.0.1")
  await once(balancer, "listening")
  socket = `ws://127.0.0.1:${balancer.address().port}/socket`
})

after(async () => {
  for (const one of clients) one.socket.disconnect()
  balancer?.closeAllConnections()
  balancer?.close()
  for (const node of nodes) await node.end("SIGKILL")
  bus?.kill("SIGKILL")
  if (directory) await rm(directory, { recursive: true, force: true })
})

test("each request may come to either node", { timeout: HANG, skip }, async () => {
  const all = await Promise.all([client(), client(), client(), client()])
  const rooms = await Promise.all(all.map(one => one.join("room:nodes")))
  const boxes = rooms.map(room => room.on("n"))
  // The bus has the subscriptions of both nodes once each has heard somebody of the other.
  const seen = rooms.map(room => room.on("hello"))
  await until("all hear all", async () => {
    for (const [from, room] of rooms.entries()) room.cast("hello", { from })
    await new Promise(resolve => setTimeout(resolve, 100))
    return seen.every(box => new Set(box.items.map(({ from }) => from)).size === rooms.length)
  })
  for (let n = 0; n < 200; n++) rooms[n % 4].cast("n", { from: n % 4, n })
  for (const box of boxes) {
    const last = [-1, -1, -1, -1]
    for (let n = 0; n < 200; n++) {
      const message = await box.take()
      assert.ok(message.n > last[message.from], "in the order of its sender")
      last[message.from] = message.n
    }
  }
  for (const room of rooms) assert.equal((await room.push("echo", { n: 1 })).response.n, 1)
  assert.ok(sent[0] > 0 && Math.abs(sent[0] - sent[1]) <= 1)
  const carried = await Promise.all(nodes.map(node => metric(node, "carried_in_total")))
  assert.ok(carried[0] + carried[1] > 0)
})

test("a client is back after the node of its session was killed", { timeout: HANG, skip }, async () => {
  const all = await Promise.all([client(), client()])
  const rooms = await Promise.all(all.map(one => one.join("room:back")))
  const [gone] = nodes.splice(0, 1)
  await gone.end("SIGKILL")
  for (const room of rooms) {
    await until("its room answers", async () => {
      const answer = await Promise.race([
        room.push("echo", { back: true }).catch(() => null),
        new Promise(resolve => setTimeout(resolve, 1_000, null)),
      ])
      return answer?.response?.back === true
    })
  }
})
