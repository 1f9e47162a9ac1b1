/**
 * Asks for the figures every two seconds while the page is seen, and puts them into the document.
 *
 * Text is only ever put in as text. What has not changed is left alone, so that screen readers stay where they are and say nothing;
 * only the sentence about health is announced.
 */

const PERIOD_MILLIS = 2_000;
/** A node that does not answer for so long is taken for gone; the next try follows. */
const PATIENCE_MILLIS = 10_000;
const POINTS = 60;
const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [120, 32];

const at = id => document.getElementById(id);
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

/** What the page knows, for tests in a browser: `window.channelDashboard`. */
const page = { polls: 0, data: null };
window.channelDashboard = page;

// --- texts ---

const count = value => (value < 10 && !Number.isInteger(value) ? short.format(value) : whole.format(value));
const percent = ratio => `${whole.format(ratio * 100)} %`;
const times = (number, one, many) => `${count(number)} ${number === 1 ? one : many}`;

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; value >= 1_024 && unit < units.length - 1; unit += 1) value /= 1_024;
  return `${short.format(value)} ${units[unit]}`;
}

function duration(seconds) {
  if (seconds < 120) return `${whole.format(seconds)} s`;
  if (seconds < 7_200) return `${whole.format(Math.floor(seconds / 60))} min`;
  if (seconds < 172_800) return `${whole.format(Math.floor(seconds / 3_600))} h`;
  return `${whole.format(Math.floor(seconds / 86_400))} days`;
}

// --- the document ---

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const show = (id, text) => say(at(id), text);

function hide(element, hidden) {
  if (element.hidden !== hidden) element.hidden = hidden;
}

/** As many children as there are items, each as `fill` makes it; those that are there are used again. */
function fill(parent, items, make, change) {
  while (parent.children.length > items.length) parent.lastElementChild.remove();
  items.forEach((item, n) => {
    if (!parent.children[n]) parent.append(make());
    change(parent.children[n], item);
  });
}

const line = () => document.createElement("li");

/** The rows of a table: each an array of texts, of which the first is the row's heading, with `bad` for rows that need a look. */
function rows(id, items) {
  fill(at(id), items, () => document.createElement("tr"), (row, { cells, bad }) => {
    row.className = bad ? "bad" : "";
    fill(row, cells, () => heading(row), say);
  });
}

function heading(row) {
  if (row.children.length > 0) return document.createElement("td");
  const made = document.createElement("th");
  made.scope = "row";
  return made;
}

// --- sparklines ---

const seen = new Map();

/** One value more of a figure: a line of those so far, and the highest of them for who does not see it. */
function spark(id, value, text) {
  const points = seen.get(id) ?? [];
  seen.set(id, points);
  points.push(value);
  if (points.length > POINTS) points.shift();
  const most = Math.max(...points);
  const place = at(`${id}-spark`);
  if (!place.firstChild) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    svg.append(document.createElementNS(SVG, "polyline"));
    place.append(svg);
  }
  const x = n => WIDTH - (points.length - 1 - n) * (WIDTH / (POINTS - 1));
  const y = point => HEIGHT - 2 - (most > 0 ? point / most : 0) * (HEIGHT - 4);
  const drawn = points.map((point, n) => `${x(n).toFixed(1)},${y(point).toFixed(1)}`).join(" ");
  place.querySelector("polyline").setAttribute("points", drawn);
  return `most seen: ${text(most)}`;
}

// --- parts of the page ---

function showHealth({ healthy, sentence, details }) {
  at("verdict").dataset.state = healthy ? "good" : "bad";
  show("health", sentence);
  fill(at("details"), details, line, say);
}

function showFigures({ figures, memory }) {
  const { connections, connections_limit, writes_per_second, writes_per_message } = figures;
  show("connections", count(connections));
  const most = spark("connections", connections, count);
  show("connections-note", `of ${count(connections_limit)}; ${most}; ${times(figures.rooms, "room", "rooms")}`);
  show("writes", count(writes_per_second));
  const messages = times(figures.messages_per_second, "message/s", "messages/s");
  show("writes-note", `${messages}; ${spark("writes", writes_per_second, count)}`);
  show("amplification", writes_per_message === null ? "no messages" : count(writes_per_message));
  show("amplification-note", spark("amplification", writes_per_message ?? 0, count));
  show("busiest", percent(figures.utilization));
  show("busiest-note", spark("busiest", figures.utilization, percent));
  const millis = value => `${count(value)} ms`;
  show("oldest", millis(figures.oldest_queued_millis));
  const queued = `${bytes(figures.send_queue_bytes)} queued`;
  show("oldest-note", `${queued}; ${spark("oldest", figures.oldest_queued_millis, millis)}`);
  show("held", bytes(memory.held_bytes));
  const budget = memory.budget_bytes === null ? "no budget" : `budget ${bytes(memory.budget_bytes)}`;
  show("held-note", `${budget}; ${spark("held", memory.held_bytes, bytes)}`);
}

function showFleet({ fleet, node, cluster, namespace }) {
  const sums = [
    times(fleet.nodes, "node", "nodes"),
    times(fleet.connections, "connection", "connections"),
    times(fleet.rooms, "room", "rooms"),
    `${count(fleet.writes_per_second)} writes/s`,
  ];
  const more = fleet.nodes - fleet.list.length;
  const others = more > 0 ? ` The table lacks ${count(more)} of them.` : "";
  const part = fleet.partial ? " There may be more: this node does not hear all others now." : "";
  show("fleet-sum", `${sums.join(", ")}.${others}${part}`);
  const silent = fleet.silent.map(one => `${one.node} (${duration(one.seconds)})`);
  show("silent", `Did not answer: ${silent.join(", ")}.`);
  hide(at("silent"), silent.length === 0);
  const cells = one => [
    one.node === node ? `${one.node} (this one)` : one.node,
    one.phase,
    count(one.connections),
    count(one.rooms),
    count(one.writes_per_second),
    busy(one),
  ];
  rows("nodes", fleet.list.map(one => ({ cells: cells(one), bad: one.hot || one.phase !== "Serving" })));
  if (cluster) show("explain", `kubectl channels explain ${cluster}${namespace ? ` -n ${namespace}` : ""}`);
}

const busy = ({ utilization, hot }) => (hot ? `${percent(utilization)}, hot` : percent(utilization));

function showTop(top) {
  hide(at("top"), !top);
  if (!top) return;
  const row = ({ topic, members, writes_per_second, bytes_per_second }) => ({
    cells: [topic, count(writes_per_second), bytes(bytes_per_second), count(members)],
  });
  rows("top-writes", (top.by_writes ?? []).map(row));
  rows("top-members", (top.by_members ?? []).map(row));
}

function showInside({ shards, memory, limits, tuning }) {
  rows("shards", shards.map(one => ({
    cells: [String(one.shard), count(one.connections), count(one.writes_per_second), busy(one)],
    bad: one.hot,
  })));
  const kinds = memory.kinds.map(({ kind, bytes: held }) => ({ cells: [kind, bytes(held)] }));
  const limit = memory.limit_bytes === null ? [] : [{ cells: ["limit of the cgroup", bytes(memory.limit_bytes)] }];
  rows("memory", [
    ...kinds,
    { cells: ["together", bytes(memory.held_bytes)] },
    { cells: ["most used part of a shard", percent(memory.used_ratio)] },
    { cells: ["resident memory of the process", bytes(memory.resident_bytes)] },
    ...limit,
  ]);
  const reached = limits.filter(({ since_start }) => since_start > 0);
  hide(at("no-limits"), reached.length > 0);
  hide(at("limits-table"), reached.length === 0);
  rows("limits", reached.map(one => ({
    cells: [one.limit, count(one.in_last_minute), count(one.since_start)],
    bad: one.of_node && one.in_last_minute > 0,
  })));
  rows("tuning", tuning.map(({ name, asked, got, as_asked }) => {
    const state = asked === null ? "not asked" : as_asked ? "as asked" : "differs";
    return { cells: [name, asked ?? "–", got ?? "not readable", state], bad: !as_asked };
  }));
}

function showMoves({ phase, ready, connections, operation, last }) {
  const told = of =>
    `${times(of.moved, "client", "clients")} with ${times(of.moved_writes_per_second, "write/s", "writes/s")}${of.done ? ", done" : ""}`;
  const left = phase === "Serving" || phase === "Starting" ? "" : `, ${times(connections, "connection", "connections")} left`;
  show("phase", `${phase}${left}`);
  show("ready", ready ? "yes" : "no");
  show("moving", operation ? told(operation) : "nothing");
  show("moved", last ? told(last) : "nothing since the node started");
}

function render(data) {
  page.data = data;
  showHealth(data.health);
  show("node", data.node);
  show("build", data.build);
  show("uptime", duration(data.uptime_seconds));
  show("time", new Date().toLocaleTimeString());
  hide(at("logout"), !data.login);
  const title = `${data.health.healthy ? "Healthy" : "Not healthy"}: ${data.node}, ChannelCluster`;
  if (document.title !== title) document.title = title;
  showFigures(data);
  showFleet(data);
  showTop(data.top_rooms);
  showInside(data);
  showMoves(data.moves);
  page.polls += 1;
}

// --- the rhythm ---

let timer = null;
let asking = false;
let paused = false;

const isIdle = () => paused || document.hidden;

async function poll() {
  timer = null;
  if (asking || isIdle()) return;
  asking = true;
  try {
    const answer = await fetch("/dashboard/data", { signal: AbortSignal.timeout(PATIENCE_MILLIS) });
    if (answer.status === 401) return location.assign("/dashboard/login");
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    render(await answer.json());
  } catch {
    at("verdict").dataset.state = "bad";
    show("health", "Not known: this node does not answer. The figures are those of before.");
  } finally {
    asking = false;
  }
  if (!isIdle()) timer = setTimeout(poll, PERIOD_MILLIS);
}

/** Asks at once when the page is seen again or goes on, and not at all before. */
function wake() {
  clearTimeout(timer);
  timer = null;
  if (!isIdle()) poll();
}

document.addEventListener("visibilitychange", wake);
at("pause").addEventListener("click", () => {
  paused = !paused;
  at("pause").setAttribute("aria-pressed", String(paused));
  wake();
});
poll();
