/**
 * The page: a chat room on one side, the fleet's live figures on the other.
 *
 * Text of others is only ever put in as text (`textContent`), never as markup.
 */

const SHOWN_MESSAGES = 500;
const SPARK_POINTS = 60;
const SPARK_WIDTH = 240;
const SPARK_HEIGHT = 48;
const DEFAULT_ROOM = "room:lobby";
const CLUSTER_TOPIC = "$cluster";
const NAME_KEY = "channelcluster.name";

const at = (id) => document.getElementById(id);
const number = new Intl.NumberFormat();

/** What the page knows, for tests in a browser: `window.channelCluster`. */
const page = {
  state: "waiting",
  joined: false,
  room: null,
  node: null,
  reconnects: 0,
  messages: [],
  figures: null,
};
window.channelCluster = page;

const socketPath = document.querySelector("meta[name=socket-path]").content;
const scheme = location.protocol === "https:" ? "wss:" : "ws:";
const socket = new PhoenixSocket(`${scheme}//${location.host}${socketPath}/websocket?vsn=2.0.0`);
const cluster = socket.channel(CLUSTER_TOPIC);
let room = null;

/** An element with text, and children instead of markup. */
function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// --- connection ---

function showConnection() {
  const states = { connecting: "Connecting…", open: "Connected", waiting: "Reconnecting…" };
  let text = states[socket.state];
  if (socket.state === "waiting" && socket.retryAt > Date.now()) {
    text = `Reconnecting in ${Math.ceil((socket.retryAt - Date.now()) / 1000)} s`;
  }
  const pill = at("connection");
  pill.dataset.state = socket.state;
  if (pill.textContent !== text) pill.textContent = text;
}

socket.addEventListener("state", () => {
  if (socket.state === "waiting" && page.state === "open") page.reconnects += 1;
  page.state = socket.state;
  if (socket.state !== "open") showNode(null);
  showConnection();
});
setInterval(showConnection, 250);
addEventListener("online", () => socket.connect());

function showNode(node) {
  page.node = node;
  at("node").textContent = node ?? "–";
}

// --- room ---

function roomFromHash() {
  try {
    return decodeURIComponent(location.hash.slice(1)) || DEFAULT_ROOM;
  } catch {
    return DEFAULT_ROOM;
  }
}

function enterRoom(topic) {
  if (room?.topic === topic) return;
  room?.leave();
  room = socket.channel(topic);
  Object.assign(page, { room: topic, joined: false, messages: [] });
  at("messages").replaceChildren();
  at("room").value = topic;
  document.title = `${topic} · ChannelCluster`;
  room.addEventListener("state", showRoom);
  room.addEventListener("message", ({ detail }) => {
    if (detail.event === "message") showMessage(detail.payload);
  });
  room.join();
}

function showRoom() {
  page.joined = room.state === "joined";
  const texts = {
    joined: `You are in ${room.topic}.`,
    joining: `Joining ${room.topic}…`,
    refused: `${room.topic}: ${room.reason}. Trying again.`,
    closed: "",
  };
  at("room-state").textContent = texts[room.state];
  at("send").disabled = !page.joined;
}

function showMessage({ id, user, text }) {
  const message = { id: String(id ?? ""), user: String(user ?? "?"), text: String(text ?? "") };
  const known = message.id && page.messages.find((other) => other.id === message.id);
  if (known) {
    known.item.classList.remove("sending");
    return;
  }
  addMessage(message);
}

function addMessage(message) {
  const log = at("messages");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  const item = element("li", message.own ? "own sending" : "");
  const author = element("span", "author", message.user);
  author.style.setProperty("--hue", hue(message.user));
  const time = element("time", "", new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  item.append(author, time, element("p", "", message.text));
  log.append(item);
  // Not enumerable, so that tests get plain data.
  page.messages.push(Object.defineProperty(message, "item", { value: item }));
  while (page.messages.length > SHOWN_MESSAGES) page.messages.shift().item.remove();
  if (atEnd || message.own) log.scrollTop = log.scrollHeight;
}

/** One colour per name. */
function hue(name) {
  let sum = 0;
  for (const char of name) sum = (sum * 31 + char.codePointAt(0)) % 360;
  return sum;
}

function send(text) {
  const message = { id: crypto.getRandomValues(new Uint32Array(2)).join("-"), user: userName(), text, own: true };
  addMessage(message);
  const { id, user } = message;
  room.push("message", { id, user, text }).then(
    // A room may be told not to echo to the sender: what was sent counts as shown.
    () => message.item.classList.remove("sending"),
    (error) => {
      message.item.classList.replace("sending", "failed");
      message.item.append(element("p", "problem", `Not sent: ${error.message}`));
    },
  );
}

// --- name ---

function userName() {
  return at("name").value.trim() || at("name").placeholder;
}

/** Storage may be forbidden; then the name lasts as long as the page. */
function remembered(write) {
  try {
    if (write !== undefined) localStorage.setItem(NAME_KEY, write);
    return localStorage.getItem(NAME_KEY) ?? "";
  } catch {
    return "";
  }
}

// --- fleet ---

const writesSeen = [];

function showFigures(figures) {
  page.figures = figures;
  at("fleet").hidden = false;
  at("nodes").textContent = number.format(figures.nodes);
  at("connections").textContent = number.format(figures.connections);
  at("rooms").textContent = number.format(figures.rooms);
  at("writes").textContent = number.format(figures.writesPerSecond);
  writesSeen.push(figures.writesPerSecond);
  if (writesSeen.length > SPARK_POINTS) writesSeen.shift();
  drawSpark();
  at("node-list").replaceChildren(...figures.list.map(nodeRow));
  const more = figures.nodes - figures.list.length;
  at("more-nodes").textContent = more > 0 ? `and ${number.format(more)} more` : "";
}

function nodeRow({ node, phase, connections, writesPerSecond, utilization }) {
  const row = element("tr", node === page.node ? "here" : "");
  const name = element("th", "", node);
  name.scope = "row";
  if (node === page.node) name.append(element("span", "you", "you"));
  if (phase !== "Serving") name.append(element("span", "phase", phase.toLowerCase()));
  const load = element("meter");
  load.min = 0;
  load.max = 1;
  load.high = 0.8;
  load.value = utilization;
  load.textContent = `${Math.round(utilization * 100)} %`;
  load.title = load.textContent;
  load.setAttribute("aria-label", `Utilization of ${node}`);
  const cell = element("td");
  cell.append(load);
  row.append(name, element("td", "", number.format(connections)), element("td", "", number.format(writesPerSecond)), cell);
  return row;
}

function drawSpark() {
  const highest = Math.max(1, ...writesSeen);
  const step = SPARK_WIDTH / (SPARK_POINTS - 1);
  const points = writesSeen.map((value, index) => {
    const x = SPARK_WIDTH - (writesSeen.length - 1 - index) * step;
    const y = SPARK_HEIGHT - 2 - (value / highest) * (SPARK_HEIGHT - 4);
    return `${x.toFixed(1)},${y.toFixed(1)}`;
  });
  const [first] = points[0].split(",");
  at("spark-line").setAttribute("points", points.join(" "));
  at("spark-area").setAttribute("points", `${first},${SPARK_HEIGHT} ${points.join(" ")} ${SPARK_WIDTH},${SPARK_HEIGHT}`);
  at("spark-peak").textContent = `peak ${number.format(highest)}/s in the last minute`;
}

cluster.addEventListener("state", () => {
  if (cluster.state === "joined") showNode(cluster.response.node);
});
cluster.addEventListener("message", ({ detail }) => {
  if (detail.event === "stats") showFigures(detail.payload);
});

// --- start ---

at("name").placeholder = `guest-${Math.floor(Math.random() * 9000 + 1000)}`;
at("name").value = remembered();
at("name").addEventListener("change", () => remembered(at("name").value.trim()));
at("room-form").addEventListener("submit", (event) => {
  event.preventDefault();
  location.hash = encodeURIComponent(at("room").value.trim() || DEFAULT_ROOM);
});
at("message-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = at("text").value.trim();
  if (!text || !page.joined) return;
  send(text);
  at("text").value = "";
});
addEventListener("hashchange", () => enterRoom(roomFromHash()));
cluster.join();
enterRoom(roomFromHash());
socket.connect();
