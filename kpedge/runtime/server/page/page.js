import { drawFrame } from "./draw.js";
import { forget, showFigures } from "./panel.js";

const element = (id) => document.getElementById(id);
const canvas = element("canvas");

const FETCHES = 2; // pictures on the way at a time: a far server's answers overlap, a slow link is not flooded
const SILENCE = 6000; // ms without a word from the server, which says something every other second
const IDLE = 3000; // ms without a frame after which the page says so
const NAMES = { boxes: "Boxes", points: "Points", ids: "Labels", pose: "Pose", mirror: "Mirror" };
const LINKS = {
  connecting: ["Connecting", "Connecting"],
  live: ["Live", ""],
  paused: ["Paused", "Paused"],
  waiting: ["Waiting", "Waiting for frames"],
  lost: ["Reconnecting", "Connection lost, trying again"],
  full: ["Full", "Too many are watching, trying again"],
  token: ["No access", "A token is needed: open the address that kpedge printed"],
};

let scheme = null;
let state = null;
let changes = {}; // that the server has not confirmed yet
let sending = false;
let shown = null; // { frame, bitmap }
let newest = null; // the newest event
let asked = 0; // number of the last picture that was asked for
let fetching = 0;
let run = 0; // of the connection: answers to an older one are dropped
let events = null;
let heard = 0;
let framed = 0;
let delay = 500;
let retry = 0;
let link = "connecting";

// --- connection

function setLink(name) {
  link = name;
  if (document.body.dataset.link === name) return;
  document.body.dataset.link = name;
  element("link-text").textContent = LINKS[name][0];
  element("notice").textContent = LINKS[name][1];
  const usable = ["live", "paused", "waiting"].includes(name);
  for (const one of document.querySelectorAll("aside button, aside input")) one.disabled = !usable;
}

function viewerName() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function connect() {
  close();
  const mine = ++run;
  try {
    const answer = await fetch("state");
    if (mine !== run) return;
    if (answer.status === 401) return later("token");
    if (!answer.ok) return later("lost");
    const told = await answer.json();
    if (mine !== run) return;
    applyState(told, true); // a server that was started again counts from the beginning
    if (told.viewers >= told.limit) return later("full");
  } catch {
    if (mine === run) later("lost");
    return;
  }
  const viewer = viewerName();
  events = new EventSource(`events?viewer=${viewer}`);
  events.onopen = () => {
    [newest, asked, delay] = [null, 0, 500];
    heard = framed = performance.now();
    forget();
    look();
  };
  events.onerror = () => later("lost");
  events.addEventListener("alive", () => { heard = performance.now(); });
  events.addEventListener("state", (event) => {
    heard = performance.now();
    applyState(JSON.parse(event.data));
  });
  events.addEventListener("frame", (event) => {
    heard = framed = performance.now();
    newest = JSON.parse(event.data);
    fetchPictures(mine, viewer);
    look();
  });
}

function close() {
  clearTimeout(retry);
  if (events) events.close();
  events = null;
}

function later(why) {
  run++;
  close();
  setLink(why);
  retry = setTimeout(connect, delay);
  delay = Math.min(delay * 1.6, 4000);
}

function look() {
  if (!events || events.readyState !== EventSource.OPEN) return;
  const now = performance.now();
  if (now - heard > SILENCE) later("lost");
  else if (state.paused) setLink("paused");
  else setLink(now - framed > IDLE || !shown ? "waiting" : "live");
}

setInterval(look, 500);
document.addEventListener("visibilitychange", () => {
  // Nobody looks: the server need not encode pictures for this page.
  if (document.hidden) {
    run++;
    close();
  } else if (!events) connect();
});

// --- pictures

function fetchPictures(mine, viewer) {
  while (mine === run && fetching < FETCHES && newest && newest.picture > asked) {
    const frame = newest;
    asked = frame.picture;
    fetching++;
    fetch(`frames/${frame.picture}.jpg?viewer=${viewer}`)
      .then((answer) => (answer.ok ? answer.blob() : null))
      .then((blob) => (blob ? createImageBitmap(blob) : null))
      .then((bitmap) => { if (bitmap) show(mine, frame, bitmap); })
      .catch(() => {}) // the event stream ends too, and says so
      .finally(() => {
        fetching--;
        fetchPictures(mine, viewer);
      });
  }
}

function show(mine, frame, bitmap) {
  if (mine !== run || (shown && shown.run === run && shown.frame.picture >= frame.picture)) {
    bitmap.close();
    return;
  }
  if (shown) shown.bitmap.close();
  shown = { frame, bitmap, run };
  look();
  redraw();
  showFigures(frame);
  const [width, height] = frame.size;
  element("caption").textContent = `${width} × ${height} · frame ${frame.frame} · ${frame.time_s.toFixed(1)} s`;
}

let drawing = 0;
function redraw() {
  if (drawing) return;
  drawing = requestAnimationFrame(() => {
    drawing = 0;
    if (!shown) return;
    drawFrame(canvas, shown.bitmap, shown.frame, scheme, current().layers);
    canvas.dataset.picture = shown.frame.picture;
  });
}
new ResizeObserver(redraw).observe(element("frame"));

// --- controls

function current() {
  return { ...state, ...changes, layers: { ...state.layers, ...(changes.layers || {}) } };
}

function applyState(told, first = false) {
  if (!first && told.revision < state.revision) return;
  if (JSON.stringify(told.scheme) !== JSON.stringify(scheme)) {
    scheme = told.scheme;
    showLegend();
  }
  if (state && state.snapshot && !told.snapshot) toast("Snapshot saved");
  state = told;
  if (told.source) {
    element("source").textContent = element("source").title = told.source;
    document.title = `${told.source} · kpedge`;
  }
  showControls();
  look();
}

function showControls() {
  const now = current();
  const pause = element("pause");
  pause.setAttribute("aria-pressed", now.paused);
  pause.querySelector("span").textContent = now.paused ? "Resume" : "Pause";
  element("snapshot").querySelector("span").textContent = now.snapshot ? "Saving…" : "Snapshot";
  element("threshold").value = now.threshold;
  element("threshold-value").textContent = now.threshold.toFixed(2);
  showLayers(now.layers);
  redraw();
}

function showLayers(layers) {
  const group = element("layers");
  if (group.dataset.layers !== Object.keys(layers).join()) {
    group.dataset.layers = Object.keys(layers).join();
    group.replaceChildren(...Object.keys(layers).map((layer) => {
      const button = document.createElement("button");
      const key = document.createElement("kbd");
      key.textContent = keyOf(layer);
      button.dataset.layer = layer;
      button.setAttribute("aria-keyshortcuts", key.textContent);
      button.append(NAMES[layer] || layer, key);
      button.addEventListener("click", () => toggle(layer));
      return button;
    }));
  }
  for (const button of group.children) button.setAttribute("aria-pressed", layers[button.dataset.layer]);
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

function showLegend() {
  element("legend").replaceChildren(...Object.keys(scheme.parts).map((part) => {
    const [item, dot] = [document.createElement("span"), document.createElement("i")];
    dot.style.background = scheme.colours[part];
    item.append(dot, part);
    return item;
  }));
}

function change(wanted) {
  if (!events || !state) return;
  changes = { ...changes, ...wanted, layers: { ...(changes.layers || {}), ...(wanted.layers || {}) } };
  showControls();
  send();
}

async function send() {
  if (sending || !Object.keys(changes).length) return;
  sending = true;
  const sent = JSON.stringify(changes);
  try {
    const answer = await fetch("control", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: sent,
    });
    const told = await answer.json();
    if (!answer.ok) toast(told.error);
    // An event may have told of a later change, by somebody else, before this answer came.
    else if (told.revision > state.revision) state = { ...state, ...told };
  } catch {
    toast("The server did not answer");
  }
  sending = false;
  if (JSON.stringify(changes) === sent) changes = {};
  showControls();
  look();
  send();
}

const toggle = (layer) => change({ layers: { [layer]: !current().layers[layer] } });
const pause = () => change({ paused: !current().paused });
const setThreshold = (value) => change({ threshold: Math.round(Math.min(1, Math.max(0, value)) * 100) / 100 });
function snapshot() {
  change({ snapshot: true });
  toast("Saving a snapshot");
}

element("pause").addEventListener("click", pause);
element("snapshot").addEventListener("click", snapshot);
element("threshold").addEventListener("input", (event) => setThreshold(Number(event.target.value)));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !state || !events) return;
  const layer = Object.keys(state.layers).find((name) => keyOf(name) === event.key.toLowerCase());
  if (event.key === " " && event.target.tagName !== "BUTTON") pause();
  else if (event.key === "s") { if (!event.repeat) snapshot(); }
  else if (event.key === "[") setThreshold(current().threshold - 0.05);
  else if (event.key === "]") setThreshold(current().threshold + 0.05);
  else if (layer && !event.repeat) toggle(layer);
  else return;
  event.preventDefault();
});

let fading = 0;
function toast(text) {
  element("toast").textContent = text;
  element("toast").classList.add("shown");
  clearTimeout(fading);
  fading = setTimeout(() => element("toast").classList.remove("shown"), 2500);
}

// The cookie holds the token's place from here on: it need not stay in the address, where it would be shown.
if (location.search) history.replaceState(null, "", location.pathname);
setLink("connecting");
connect();
