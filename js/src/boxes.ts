/** Boxes and rolls of faces from their points: where to cut the next crop (kpedge/core/boxes.py, PointBoxes). */
import type { KeypointCard } from "./card.js";
import { boxes as B, keypoints as K, schemes } from "./constants.js";
import type { Box, Points } from "./geometry.js";
import { faces21Groups, meanOf, type Scheme } from "./scheme.js";

/** The box of the face convention for points of a scheme, all known; without area where all points are one. */
export function boxOfPoints(points: ArrayLike<number>, scheme: Scheme): Box {
  const groups = faces21Groups(scheme);
  const known = groups.flatMap((group, place) => (group.length ? [place] : []));
  const anatomy = known.flatMap((place) => meanOf(points, groups[place]!));
  if (known.length === groups.length) return square(...boxOf21(anatomy));
  if (known.length < B.FEWEST) {
    const [xs, ys] = [0, 1].map((axis) => Array.from(points).filter((_, place) => place % 2 === axis));
    const [x1, x2, y1, y2] = [Math.min(...xs!), Math.max(...xs!), Math.min(...ys!), Math.max(...ys!)];
    const half = (B.EXTENT_SIDE * Math.max(x2 - x1, y2 - y1)) / 2;
    const [x, y] = [(x1 + x2) / 2, (y1 + y2) / 2];
    return [x - half, y - half, x + half, y + half];
  }
  // The mean face, fitted to the known points, stands in for the others.
  const mean = known.flatMap((place) => schemes.FACES21_MEAN[place]!);
  const [start, middle] = [centre(mean), centre(anatomy)];
  let [cos, sin, spread] = [0, 0, 0];
  for (let i = 0; i < mean.length; i += 2) {
    const [x, y, u, v] = [
      mean[i]! - start[0],
      mean[i + 1]! - start[1],
      anatomy[i]! - middle[0],
      anatomy[i + 1]! - middle[1],
    ];
    cos += x * u + y * v;
    sin += x * v - y * u;
    spread += x * x + y * y;
  }
  [cos, sin] = [cos / spread, sin / spread];
  const all = centre(schemes.FACES21_MEAN.flat());
  const [x, y] = [all[0] - start[0], all[1] - start[1]];
  return square(x * cos - y * sin + middle[0], x * sin + y * cos + middle[1], B.FITTED_SIDE * Math.hypot(cos, sin));
}

function centre(points: ArrayLike<number>): [number, number] {
  return meanOf(
    points,
    Array.from({ length: points.length / 2 }, (_, place) => place),
  );
}

/** Mean x and y of the 21 points, and the side of their box. */
function boxOf21(points: ArrayLike<number>): [number, number, number] {
  const [x, y] = centre(points);
  let squares = 0;
  for (let i = 0; i < points.length; i += 2) squares += (points[i]! - x) ** 2 + (points[i + 1]! - y) ** 2;
  return [x, y, B.BOX_SIDE * Math.sqrt(squares)];
}

/** The box of a face whose points have a mean (x, y). */
function square(x: number, y: number, side: number): Box {
  const [half, middle] = [side / 2, y + B.BOX_BELOW * side];
  return [x - half, middle - half, x + half, middle + half];
}

/** Boxes and rolls of faces from the points of a model, so that crops show faces as in its training. */
export class PointBoxes {
  /** Whether the model's points determine how large a face is; one point alone does not. */
  readonly givesSize: boolean;
  /** Whether they determine how the model's boxes relate to those of the detector. */
  readonly relatesToOurs: boolean;
  readonly #groups: number[][];
  readonly #exact: boolean;
  readonly #own: [number, number, number] | undefined;
  readonly #across: [number, number][];
  readonly #around: number[];
  readonly #spread: number;
  readonly #mean: [number, number];
  readonly #side: number;

  constructor(card: KeypointCard) {
    const shape = card.mean_shape.flat();
    this.#mean = centre(shape);
    this.#around = shape.map((value, place) => value - this.#mean[place % 2]!);
    this.#spread = this.#around.reduce((sum, value) => sum + value * value, 0);
    this.#side = 1 / (1 + 2 * card.crop.widen);
    this.#groups = faces21Groups(card.keypoints);
    const known = this.#groups.filter((group) => group.length).length;
    this.givesSize = this.#spread > 0;
    this.relatesToOurs = known >= B.FEWEST;
    this.#own = this.relatesToOurs ? ownConvention(shape, card.keypoints, this.#side) : undefined;
    this.#exact = known === this.#groups.length && !this.#own;
    this.#across = schemes.FACES21_MIRROR as [number, number][];
  }

  /** The box and the roll, radians, of points (K, 2). */
  of(points: Points): [Box, number] {
    if (this.#exact) {
      const anatomy = this.#groups.flatMap((group) => meanOf(points, group));
      let [cos, sin] = [0, 0];
      for (const [left, right] of this.#across) {
        cos += anatomy[2 * right]! - anatomy[2 * left]!;
        sin += anatomy[2 * right + 1]! - anatomy[2 * left + 1]!;
      }
      return [square(...boxOf21(anatomy)), Math.atan2(sin, cos)];
    }
    // The similarity transform that takes the mean face nearest to the points.
    let [x, y] = centre(points);
    let [cos, sin] = [0, 0];
    for (let i = 0; this.givesSize && i < points.length; i += 2) {
      cos += (points[i]! * this.#around[i]! + points[i + 1]! * this.#around[i + 1]!) / this.#spread;
      sin += (points[i + 1]! * this.#around[i]! - points[i]! * this.#around[i + 1]!) / this.#spread;
    }
    const [roll, side] = [Math.atan2(sin, cos), this.#side * Math.hypot(cos, sin)];
    const [belowX, belowY] = [0.5 - this.#mean[0], 0.5 - this.#mean[1]];
    x += belowX * cos - belowY * sin + B.BOX_BELOW * side * Math.sin(roll);
    y += belowX * sin + belowY * cos - B.BOX_BELOW * side * Math.cos(roll);
    return [square(x, y, side), roll];
  }

  /** A detector's box, of a face rotated by `roll`, as one of the model's own. */
  fromDetector(box: Box, roll: number): Box {
    if (!this.#own) return box;
    const [scale, shiftX, shiftY] = this.#own;
    const [cos, sin] = [Math.cos(roll), Math.sin(roll)];
    const side = Math.max(box[2] - box[0], box[3] - box[1]);
    const [x, y] = [shiftX * side, (shiftY + B.BOX_BELOW - B.BOX_BELOW * scale) * side];
    const middleX = (box[0] + box[2]) / 2 + cos * x - sin * y;
    const middleY = (box[1] + box[3]) / 2 - B.BOX_BELOW * (box[3] - box[1]) + sin * x + cos * y;
    return square(middleX, middleY, scale * side);
  }
}

/** How a model's boxes differ from those of our convention: scale and shift, in sides of ours; undefined if not. */
function ownConvention(shape: number[], scheme: Scheme, side: number): [number, number, number] | undefined {
  const [x1, y1, x2] = boxOfPoints(shape, scheme);
  const ours = x2 - x1;
  if (!(ours > 0)) return undefined;
  const [scale, x, y] = [side / ours, (0.5 - x1 - ours / 2) / ours, (0.5 - y1 - ours / 2) / ours];
  const same = Math.abs(scale - 1) < K.SAME_CONVENTION && Math.hypot(x, y) < K.SAME_CONVENTION;
  return same ? undefined : [scale, x, y];
}

/** A box in each of the sizes at which a face is tried where nothing says how a model's boxes relate to it. */
export function scaledBoxes([x1, y1, x2, y2]: Box): Box[] {
  const [x, y, u, v] = [(x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / 2, (y2 - y1) / 2];
  return K.SCALES.map((scale) => [x - scale * u, y - scale * v, x + scale * u, y + scale * v]);
}
