// The figures beside the picture: frame rate, latency by step, processor.

const KEEP = 0.85; // of the last shown value: figures that can be read, and still follow
const HISTORY = 150;
const element = (id) => document.getElementById(id);

let smooth = {};
let history = [];
let known = []; // steps seen so far, in the pipeline's order
let drawn = 0;

export function forget() {
  smooth = {};
  history = [];
  known = [];
}

// A step that not every frame takes, such as a search for new faces, keeps its row, between its neighbours.
function learn(steps) {
  steps.forEach((step, index) => {
    if (!known.includes(step)) known.splice(known.indexOf(steps[index - 1]) + 1, 0, step);
  });
}

function follow(name, value) {
  smooth[name] = smooth[name] === undefined ? value : KEEP * smooth[name] + (1 - KEEP) * value;
  return smooth[name];
}

const number = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));

export function showFigures(frame) {
  const total = Object.values(frame.steps_ms).reduce((sum, one) => sum + one, 0);
  history.push(total);
  if (history.length > HISTORY) history.shift();
  const rate = follow("rate", frame.rate);
  const latency = follow("latency", total);
  learn(Object.keys(frame.steps_ms));
  const steps = known.map((step) => [step, follow(`step ${step}`, frame.steps_ms[step] || 0)]);
  // Ten times a second is all that can be read.
  if (performance.now() - drawn < 100) return;
  drawn = performance.now();
  element("rate").textContent = rate.toFixed(rate >= 100 ? 0 : 1);
  element("faces").textContent = frame.faces.length;
  element("latency").textContent = number(latency);
  element("cpu").textContent = frame.cpu === null ? "–" : frame.cpu.toFixed(frame.cpu < 10 ? 1 : 0);
  showSteps(steps, latency);
  drawHistory(element("history"));
}

function showSteps(steps, total) {
  const list = element("steps");
  const names = [...steps.map(([step]) => step), "total"];
  if (list.dataset.steps !== names.join()) {
    list.dataset.steps = names.join();
    list.replaceChildren(...names.map(row));
  }
  const longest = Math.max(...steps.map(([, ms]) => ms), 1e-6);
  [...steps, ["total", total]].forEach(([step, ms], index) => {
    const item = list.children[index];
    item.children[2].textContent = `${number(ms)} ms`;
    if (step !== "total") item.children[1].firstChild.style.width = `${(100 * ms) / longest}%`;
  });
}

function row(name) {
  const item = document.createElement("li");
  const [label, bar, value] = ["span", "span", "span"].map((tag) => document.createElement(tag));
  label.textContent = name;
  if (name === "total") item.className = "total";
  else {
    bar.className = "bar";
    bar.append(document.createElement("i"));
  }
  item.append(label, bar, value);
  return item;
}

function drawHistory(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  const top = Math.max(...history) * 1.1 || 1;
  const place = (value, index) => [
    width - ((history.length - 1 - index) * width) / (HISTORY - 1), height - (value / top) * (height - 2 * ratio),
  ];
  context.beginPath();
  history.forEach((value, index) => context.lineTo(...place(value, index)));
  context.lineWidth = 1.5 * ratio;
  context.strokeStyle = "#53b7ff";
  context.stroke();
  context.lineTo(width, height);
  context.lineTo(place(history[0], 0)[0], height);
  context.fillStyle = "rgba(83, 183, 255, 0.14)";
  context.fill();
}
