/** Keypoint schemes: names, mirror pairs, skeleton, and how points of one become those of another. */
import { schemes } from "./constants.js";
import type { Points } from "./geometry.js";

export interface Scheme {
  name: string;
  points: string[];
  /** Pairs of indices that swap when an image is mirrored, left before right. */
  mirror: [number, number][];
  /** Pairs of indices to join by a line. */
  skeleton: [number, number][];
  /** Facial part -> indices of its points. */
  parts: Record<string, number[]>;
  /** Names of points that the scheme does not have -> its points whose mean they are. */
  derived?: Record<string, number[] | number>;
}

/** The indices of the points whose mean a name is; undefined where it does not follow from the scheme. */
export function pointsOf(scheme: Scheme, name: string): number[] | undefined {
  const index = scheme.points.indexOf(name);
  if (index >= 0) return [index];
  const group = scheme.derived?.[name];
  return group === undefined ? undefined : Array.isArray(group) ? group : [group];
}

/** For each point of faces21 the scheme's points whose mean it is; empty where it does not follow. */
export function faces21Groups(scheme: Scheme): number[][] {
  return schemes.FACES21.map((name) => pointsOf(scheme, name) ?? []);
}

/** The mean of some points of (K, 2). */
export function meanOf(points: ArrayLike<number>, group: readonly number[]): [number, number] {
  let [x, y] = [0, 0];
  for (const index of group) {
    x += points[2 * index]! / group.length;
    y += points[2 * index + 1]! / group.length;
  }
  return [x, y];
}

/** In-plane rotation of a face, radians: positive when the image's right side hangs lower. */
export function rollOf(scheme: Scheme, points: Points): number {
  let [x, y] = [0, 0];
  for (const [left, right] of scheme.mirror) {
    x += points[2 * right]! - points[2 * left]!;
    y += points[2 * right + 1]! - points[2 * left + 1]!;
  }
  return Math.atan2(y, x);
}
