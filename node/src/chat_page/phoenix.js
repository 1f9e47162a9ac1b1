/**
 * A small client for Phoenix Channels (protocol 2.0.0, JSON), written for this page.
 *
 * One rule differs from most clients: each pause before a reconnect is random between zero and its bound ("full
 * jitter"), so that a node that leaves does not send all its clients to the next one at the same moment.
 */

const HEARTBEAT_MILLIS = 30_000;
const REPLY_TIMEOUT_MILLIS = 10_000;
const FIRST_PAUSE_MILLIS = 500;
const LONGEST_PAUSE_MILLIS = 10_000;
/** Pushes that wait for a join; older ones are refused first. */
const LONGEST_BUFFER = 100;

/** Random between 0 and a bound that doubles with each attempt. */
function jitteredPause(attempt) {
  const bound = Math.min(LONGEST_PAUSE_MILLIS, FIRST_PAUSE_MILLIS * 2 ** Math.min(attempt, 10));
  return Math.random() * bound;
}

/**
 * Events: "state" when `state` or `retryAt` changed.
 * States: "connecting", "open", "waiting" (until `retryAt`, milliseconds of `Date.now()`).
 */
class PhoenixSocket extends EventTarget {
  constructor(url) {
    super();
    this.url = url;
    this.state = "waiting";
    this.retryAt = 0;
    this.attempt = 0;
    this.channels = new Map();
    this.lastRef = 0;
    this.connection = null;
    this.timers = { retry: 0, heartbeat: 0 };
    this.heartbeatRef = null;
  }

  connect() {
    clearTimeout(this.timers.retry);
    if (this.connection) return;
    const connection = new WebSocket(this.url);
    this.connection = connection;
    this.#become("connecting");
    connection.onopen = () => this.#onOpen();
    connection.onmessage = (event) => this.#onMessage(event.data);
    connection.onclose = () => this.#onClose(connection);
  }

  /** Gives the channel of a topic; `join` it to take part. */
  channel(topic) {
    const existing = this.channels.get(topic);
    if (existing) return existing;
    const channel = new PhoenixChannel(this, topic);
    this.channels.set(topic, channel);
    return channel;
  }

  nextRef() {
    this.lastRef += 1;
    return String(this.lastRef);
  }

  /** Sends one message; false when there is no connection to send it on. */
  send(joinRef, ref, topic, event, payload) {
    if (this.state !== "open") return false;
    this.connection.send(JSON.stringify([joinRef, ref, topic, event, payload]));
    return true;
  }

  #become(state) {
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }

  #onOpen() {
    this.heartbeatRef = null;
    this.timers.heartbeat = setInterval(() => this.#heartbeat(), HEARTBEAT_MILLIS);
    this.#become("open");
    for (const channel of this.channels.values()) channel.socketOpened();
  }

  #onMessage(data) {
    if (typeof data !== "string") return;
    // Any message shows that the server took the last attempt seriously; only then the next pause is short again.
    this.attempt = 0;
    const [joinRef, ref, topic, event, payload] = JSON.parse(data);
    if (topic === "phoenix" && ref === this.heartbeatRef) this.heartbeatRef = null;
    this.channels.get(topic)?.received(joinRef, ref, event, payload);
  }

  #onClose(connection) {
    if (connection !== this.connection) return;
    clearInterval(this.timers.heartbeat);
    this.connection = null;
    this.state = "waiting";
    for (const channel of this.channels.values()) channel.socketClosed();
    const pause = jitteredPause(this.attempt);
    this.attempt += 1;
    this.retryAt = Date.now() + pause;
    this.timers.retry = setTimeout(() => this.connect(), pause);
    this.#become("waiting");
  }

  #heartbeat() {
    if (this.heartbeatRef !== null) {
      // The last one was not answered. The close event of a dead connection may take minutes, so it is not waited for.
      const dead = this.connection;
      dead.close(4000, "heartbeat timeout");
      this.#onClose(dead);
      return;
    }
    this.heartbeatRef = this.nextRef();
    this.send(null, this.heartbeatRef, "phoenix", "heartbeat", {});
  }
}

/**
 * Events: "state" when `state` changed; "message" with `detail` {event, payload}.
 * States: "closed", "joining", "joined", "refused" (`reason` says why; it is tried again).
 */
class PhoenixChannel extends EventTarget {
  constructor(socket, topic) {
    super();
    this.socket = socket;
    this.topic = topic;
    this.state = "closed";
    this.reason = null;
    this.response = null;
    this.wanted = false;
    this.joinRef = null;
    this.attempt = 0;
    this.rejoinTimer = 0;
    this.pending = new Map();
    this.buffer = [];
  }

  /** Joins now, and again after each loss, until `leave`. */
  join() {
    this.wanted = true;
    this.#join();
  }

  leave() {
    this.wanted = false;
    clearTimeout(this.rejoinTimer);
    this.socket.send(this.joinRef, this.socket.nextRef(), this.topic, "phx_leave", {});
    this.socket.channels.delete(this.topic);
    this.#fail("left");
    this.#become("closed");
  }

  /** Sends an event once joined. With `reply` the promise waits for the server's answer, else only for the sending. */
  push(event, payload, { reply = false } = {}) {
    return new Promise((resolve, reject) => {
      this.buffer.push({ event, payload, reply, resolve, reject });
      if (this.buffer.length > LONGEST_BUFFER) this.buffer.shift().reject(new Error("too much is waiting"));
      if (this.state === "joined") this.#flush();
    });
  }

  socketOpened() {
    if (this.wanted) this.#join();
  }

  socketClosed() {
    clearTimeout(this.rejoinTimer);
    this.#fail("connection lost");
    if (this.wanted) this.#become("joining");
  }

  received(joinRef, ref, event, payload) {
    // Messages of an earlier join are late and void.
    if (joinRef !== null && joinRef !== this.joinRef) {
      if (!(event === "phx_reply" && this.pending.has(ref))) return;
    }
    if (event === "phx_reply") this.#answered(ref, payload);
    else if (event === "phx_error" || event === "phx_close") this.#lost(event);
    else this.dispatchEvent(new CustomEvent("message", { detail: { event, payload } }));
  }

  #join() {
    clearTimeout(this.rejoinTimer);
    this.#become("joining");
    const ref = this.socket.nextRef();
    this.joinRef = ref;
    const settle = {
      resolve: (response) => this.#joined(response),
      reject: (error) => this.#refused(error.message),
    };
    if (this.socket.send(ref, ref, this.topic, "phx_join", {})) this.#await(ref, settle);
  }

  #joined(response) {
    this.attempt = 0;
    this.reason = null;
    this.response = response;
    this.#become("joined");
    this.#flush();
  }

  #refused(reason) {
    if (!this.wanted || this.socket.state !== "open") return;
    this.reason = reason;
    this.#become("refused");
    this.attempt += 1;
    // Half of the pause is fixed: a room that is full stays so for a while.
    const pause = FIRST_PAUSE_MILLIS + jitteredPause(this.attempt);
    this.rejoinTimer = setTimeout(() => this.#join(), pause);
  }

  #lost(event) {
    this.#fail("channel lost");
    if (this.wanted) this.#refused(event === "phx_close" ? "closed by the server" : "failed on the server");
  }

  #flush() {
    for (const { event, payload, reply, resolve, reject } of this.buffer.splice(0)) {
      const ref = this.socket.nextRef();
      if (!this.socket.send(this.joinRef, ref, this.topic, event, payload)) reject(new Error("connection lost"));
      else if (reply) this.#await(ref, { resolve, reject });
      else resolve();
    }
  }

  #await(ref, settle) {
    const timer = setTimeout(() => {
      this.pending.delete(ref);
      settle.reject(new Error("no answer in time"));
    }, REPLY_TIMEOUT_MILLIS);
    this.pending.set(ref, { ...settle, timer });
  }

  #answered(ref, payload) {
    const waiting = this.pending.get(ref);
    if (!waiting) return;
    this.pending.delete(ref);
    clearTimeout(waiting.timer);
    if (payload.status === "ok") waiting.resolve(payload.response);
    else waiting.reject(new Error(payload.response?.reason ?? payload.status));
  }

  #fail(reason) {
    const waiting = [...this.pending.values()];
    this.pending.clear();
    for (const { timer, reject } of waiting) {
      clearTimeout(timer);
      reject(new Error(reason));
    }
  }

  #become(state) {
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}
