const element = (id) => document.getElementById(id);
const [body, image] = [document.body, element("image")];
const SILENCE = 5000; // ms without an event; the server sends one every second
const RETRY = 2000; // ms
const SMOOTH = 0.85; // of the last shown value: figures that can be read
const LINKS = {
  connecting: "Connecting", live: "Live", paused: "Paused", waiting: "Waiting for frames", lost: "Reconnecting",
  full: "Too many viewers", token: "No access: open the address that kpedge printed",
};
const NAMES = { boxes: "Boxes", points: "Points", ids: "Labels", pose: "Pose", mirror: "Mirror" };

let state = null;
let events = null;
let heard = 0; // when the last event arrived
let framed = 0; // when the last frame arrived
let sending = 0; // changes that the server has not confirmed: events may still carry the state before them
let smooth = {};
let written = 0;

// --- connection

function setLink(name) {
  body.dataset.link = name;
  element("link").textContent = LINKS[name];
  for (const one of document.querySelectorAll("aside button, aside input")) one.disabled = !events;
}

function disconnect() {
  if (events) events.close();
  events = null;
  image.removeAttribute("src");
}

async function connect() {
  disconnect();
  if (document.hidden) return; // nobody looks: the server need not encode images
  try {
    const answer = await fetch("state");
    if (!answer.ok) return setLink(answer.status === 401 ? "token" : "lost");
    const told = await answer.json();
    if (told.viewers + 2 > told.limit) return setLink("full");
    if (events || document.hidden) return;
    show(told);
  } catch {
    return setLink("lost");
  }
  smooth = {};
  heard = performance.now();
  framed = -Infinity;
  image.src = `stream.mjpg?${heard}`;
  events = new EventSource("events");
  events.addEventListener("state", (event) => show(JSON.parse(event.data)));
  events.addEventListener("frame", (event) => showFrame(JSON.parse(event.data)));
  setLink("waiting");
}

setInterval(() => {
  if (!events) return;
  const now = performance.now();
  if (now - heard > SILENCE || events.readyState !== EventSource.OPEN && now - heard > 500) {
    disconnect();
    setLink("lost");
  } else setLink(state.paused ? "paused" : now - framed > 3000 ? "waiting" : "live");
}, 250);
setInterval(() => { if (!events) connect(); }, RETRY);
document.addEventListener("visibilitychange", connect);

// --- what the server sends

function showFrame(frame) {
  show(frame);
  framed = heard;
  const total = Object.values(frame.steps_ms).reduce((sum, one) => sum + one, 0);
  const values = { rate: frame.rate, latency: total, ...frame.steps_ms };
  for (const name of Object.keys({ ...smooth, ...values })) {
    const value = values[name] || 0; // a stage that this frame did not need
    smooth[name] = smooth[name] === undefined ? value : SMOOTH * smooth[name] + (1 - SMOOTH) * value;
  }
  body.dataset.frame = frame.frame;
  if (heard - written < 100) return; // ten times a second is all that can be read
  written = heard;
  const { rate, latency, ...stages } = smooth;
  element("rate").textContent = rate.toFixed(1);
  element("latency").textContent = latency.toFixed(2);
  element("faces").textContent = frame.faces.length;
  element("cpu").textContent = frame.cpu === null ? "–" : frame.cpu.toFixed(0);
  element("caption").textContent = `${frame.size.join(" × ")} · frame ${frame.frame} · ${frame.time_s.toFixed(1)} s`;
  element("steps").replaceChildren(...Object.entries(stages).map(([name, value]) => row(name, `${value.toFixed(2)} ms`)));
}

function row(...texts) {
  const line = document.createElement("tr");
  line.append(...texts.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
  return line;
}

function show(told) {
  heard = performance.now();
  element("source").textContent = told.source || "";
  document.title = told.source ? `${told.source} · kpedge` : "kpedge";
  if (!sending) state = told;
  showControls();
}

function showControls() {
  element("pause").setAttribute("aria-pressed", state.paused);
  element("pause").firstChild.textContent = state.paused ? "Resume" : "Pause";
  element("snapshot").firstChild.textContent = state.snapshot ? "Saving…" : "Snapshot";
  element("threshold").value = state.threshold;
  element("threshold-value").textContent = state.threshold.toFixed(2);
  const group = element("layers");
  if (!group.children.length) group.append(...Object.keys(state.layers).map(layerButton));
  for (const button of group.children) button.setAttribute("aria-pressed", state.layers[button.dataset.layer]);
}

// --- controls

function layerButton(layer) {
  const button = document.createElement("button");
  const key = Object.assign(document.createElement("kbd"), { textContent: keyOf(layer) });
  button.dataset.layer = layer;
  button.append(NAMES[layer] || layer, " ", key);
  button.addEventListener("click", () => toggle(layer));
  return button;
}

// The first letter of its name that no layer before it took; s takes a snapshot.
function keyOf(layer) {
  const taken = new Set("s");
  for (const name of Object.keys(state.layers)) {
    const key = [...name].find((letter) => !taken.has(letter)) || "";
    if (name === layer) return key;
    taken.add(key);
  }
  return "";
}

async function change(wanted) {
  if (!events) return;
  state = { ...state, ...wanted, layers: { ...state.layers, ...wanted.layers } };
  sending++;
  showControls();
  const headers = { "Content-Type": "application/json" };
  try {
    await fetch("control", { method: "POST", headers, body: JSON.stringify(wanted) });
  } catch {
    setLink("lost");
  }
  sending--;
}

const toggle = (layer) => change({ layers: { [layer]: !state.layers[layer] } });
const pause = () => change({ paused: !state.paused });
const setThreshold = (value) => change({ threshold: Math.round(Math.min(1, Math.max(0, value)) * 100) / 100 });

element("pause").addEventListener("click", pause);
element("snapshot").addEventListener("click", () => change({ snapshot: true }));
element("threshold").addEventListener("input", (event) => setThreshold(Number(event.target.value)));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !events) return;
  const layer = Object.keys(state.layers).find((name) => keyOf(name) === event.key.toLowerCase());
  if (event.key === " " && event.target.tagName !== "BUTTON") pause();
  else if (event.key === "s" && !event.repeat) change({ snapshot: true });
  else if (event.key === "[") setThreshold(state.threshold - 0.05);
  else if (event.key === "]") setThreshold(state.threshold + 0.05);
  else if (layer && !event.repeat) toggle(layer);
  else return;
  event.preventDefault();
});

// The cookie takes the token's place: it need not stay in the address, where others could read it.
if (location.search) history.replaceState(null, "", location.pathname);
connect();
