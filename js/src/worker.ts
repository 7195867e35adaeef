/** The worker: models and trackers, so that the page stays responsive. */
import * as ort from "onnxruntime-web/wasm";
import { type DetectorCard, hasScore, ModelError, type KeypointCard } from "./card.js";
import { models as M, tracker as R } from "./constants.js";
import { FaceDetector } from "./detector.js";
import type { Face } from "./face.js";
import { faceFeatures } from "./features.js";
import type { Image } from "./geometry.js";
import { KeypointPredictor } from "./keypoints.js";
import type { FeatureOptions, Found, Loaded, LoadMessage, Reply, Request } from "./messages.js";
import { openModel, type Model } from "./model.js";
import { FacePipeline } from "./pipeline.js";
import { headPose } from "./pose.js";
import { FaceTracker, type TrackOptions } from "./tracker.js";

let open: { photos: FacePipeline; videos: FaceDetector; predictor: KeypointPredictor } | undefined;
const trackers = new Map<number, FaceTracker>();
let canvas: OffscreenCanvasRenderingContext2D | undefined;

async function load(request: LoadMessage): Promise<Loaded> {
  if (typeof WebAssembly !== "object") throw new ModelError("this browser has no WebAssembly; use a current one");
  ort.env.wasm.wasmPaths = {
    mjs: new URL("./ort-wasm-simd-threaded.js", import.meta.url),
    wasm: new URL("./ort-wasm-simd-threaded.wasm", import.meta.url),
  };
  ort.env.wasm.numThreads = self.crossOriginIsolated ? request.threads : 1;
  const [keypoints, detector] = await Promise.all([
    openFile(request.model, "the keypoint model"),
    openFile(request.detector, "the detector"),
  ]);
  if (keypoints.card.task === "detector") throw new ModelError(`${keypoints.card.name} finds no keypoints`);
  if (detector.card.task !== "detector") throw new ModelError(`${detector.card.name} is no detector`);
  const predictor = new KeypointPredictor(keypoints as Model<KeypointCard>, request.threshold);
  const search = detector as Model<DetectorCard>;
  const threshold = search.card.threshold ?? 0;
  const scored = hasScore(keypoints.card);
  open = {
    photos: new FacePipeline(
      new FaceDetector(search, threshold * (scored ? M.VERIFIED : 1), request.maxSide),
      predictor,
      request.threshold,
      request.rotations,
    ),
    videos: new FaceDetector(search, threshold * (scored ? M.FOLLOWED : 1), request.maxSide ?? R.SIDE),
    predictor,
  };
  const { keypoints: scheme } = keypoints.card;
  return {
    scheme,
    names: [keypoints.card.name, detector.card.name],
    threads: ort.env.wasm.numThreads,
    threshold: predictor.threshold,
  };
}

async function openFile(source: string | ArrayBuffer, name: string): Promise<Model> {
  if (typeof source !== "string") return openModel(ort, new Uint8Array(source), name);
  const answer = await fetch(source).catch(() => undefined);
  if (!answer?.ok) throw new ModelError(`${source} cannot be loaded${answer ? `: HTTP ${answer.status}` : ""}`);
  return openModel(ort, new Uint8Array(await answer.arrayBuffer()), source);
}

/** The pixels of an image that the page sent. */
function pixels(image: ImageBitmap | ImageData): Image {
  if (image instanceof ImageData) return image;
  const { width, height } = image;
  if (canvas?.canvas.width !== width || canvas.canvas.height !== height) {
    canvas = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true })!;
  }
  canvas.drawImage(image, 0, 0);
  image.close();
  return canvas.getImageData(0, 0, width, height);
}

async function timed(
  image: ImageBitmap | ImageData,
  { features, focal }: FeatureOptions,
  find: (image: Image) => Promise<Face[]>,
): Promise<Found> {
  const start = performance.now();
  const { width, height } = image;
  let faces = await find(pixels(image));
  if (features) faces = faces.map((face) => withFeatures(face, [width, height], focal));
  return { faces, size: [width, height], ms: performance.now() - start };
}

/** A face with its features, and its pose where that is missing or the focal length is given. */
function withFeatures(face: Face, size: [number, number], focal: number | undefined): Face {
  const scheme = open!.predictor.model.card.keypoints;
  const points = Float64Array.from(face.keypoints.flat());
  const pose = focal === undefined && face.pose ? face.pose : headPose(points, scheme, size, focal);
  return { ...face, ...(pose ? { pose } : {}), features: faceFeatures(points, scheme, pose, size, focal) };
}

async function answer(request: Request): Promise<Loaded | Found | null> {
  if (request.call === "load") return load(request);
  if (!open) throw new ModelError("no model is loaded");
  const { photos, videos, predictor } = open;
  switch (request.call) {
    case "detect":
      return timed(request.image, request, (image) => photos.detect(image, { pose: request.pose }));
    case "track":
      trackers.set(request.tracker, new FaceTracker(videos, predictor, withoutUndefined(request.options)));
      return null;
    case "update": {
      const tracker = trackers.get(request.tracker);
      if (!tracker) throw new ModelError("this tracker has ended");
      return timed(request.image, request, (image) => tracker.update(image, request.timeS));
    }
    case "threshold":
      predictor.threshold = photos.threshold = request.value;
      return null;
    case "end":
      trackers.delete(request.tracker);
      return null;
  }
}

function withoutUndefined(options: TrackOptions): TrackOptions {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

// One request at a time: a tracker's frames depend on each other.
let queue: Promise<void> = Promise.resolve();
self.onmessage = ({ data }: MessageEvent<Request>): void => {
  queue = queue.then(async () => {
    let reply: Reply;
    try {
      reply = { id: data.id, value: await answer(data) };
    } catch (error) {
      reply = { id: data.id, error: error instanceof Error ? error.message : String(error) };
    }
    self.postMessage(reply);
  });
};
