/** Tracks: who is who in a video, by motion and, cheaply, by appearance (kpedge/runtime/tracks.py). */
import { tracks as T } from "./constants.js";
import { area, crop, iou, overlap, rotatedBox, squareTransform, type Box, type Image } from "./geometry.js";
import type { Candidate } from "./keypoints.js";

export type Look = Float64Array;
export type Preference = "largest" | "score" | "centre";

/** A face that is tracked, or was until a moment ago. */
export class Track {
  lost = false;
  side = 0;
  /** Middle of its box when no other face was near, pixels; when, seconds; its velocity then, pixels per second. */
  x = 0;
  y = 0;
  freeS = -Infinity;
  vx = 0;
  vy = 0;
  /** Its appearance, averaged; the last one; when the first and the last were measured. */
  look: Look | undefined;
  lastLook: Look | undefined;
  bornS = Infinity;
  lookS = -Infinity;
  /** Its expected error then, in its side. */
  doubt = 0;
  /** Whether another face was near in the last frame. */
  near = false;

  constructor(
    readonly id: number,
    public seenS: number,
  ) {}

  /** How far an appearance is from this face's: from its average or its last, whichever is nearer. */
  unlike(look: Look): number {
    return Math.min(difference(look, this.look), difference(look, this.lastLook));
  }

  learn(look: Look, doubt: number, timeS: number): void {
    if (!this.look) [this.look, this.doubt, this.bornS] = [look, doubt, timeS];
    const before = this.look;
    this.look = look.map((value, i) => before[i]! + T.UPDATE * (value - before[i]!));
    this.doubt += T.UPDATE * (doubt - this.doubt);
    [this.lastLook, this.lookS] = [look, timeS];
  }

  /** How far a place is from the path predicted since the face was free, and the length of that path, pixels. */
  distance(x: number, y: number, timeS: number): [number, number] {
    const passed = Math.max(timeS - this.freeS, 0);
    const [dx, dy] = [this.vx * passed, this.vy * passed];
    const way = dx * dx + dy * dy;
    const at = way > 0 ? Math.min(Math.max(((x - this.x) * dx + (y - this.y) * dy) / way, 0), 1) : 0;
    return [Math.hypot(x - this.x - at * dx, y - this.y - at * dy), Math.sqrt(way)];
  }

  /** Take the box of the next frame. Motion is measured while no other face is near. */
  move([x1, y1, x2, y2]: Box, timeS: number, near: boolean): void {
    [this.side, this.seenS, this.lost, this.near] = [x2 - x1, timeS, false, near];
    if (near && this.freeS > -Infinity) return;
    const [x, y, passed] = [(x1 + x2) / 2, (y1 + y2) / 2, timeS - this.freeS];
    if (passed > 0 && passed < T.MAX_AGE) {
      const gain = passed / (passed + T.VELOCITY_S);
      this.vx += gain * ((x - this.x) / passed - this.vx);
      this.vy += gain * ((y - this.y) / passed - this.vy);
    }
    [this.x, this.y, this.freeS] = [x, y, timeS];
  }
}

/** Weights of a mean over the pixels of the patch that lie in its circle. */
const ROUND = (() => {
  const inside = Array.from({ length: T.PATCH ** 2 }, (_, place) => {
    const [x, y] = [place % T.PATCH, Math.floor(place / T.PATCH)].map((at) => (at - (T.PATCH - 1) / 2) / (T.PATCH / 2));
    return Math.hypot(x!, y!) <= 1 ? 1 : 0;
  });
  const total = inside.reduce<number>((sum, value) => sum + value, 0);
  return inside.map((value) => value / total);
})();

/** A few numbers that describe a face: its mean chroma, and the root of its brightness over the mean, by pixel. */
export function appearance(image: Image, box: Box, roll: number): Look {
  const [x1, y1, x2, y2] = rotatedBox(box, roll);
  const transform = squareTransform((x1 + x2) / 2, (y1 + y2) / 2, T.PATCH_SIDE * (x2 - x1), T.PATCH, roll);
  const { data } = crop(image, transform, T.PATCH);
  const colour = [0, 0, 0];
  data.forEach((value, i) => (colour[i % 3]! += value));
  const total = ROUND.map((_, i) => Math.max(data[3 * i]! + data[3 * i + 1]! + data[3 * i + 2]!, 20));
  const weigh = (values: number[]): number => values.reduce((sum, value, i) => sum + value * ROUND[i]!, 0);
  const middle = Math.max(weigh(total), 12);
  const bright = total.map((value) => Math.sqrt(value / middle));
  const level = weigh(bright);
  const sum = Math.max(colour[0]! + colour[1]! + colour[2]!, 20 * ROUND.length);
  return Float64Array.from([
    ...colour.map((value) => (12 * value) / sum - 4),
    ...bright.map((value, i) => 2 * (value - level) * Math.sqrt(ROUND[i]!)),
  ]);
}

/** How far two appearances differ, 0 for the same; 0 where one is not known. */
export function difference(look: Look | undefined, other: Look | undefined): number {
  return look && other ? Math.sqrt(look.reduce((sum, value, i) => sum + (value - other[i]!) ** 2, 0)) : 0;
}

/** Part of the smaller of two boxes that both share. */
export function shared(a: Box, b: Box): number {
  return overlap(a, b) / Math.max(Math.min(area(a), area(b)), 1e-9);
}

/** The one of others that is the same face's as a box; -1 where none is. */
function owner(box: Box, others: readonly Box[]): number {
  const parts = others.map((other) => shared(box, other));
  const most = Math.max(...parts);
  return most >= T.SAME ? parts.indexOf(most) : -1;
}

/** Which detected boxes to try: those of no tracked face, or that overlap their own too little; each with its owner. */
export function boxesToTry(boxes: readonly Box[], tracked: readonly Box[]): [number, number][] {
  return boxes
    .map((box, place): [number, number] => [place, owner(box, tracked)])
    .filter(([place, own]) => own < 0 || !(iou(boxes[place]!, tracked[own]!) >= T.AGREED_IOU));
}

/** For each box with its appearance the lost track that it takes up again, if any: the most alike and nearest. */
export function reidentify(
  boxes: readonly Box[],
  looks: readonly Look[],
  lost: readonly Track[],
  timeS: number,
  hidden: readonly boolean[],
): (Track | undefined)[] {
  const found: (Track | undefined)[] = boxes.map(() => undefined);
  const pairs: [number, number, Track][] = [];
  boxes.forEach(([x1, y1, x2, y2], place) => {
    const side = x2 - x1;
    for (const track of lost) {
      const [away, way] = track.distance((x1 + x2) / 2, (y1 + y2) / 2, timeS);
      const unlike = difference(looks[place], track.look);
      const limit = hidden[place] ? T.HIDDEN_DIFFERENT : way > T.MOVED * track.side ? T.MOVED_DIFFERENT : T.DIFFERENT;
      const [largest, smallest] = [Math.max(side, track.side), Math.min(side, track.side)];
      if (away < T.RETURN_NEAR * largest && largest <= T.RETURN_SIZE * smallest && unlike < limit) {
        pairs.push([unlike + (0.1 * away) / largest, place, track]);
      }
    }
  });
  const taken = new Set<number>();
  for (const [, place, track] of pairs.sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2].id - b[2].id)) {
    if (found[place] || taken.has(track.id)) continue;
    found[place] = track;
    taken.add(track.id);
  }
  return found;
}

/**
 * Leave out rows of candidates that show the same face as another row; the first ones are those of the tracks.
 *
 * @returns the other rows, those of all that have another face near, and those that took what the other one found.
 */
export function dropDuplicates(
  image: Image,
  rows: readonly number[],
  found: Candidate[],
  doubts: readonly number[],
  tracked: readonly Track[],
  timeS: number,
): [number[], Set<number>, number[]] {
  const near = new Set<number>();
  const dropped = new Set<number>();
  const replaced: number[] = [];
  const same: [number, number][] = [];
  rows.forEach((first, i) => {
    for (const second of rows.slice(i + 1)) {
      const part = shared(found[first]!.box, found[second]!.box);
      if (part > T.NEAR) near.add(first).add(second);
      if (part >= T.SAME) same.push([first, second]);
    }
  });
  for (const [first, second] of same) {
    if (dropped.has(first) || dropped.has(second)) continue;
    if (second >= tracked.length) {
      dropped.add(second);
      continue;
    }
    // Two tracks on one face: it belongs to the one that it looks like and that was on its way there.
    const best = doubts[second]! < doubts[first]! ? second : first;
    const { box, roll } = found[best]!;
    const look = appearance(image, box, roll);
    const cost = (row: number): number => {
      const [away] = tracked[row]!.distance((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, timeS);
      return difference(look, tracked[row]!.look) + 0.1 * Math.min(away / (box[2] - box[0]), 2);
    };
    const [own, loser] = cost(second) < cost(first) ? [second, first] : [first, second];
    dropped.add(loser);
    if (own !== best) {
      found[own] = found[best]!;
      replaced.push(own);
    }
  }
  return [rows.filter((row) => !dropped.has(row)), near, replaced];
}

/** The rows of so many candidates that a preference ranks highest; the first `tracked` rows are tracked already. */
export function choose(
  rows: readonly number[],
  found: readonly Candidate[],
  tracked: number,
  most: number,
  prefer: Preference,
  [width, height]: readonly [number, number],
): number[] {
  const rank = (row: number): number => {
    const { box, score } = found[row]!;
    const middle = Math.hypot((box[0] + box[2] - width) / 2, (box[1] + box[3] - height) / 2) / Math.max(width, height);
    const value = prefer === "largest" ? box[2] - box[0] : prefer === "score" ? score : 1 / (0.1 + middle);
    return value * (row < tracked ? T.INCUMBENT : 1);
  };
  return [...rows]
    .sort((a, b) => rank(b) - rank(a))
    .slice(0, most)
    .sort((a, b) => a - b);
}
