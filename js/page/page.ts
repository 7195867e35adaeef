/** The page: a camera, a photo or a video, the faces drawn, and the results as files. */
import { drawFaces, load, type FaceModel, type Faces } from "../src/kpedge.js";
import { describeProblem, checkBrowser } from "./problems.js";
import { Results } from "./results.js";

const at = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;
const view = at<HTMLCanvasElement>("view");
const video = at<HTMLVideoElement>("video");
const context = view.getContext("2d")!;
const boxes = (id: string): HTMLInputElement => at<HTMLInputElement>(id);

let model: FaceModel;
let results: Results;
/** What is shown: its pixels, kept to be drawn again when a setting changes. */
let shown: { image: CanvasImageSource; faces: Faces } | undefined;
let running: AbortController | undefined;
let lastAnnounced = 0;
const times: number[] = [];

function say(text: string): void {
  at("status").textContent = text;
}

function fail(error: unknown): void {
  at("problem").textContent = describeProblem(error);
  at("problem").hidden = false;
  say("");
}

/** End what runs, and make the page ready for another source. */
function stop(): void {
  running?.abort();
  running = undefined;
  if (video.srcObject instanceof MediaStream) video.srcObject.getTracks().forEach((track) => track.stop());
  if (video.src) URL.revokeObjectURL(video.src);
  video.srcObject = null;
  video.removeAttribute("src");
  at("camera").textContent = "Start camera";
  at<HTMLButtonElement>("pause").disabled = true;
  times.length = 0;
}

function start(): AbortController {
  stop();
  at("problem").hidden = true;
  results = new Results(model.scheme);
  running = new AbortController();
  return running;
}

function draw(): void {
  if (!shown) return;
  const { image, faces } = shown;
  const [width, height] = faces.size;
  if (view.width !== width || view.height !== height) [view.width, view.height] = [width, height];
  const mirror = boxes("mirror").checked;
  view.classList.toggle("mirrored", mirror);
  context.drawImage(image, 0, 0, width, height);
  const [box, points, label] = ["boxes", "points", "labels"].map((id) => boxes(id).checked) as [
    boolean,
    boolean,
    boolean,
  ];
  drawFaces(context, faces.faces, faces.scheme, { box, points, label, mirror });
}

function show(image: CanvasImageSource, faces: Faces, latency: number): void {
  shown = { image, faces };
  at("hint").hidden = true;
  draw();
  const count = faces.faces.length;
  const text = count === 1 ? "1 face" : `${count} faces`;
  at("count").textContent = String(count);
  at("latency").textContent = `${latency.toFixed(latency < 10 ? 1 : 0)} ms`;
  view.setAttribute("aria-label", `Image with ${text}`);
  for (const id of ["snapshot", "json", "csv"]) at<HTMLButtonElement>(id).disabled = false;
  const now = performance.now();
  if (now - lastAnnounced < 500) return; // a table that changes 30 times a second is no use to anyone
  lastAnnounced = now;
  if (at("status").textContent !== text) say(text);
  const cells = faces.faces.map(({ id, score, pose }, place) => [
    String(id ?? place + 1),
    score?.toFixed(2) ?? "",
    ...[pose?.yaw, pose?.pitch, pose?.roll].map((angle) => (angle === undefined ? "" : `${Math.round(angle) || 0}°`)),
  ]);
  at("faces").replaceChildren(
    ...cells.map((row) => {
      const line = document.createElement("tr");
      line.append(...row.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
      return line;
    }),
  );
}

async function showPhoto(file: File): Promise<void> {
  start();
  say("Looking for faces …");
  boxes("mirror").checked = false;
  const image = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const begin = performance.now();
  const faces = await model.detect(image);
  lastAnnounced = 0;
  results.add(faces, { image: file.name });
  show(image, faces, performance.now() - begin);
  at("rate").textContent = "–";
}

async function follow(control: AbortController): Promise<void> {
  at<HTMLButtonElement>("pause").disabled = false;
  let kept = document.createElement("canvas").getContext("2d")!;
  for await (const { image, number, timeS, ...faces } of model.track(video, { signal: control.signal })) {
    if (control.signal.aborted) return;
    [kept.canvas.width, kept.canvas.height] = faces.size;
    kept.drawImage(image, 0, 0);
    results.add(faces, { frame: number, time_s: timeS });
    show(kept.canvas, faces, faces.ms);
    const now = performance.now();
    times.push(now);
    while (times[0]! < now - 2000) times.shift();
    if (times.length > 1) at("rate").textContent = (((times.length - 1) * 1000) / (now - times[0]!)).toFixed(0);
  }
  if (running === control) say("The video has ended.");
}

async function showVideo(file: File): Promise<void> {
  const control = start();
  boxes("mirror").checked = false;
  video.src = URL.createObjectURL(file);
  const following = follow(control);
  await video.play();
  await following;
}

async function showCamera(): Promise<void> {
  if (running && video.srcObject) {
    stop();
    say("The camera is off.");
    return;
  }
  const control = start();
  if (!navigator.mediaDevices) throw new DOMException("", window.isSecureContext ? "NotFoundError" : "SecurityError");
  const device = at<HTMLSelectElement>("device").value;
  say("Waiting for the camera …");
  const size = { width: { ideal: 640 }, height: { ideal: 480 } };
  const wanted = device ? { deviceId: { exact: device } } : { facingMode: "user" };
  const stream = await navigator.mediaDevices.getUserMedia({ video: { ...size, ...wanted }, audio: false });
  if (control.signal.aborted) return stream.getTracks().forEach((track) => track.stop());
  stream.getVideoTracks()[0]!.addEventListener("ended", () => {
    if (running !== control) return;
    stop();
    fail(new Error("The camera was disconnected. Connect it and start it again."));
  });
  at("camera").textContent = "Stop camera";
  boxes("mirror").checked = true;
  video.srcObject = stream;
  await listCameras(stream);
  const following = follow(control);
  await video.play();
  await following;
}

async function listCameras(stream: MediaStream): Promise<void> {
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter((one) => one.kind === "videoinput");
  const own = stream.getVideoTracks()[0]!.getSettings().deviceId;
  at("devices").hidden = cameras.length < 2;
  at("device").replaceChildren(
    ...cameras.map(
      (one, place) => new Option(one.label || `Camera ${place + 1}`, one.deviceId, false, one.deviceId === own),
    ),
  );
}

async function open(file: File | undefined): Promise<void> {
  if (!file) return;
  const kind = file.type.split("/")[0];
  try {
    if (kind === "image") await showPhoto(file);
    else if (kind === "video") await showVideo(file);
    else throw new Error(`${file.name} is neither a photo nor a video.`);
  } catch (error) {
    if (kind === "image" || kind === "video") {
      stop();
      const unreadable = error instanceof DOMException && error.name !== "AbortError";
      if (unreadable)
        return fail(new Error(`This browser cannot read ${file.name}. Convert it to JPEG, PNG or MP4 with H.264.`));
      if (error instanceof DOMException) return; // another source was opened
    }
    fail(error);
  }
}

function save(content: Blob | string, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content instanceof Blob ? content : new Blob([content]));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  say(`Saved ${name}.`);
}

function saveSnapshot(): void {
  const copy = document.createElement("canvas");
  [copy.width, copy.height] = [view.width, view.height];
  const pen = copy.getContext("2d")!;
  if (boxes("mirror").checked) pen.setTransform(-1, 0, 0, 1, copy.width, 0);
  pen.drawImage(view, 0, 0);
  copy.toBlob((blob) => blob && save(blob, "kpedge-snapshot.png"));
}

function connect(): void {
  const guarded = (action: () => Promise<void>) => () =>
    void action().catch((error: unknown) => {
      stop();
      fail(error);
    });
  at("camera").addEventListener("click", guarded(showCamera));
  at("device").addEventListener(
    "change",
    guarded(() => (stop(), showCamera())),
  );
  at("file").addEventListener("change", () => {
    void open(boxes("file").files?.[0]);
    boxes("file").value = ""; // the same file can be opened again
  });
  for (const name of ["dragover", "dragleave", "drop"] as const) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      at("stage").classList.toggle("dropping", name === "dragover");
      if (name === "drop") void open(event.dataTransfer?.files[0]);
    });
  }
  at("pause").addEventListener("click", () => {
    const pausing = !video.paused;
    void (pausing ? video.pause() : video.play());
    at("pause").textContent = pausing ? "Continue" : "Pause";
    at("pause").setAttribute("aria-pressed", String(pausing));
  });
  at("snapshot").addEventListener("click", saveSnapshot);
  at("json").addEventListener("click", () => save(results.json(), "kpedge.jsonl"));
  at("csv").addEventListener("click", () => save(results.csv(), "kpedge.csv"));
  for (const id of ["points", "boxes", "labels", "mirror"]) boxes(id).addEventListener("change", draw);
  boxes("threshold").addEventListener("input", () => {
    model.threshold = boxes("threshold").valueAsNumber;
    showThreshold();
  });
}

function showThreshold(): void {
  boxes("threshold").value = String(model.threshold);
  at("threshold-value").textContent = model.threshold.toFixed(2);
}

try {
  at("unstarted").hidden = true;
  checkBrowser();
  const threads = Math.min(navigator.hardwareConcurrency ?? 1, 2);
  model = await load({ threads, features: true });
  results = new Results(model.scheme);
  connect();
  showThreshold();
  for (const id of ["camera", "file"]) at<HTMLButtonElement>(id).disabled = false;
  say(`Ready: ${model.names.join(" and ")}.`);
} catch (error) {
  fail(error);
}
