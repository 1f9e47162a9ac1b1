// Stock clients in other languages play the scenarios of clients.json. `cargo xtask test` installs what they need and says where in
// the variables; see `start` for how to do it by hand.

import { execFileSync } from "node:child_process"
import { join } from "node:path"
import { after, before, describe, it } from "node:test"
import { fileURLToPath } from "node:url"
import { AUTHORITY, Run, Stage, clients } from "../js/lib/stage.mjs"
import { HANG } from "../js/lib/wait.mjs"

const here = path => fileURLToPath(new URL(path, import.meta.url))
const { CLIENTS_PYTHON = "python3", CLIENTS_JARS = "", CLIENTS_GO = "", CLIENTS_RUST = "" } = process.env

/** The program of each client, and its arguments; the words for the runs come last. */
const DRIVERS = {
  "JavaPhoenixClient 1.3.1": ["java", "-cp", `${CLIENTS_JARS}/*`, here("java/Driver.java")],
  "phoenix-chan 0.4.6": [CLIENTS_RUST],
  "phx 0.2.5": [CLIENTS_GO],
  "phoenix-channels-python-client 0.4.1": [CLIENTS_PYTHON, here("python/driver_phoenix_channels.py")],
  "phxsocket 0.1.5": [CLIENTS_PYTHON, here("python/driver_phxsocket.py")],
}
/** A store of certificates has a word that opens it, whatever is in it. */
const STORE_WORD = "changeit"
const WORDS = { V1: "1.0", V2: "2.0" }

let stage
let secure
/** The authority of the node with TLS, in the form that a JVM reads. */
let trusted

before(async () => {
  stage = await Stage.start()
  secure = await Stage.secure()
  trusted = join(secure.directory, "trusted.p12")
  const made = ["-importcert", "-noprompt", "-alias", "ca", "-file", AUTHORITY, "-keystore", trusted]
  execFileSync("keytool", [...made, "-storetype", "PKCS12", "-storepass", STORE_WORD], { stdio: "ignore" })
})

after(async () => {
  await stage?.end()
  await secure?.end()
})

describe("stock clients in other languages", { concurrency: 4 }, () => {
  for (const [client, [program, ...args]] of Object.entries(DRIVERS)) {
    for (const [version, cannot] of Object.entries(clients[client].runs)) {
      it(`${client} in ${version}`, { timeout: 2 * HANG }, async t => {
        const run = await Run.on(stage, `${client} ${version}`, cannot)
        run.drive(program, [...args, WORDS[version]])
        await run.judge(t)
      })
      it(`${client} in ${version} over TLS`, { timeout: 2 * HANG }, async t => {
        const run = await Run.on(secure, `${client} ${version} TLS`, cannot)
        const store = `-Djavax.net.ssl.trustStore=${trusted} -Djavax.net.ssl.trustStorePassword=${STORE_WORD}`
        run.drive(program, [...args, WORDS[version]], { env: { JDK_JAVA_OPTIONS: store } })
        await run.judge(t)
      })
    }
  }
})
