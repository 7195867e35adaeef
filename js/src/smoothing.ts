/** Temporal smoothing of keypoints: the one-euro filter (kpedge/runtime/smoothing.py says how and why). */
import { smoothing as S } from "./constants.js";
import type { Points } from "./geometry.js";

/** Parameters of the filter; speeds are in face sides per second. */
export interface Smoothing {
  /** Cutoff frequency at rest, Hz. */
  min_cutoff: number;
  /** How much it rises with the common speed, Hz for one face side per second. */
  beta: number;
  /** The same for each point's own speed. */
  local_beta: number;
  /** Cutoff frequency of the speeds, Hz. */
  d_cutoff: number;
  /** Speed at which the cutoffs rise by half of that; below, they rise with its square. */
  rest: number;
  /** Seconds in which a predicted motion falls to 1 / e; 0: none is predicted. */
  trend: number;
}

export const DEFAULT_SMOOTHING: Smoothing = S.DEFAULT_SMOOTHING;

/** What the filter remembers of a face; arrays of x y for each point, pixels, sides per second, pixels per second. */
export interface SmoothState {
  points: Points;
  common: Float64Array;
  local: Float64Array;
  velocity: Float64Array;
}

/** A face that is seen for the first time, at rest. */
export function startState(points: Points): SmoothState {
  const zeros = (): Float64Array => new Float64Array(points.length);
  return { points: points.slice(), common: zeros(), local: zeros(), velocity: zeros() };
}

/** Where the points are expected so many seconds later. */
export function predictPoints(state: SmoothState, after: number): Points {
  const step = Math.min(Math.max(after, 0), S.MAX_AHEAD);
  return state.points.map((value, place) => value + step * state.velocity[place]!);
}

/** One step of the filter for a face with a box of `size` pixels, `dt` seconds after the last one. */
export function smooth(
  state: SmoothState,
  points: Points,
  size: number,
  dt: number,
  parameters: Smoothing = DEFAULT_SMOOTHING,
): SmoothState {
  if (dt > S.MAX_GAP) return startState(points);
  const step = dt >= S.MIN_STEP ? dt : S.DEFAULT_STEP;
  const radians = 2 * Math.PI * step;
  const { length } = points;
  const count = length / 2;
  const mean = [0, 0];
  const shift = [0, 0];
  const trend = parameters.trend ? Math.exp(-step / parameters.trend) : 0;
  const predicted = state.velocity.map((value) => trend * Math.min(step, S.MAX_AHEAD) * value);
  const before = state.points.map((value, i) => value + predicted[i]!);
  const ahead = points.map((value, i) => value - before[i]!);
  for (let i = 0; i < length; i++) {
    mean[i % 2]! += before[i]! / count;
    shift[i % 2]! += ahead[i]! / count;
  }
  // The similarity transform that takes the predicted points nearest to the new ones.
  const around = before.map((value, i) => value - mean[i % 2]!);
  let [cos, sin, spread] = [0, 0, S.SMALLEST ** 2];
  for (let i = 0; i < length; i += 2) {
    const [x, y, u, v] = [around[i]!, around[i + 1]!, ahead[i]!, ahead[i + 1]!];
    cos += x * u + y * v;
    sin += x * v - y * u;
    spread += x * x + y * y;
  }
  [cos, sin] = [cos / spread, sin / spread];
  const gain = (parameters.d_cutoff * radians) / (1 + parameters.d_cutoff * radians);
  const toSides = gain / step / Math.max(size, S.SMALLEST);
  const next: SmoothState = startState(points);
  const turned = new Float64Array(length);
  let squares = 0;
  for (let i = 0; i < length; i += 2) {
    turned[i] = around[i]! * cos - around[i + 1]! * sin;
    turned[i + 1] = around[i]! * sin + around[i + 1]! * cos;
    for (const j of [i, i + 1]) {
      const motion = shift[j % 2]! + turned[j]!;
      next.common[j] = (1 - gain) * state.common[j]! + toSides * (motion + predicted[j]!);
      next.local[j] = (1 - gain) * state.local[j]! + toSides * (ahead[j]! - motion);
      squares += next.common[j]! ** 2 / count;
    }
  }
  const least = parameters.min_cutoff * radians;
  const share = (beta: number, speed: number): number => {
    const cutoff = least + (beta * radians * speed * speed) / (speed + parameters.rest + S.SMALLEST);
    return cutoff / (1 + cutoff);
  };
  const common = share(parameters.beta, Math.sqrt(squares));
  for (let i = 0; i < length; i += 2) {
    const local = share(parameters.local_beta, Math.hypot(next.local[i]!, next.local[i + 1]!));
    for (const j of [i, i + 1]) {
      const motion = shift[j % 2]! + turned[j]!;
      next.points[j] = before[j]! + common * motion + local * (ahead[j]! - motion);
      next.velocity[j] = trend * state.velocity[j]! + (common / step) * (shift[j % 2]! + S.TURN_SHARE * turned[j]!);
    }
  }
  return next;
}
