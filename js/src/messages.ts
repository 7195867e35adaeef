/** What the page and the worker say to each other. */
import type { Face } from "./face.js";
import type { Scheme } from "./scheme.js";
import type { TrackOptions } from "./tracker.js";

export interface LoadMessage {
  call: "load";
  /** Addresses of the model files, or their content. */
  model: string | ArrayBuffer;
  detector: string | ArrayBuffer;
  threshold?: number | undefined;
  maxSide?: number | undefined;
  threads: number;
  rotations: boolean;
}

export interface FeatureOptions {
  features: boolean;
  focal?: number | undefined;
}

export type Message =
  | LoadMessage
  | ({ call: "detect"; image: ImageBitmap | ImageData; pose: boolean } & FeatureOptions)
  | { call: "track"; tracker: number; options: TrackOptions }
  | ({ call: "update"; tracker: number; image: ImageBitmap | ImageData; timeS: number } & FeatureOptions)
  | { call: "end"; tracker: number }
  | { call: "threshold"; value: number };

export interface Loaded {
  scheme: Scheme;
  names: [string, string];
  threads: number;
  threshold: number;
}

export interface Found {
  faces: Face[];
  size: [number, number];
  ms: number;
}

export type Request = Message & { id: number };
export type Reply = { id: number; value: Loaded | Found | null } | { id: number; error: string };
