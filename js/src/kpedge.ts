/**
 * Faces, their keypoints and head poses in images and videos, in the browser.
 *
 * @example
 * import { load } from "./kpedge/kpedge.js";
 * const model = await load();
 * const { faces } = await model.detect(document.querySelector("img"));
 * for await (const { faces } of model.track(document.querySelector("video"))) console.log(faces);
 */
import { ModelError } from "./card.js";
import type { Faces } from "./face.js";
import type { FeatureOptions, Found, Loaded, Message, Reply, Request } from "./messages.js";
import type { Scheme } from "./scheme.js";
import type { TrackOptions } from "./tracker.js";

export { ModelError } from "./card.js";
export { drawFaces, type DrawOptions } from "./draw.js";
export type { Face, Faces, Features, Pose } from "./face.js";
export { pointsOf, type Scheme } from "./scheme.js";
export type { Smoothing } from "./smoothing.js";
export type { TrackOptions } from "./tracker.js";

/** An image as browsers have them. */
export type ImageSource = ImageBitmapSource;

export interface LoadOptions {
  /** Address or content of an ONNX file that `kpedge export` wrote; the one that comes with the package by default. */
  model?: string | URL | ArrayBuffer;
  /** The same, of a detector. */
  detector?: string | URL | ArrayBuffer;
  /** Lowest score at which a box counts as a face; the model's own by default. */
  threshold?: number;
  /** Longer side, pixels, at which images are searched for faces; 320 for videos, else the detector's own by default. */
  maxSide?: number;
  /** CPU threads, where the page is cross-origin isolated; more rarely help with networks this small. */
  threads?: number;
  /** Search images without a face again, rotated by 90, 180 and 270 degrees. */
  rotations?: boolean;
  /** Estimate head poses. */
  pose?: boolean;
  /** Compute the features of each face, and poses for them. */
  features?: boolean;
  /** The camera's focal length, pixels; by default that of an image whose longer side spans 60 degrees. */
  focal?: number;
}

/** A frame of a video and its faces. */
export interface TrackedFrame extends Faces {
  /** From 0; frames that were dropped because the last one took longer are not counted. */
  number: number;
  /** Time of the frame in the video, seconds. */
  timeS: number;
  /** The frame's pixels, only until the next frame is asked for. */
  image: ImageBitmap;
}

/** Loads a detector and a keypoint model in a worker of their own. */
export async function load(options: LoadOptions = {}): Promise<FaceModel> {
  const { threshold, maxSide, threads = 1, rotations = true } = options;
  if (threshold !== undefined) checkThreshold(threshold);
  const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  const channel = new Channel(worker);
  try {
    // Bundlers find the files by these literals.
    const model = file(options.model ?? new URL("./models/keypoints.onnx", import.meta.url));
    const detector = file(options.detector ?? new URL("./models/detector.onnx", import.meta.url));
    const loaded = (await channel.call({
      call: "load",
      model,
      detector,
      threshold,
      maxSide,
      threads,
      rotations,
    })) as Loaded;
    const { pose = true, features = false, focal } = options;
    return new FaceModel(channel, loaded, { pose, features, focal });
  } catch (error) {
    worker.terminate();
    throw error;
  }
}

function file(source: string | URL | ArrayBuffer): string | ArrayBuffer {
  return source instanceof ArrayBuffer ? source : new URL(source, document.baseURI).href;
}

function checkThreshold(value: number): void {
  if (!(value >= 0 && value <= 1)) throw new RangeError(`threshold must be from 0 to 1, not ${value}`);
}

export class FaceModel {
  /** Names of the keypoints, mirror pairs and skeleton. */
  readonly scheme: Scheme;
  /** Of keypoint model and detector. */
  readonly names: readonly [string, string];
  /** CPU threads that are used. */
  readonly threads: number;
  #trackers = 0;
  #threshold: number;

  /** @internal Made by `load`. */
  constructor(
    private readonly channel: Channel,
    loaded: Loaded,
    private readonly wanted: FeatureOptions & { pose: boolean },
  ) {
    ({ scheme: this.scheme, names: this.names, threads: this.threads } = loaded);
    this.#threshold = loaded.threshold;
  }

  /** Score from which on a box shows a face; a new value holds from the next image on. */
  get threshold(): number {
    return this.#threshold;
  }

  set threshold(value: number) {
    checkThreshold(value);
    this.#threshold = value;
    void this.channel.call({ call: "threshold", value });
  }

  /** The faces of an image, by falling score of the detector. */
  async detect(image: ImageSource): Promise<Faces> {
    return this.#find(image, (sent) => ({ call: "detect", image: sent, ...this.wanted }));
  }

  /** A tracker that is given frames one by one. */
  async tracker(options: TrackOptions = {}): Promise<Tracker> {
    const tracker = ++this.#trackers;
    await this.channel.call({ call: "track", tracker, options: { pose: this.wanted.pose, ...options } });
    return {
      update: (image, timeS = performance.now() / 1000) =>
        this.#find(image, (sent) => ({ call: "update", tracker, image: sent, timeS, ...this.wanted })),
      end: async () => void (await this.channel.call({ call: "end", tracker })),
    };
  }

  /** The faces of a video that plays, or of a camera, until it ends; frames for which there is no time are dropped. */
  async *track(
    video: HTMLVideoElement,
    { signal, ...options }: TrackOptions & { signal?: AbortSignal } = {},
  ): AsyncGenerator<TrackedFrame, void> {
    const tracker = await this.tracker(options);
    try {
      for (let number = 0; !signal?.aborted; number++) {
        const timeS = await nextFrame(video, signal);
        if (timeS === undefined) return;
        const image = await createImageBitmap(video);
        try {
          yield { number, timeS, image, ...(await tracker.update(image, timeS)) };
        } finally {
          image.close();
        }
      }
    } finally {
      await tracker.end();
    }
  }

  /** Ends the worker. */
  close(): void {
    this.channel.close();
  }

  async #find(image: ImageSource, message: (image: ImageBitmap | ImageData) => Message): Promise<Faces> {
    const plain = { colorSpaceConversion: "none", premultiplyAlpha: "none" } as const; // pixels as OpenCV reads them
    const sent = image instanceof ImageData ? image : await createImageBitmap(image, plain);
    const found = (await this.channel.call(message(sent), sent instanceof ImageData ? [] : [sent])) as Found;
    return { ...found, scheme: this.scheme };
  }
}

export interface Tracker {
  /** The faces of the next frame, by id; `timeS` is when it was taken, seconds, now by default. */
  update(image: ImageSource, timeS?: number): Promise<Faces>;
  end(): Promise<void>;
}

/** Time of the next frame that a video shows, seconds; undefined when it has ended. */
function nextFrame(video: HTMLVideoElement, signal?: AbortSignal): Promise<number | undefined> {
  return new Promise((resolve) => {
    const finish = (time: number | undefined): void => {
      video.removeEventListener("ended", end);
      video.removeEventListener("emptied", end);
      signal?.removeEventListener("abort", end);
      resolve(time);
    };
    const end = (): void => finish(undefined);
    if (video.ended || signal?.aborted) return end();
    video.addEventListener("ended", end);
    video.addEventListener("emptied", end);
    signal?.addEventListener("abort", end);
    if ("requestVideoFrameCallback" in video) {
      video.requestVideoFrameCallback((_now, frame) => finish(frame.mediaTime));
    } else {
      requestAnimationFrame(() => finish((video as HTMLVideoElement).currentTime));
    }
  });
}

/** Requests to a worker, and its replies. */
class Channel {
  #last = 0;
  #waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  #failed: Error | undefined;

  constructor(private readonly worker: Worker) {
    worker.onmessage = ({ data }: MessageEvent<Reply>) => {
      const waiting = this.#waiting.get(data.id);
      this.#waiting.delete(data.id);
      if ("error" in data) waiting?.reject(new ModelError(data.error));
      else waiting?.resolve(data.value);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      this.#fail(new ModelError(`the worker failed: ${event.message || "its files cannot be loaded"}`));
    };
  }

  call(message: Message, transfer: Transferable[] = []): Promise<unknown> {
    if (this.#failed) return Promise.reject(this.#failed);
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.worker.postMessage({ ...message, id } satisfies Request, transfer);
    });
  }

  close(): void {
    this.worker.terminate();
    this.#fail(new ModelError("the model was closed"));
  }

  #fail(error: Error): void {
    this.#failed = error;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}
