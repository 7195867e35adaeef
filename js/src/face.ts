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

/**
 * Numbers that follow from a face's points; null where the scheme lacks the points for one. Left and right are the
 * image's. Lengths are in distances between the eyes.
 */
export interface Features {
  /** Distance between the lids over the width of the eye: 0 closed, about 0.3 open. */
  eye_open_left: number | null;
  eye_open_right: number | null;
  /** Gap between the lips; 0 closed. */
  mouth_open: number | null;
  mouth_width: number | null;
  /** 0 neutral, 1 a broad smile, below 0 a frown. */
  smile: number | null;
  /** Height of the brow over that of a usual face at rest. */
  brow_raise_left: number | null;
  brow_raise_right: number | null;
  /** Direction of the pupils relative to the head, degrees: positive to the image's right, up. */
  gaze_yaw: number | null;
  gaze_pitch: number | null;
  /** The middle between the eyes, mm from the camera: to the image's right, down, away. */
  x_mm: number | null;
  y_mm: number | null;
  z_mm: number | null;
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
  /** Absent if they were not requested. */
  features?: Features;
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
