// Stock phoenix.js clients while their node restarts or dies.

import assert from "node:assert/strict"
import { test } from "node:test"
import { ChannelNode } from "../lib/node.mjs"
import { Client } from "../lib/phoenix.mjs"
import { HANG } from "../lib/wait.mjs"

for (const [how, signal, code, exit] of [
  ["restarts", "SIGTERM", 1012, 0],
  ["is killed", "SIGKILL", 1006, null],
]) {
  test(`when the node ${how}, clients are back in their room by themselves`, { timeout: HANG }, async context => {
    const node = await ChannelNode.start()
    const clients = []
    context.after(async () => {
      for (const one of clients) one.socket.disconnect()
      await node.end("SIGKILL")
    })
    for (let n = 0; n < 10; n++) clients.push(await new Client(node.socket).connect())
    const rooms = await Promise.all(clients.map(one => one.join("room:restart")))
    const boxes = rooms.map(room => room.on("msg"))
    const codes = Promise.all(clients.map(one => one.closed()))
    assert.equal(await node.end(signal), exit)
    assert.deepEqual(await codes, clients.map(() => code))
    await node.spawn()
    await Promise.all(rooms.map(room => room.joins.take()))
    rooms[3].cast("msg", { back: true })
    for (const box of boxes) assert.deepEqual(await box.take(), { back: true })
  })
}
