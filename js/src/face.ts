/** Results. */
import type { Scheme } from "./scheme.js";

/** Head pose in degrees, for a camera that looks straight at the face. */
export interface Pose {
  /** Positive when the face looks towards the image's right. */
  yaw: number;
  /** Positive when it looks up. */
  pitch: number;
  /** Positive when the image's right eye is lower. */
  roll: number;
}

/** One face; the fields are those of Python's JSON output. */
export interface Face {
  /** Number of the person in a video, from 1; absent in a photo. */
  id?: number;
  /** x1 y1 x2 y2, pixels of the image; (0, 0) is the centre of its first pixel. */
  box: [number, number, number, number];
  /** The probability that this is a face, 0 to 1; null if the model has no face score. */
  score: number | null;
  /** x y of each keypoint, pixels of the image, in the order of the scheme's names. */
  keypoints: [number, number][];
  /** Expected distance of each point from its true place, pixels; absent if the model does not estimate it. */
  errors?: number[];
  /** Absent if it was not requested, or the model has too few points for it. */
  pose?: Pose;
}

/** The faces of an image, or of a frame. */
export interface Faces {
  faces: Face[];
  /** Width and height of the image, pixels. */
  size: [number, number];
  scheme: Scheme;
  /** What finding them took, without the transfer to the worker, milliseconds. */
  ms: number;
}

export function pairs(points: ArrayLike<number>): [number, number][] {
  return Array.from({ length: points.length / 2 }, (_, place) => [points[2 * place]!, points[2 * place + 1]!]);
}
