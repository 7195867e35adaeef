/** Faces through a video: detect now and then, track the keypoints from frame to frame (kpedge/runtime/tracker.py). */
import { scaledBoxes } from "./boxes.js";
import { hasScore, ModelError, type JointScore } from "./card.js";
import { joint as J, keypoints as K, tracker as R, tracks as T } from "./constants.js";
import { FaceDetector } from "./detector.js";
import { pairs, type Face } from "./face.js";
import { overlapsImage, type Box, type Image } from "./geometry.js";
import { noCandidate, type Candidate, type KeypointPredictor } from "./keypoints.js";
import { jointScore } from "./pipeline.js";
import { headPose } from "./pose.js";
import { rollOf } from "./scheme.js";
import { DEFAULT_SMOOTHING, predictPoints, smooth, startState, type SmoothState, type Smoothing } from "./smoothing.js";
import {
  appearance,
  boxesToTry,
  choose,
  dropDuplicates,
  reidentify,
  Track,
  type Look,
  type Preference,
} from "./tracks.js";

export interface TrackOptions {
  /** Most faces that are tracked. */
  maxFaces?: number;
  /** Which are, where there are more. */
  prefer?: Preference;
  /** Seconds between searches for new faces while others are tracked. */
  detectionInterval?: number;
  /** Smooth the points in time, or how; false leaves them as the model gives them. */
  smooth?: boolean | Smoothing;
  /** Estimate head poses. */
  pose?: boolean;
}

/** What is known of the candidates of a frame, by row: whether each is a face, and its expected error in its side. */
interface Found {
  rows: Candidate[];
  good: boolean[];
  doubts: number[];
}

export class FaceTracker {
  readonly options: Required<TrackOptions>;
  #tracks: Track[] = [];
  #tracked: Track[] = [];
  #states: SmoothState[] = [];
  #nextId = 1;
  #searchedS = -Infinity;
  #lastS = -Infinity;
  #size: [number, number] = [0, 0];
  #doubtful = false;
  readonly #maxError: number;
  readonly #joint: JointScore | undefined;
  readonly detector: FaceDetector;

  constructor(
    detector: FaceDetector,
    readonly predictor: KeypointPredictor,
    options: TrackOptions = {},
  ) {
    const { card } = predictor.model;
    const { card: other } = detector.model;
    this.#joint = card.joint?.detector_sha256 === other.weights_sha256 ? card.joint : undefined;
    const lowest = R.JOINT_SEARCH * (other.threshold ?? 0);
    this.detector = this.#joint ? new FaceDetector(detector.model, lowest, detector.side) : detector;
    if (!hasScore(card)) throw new ModelError(`${card.name} cannot track faces: it has no face score; use a stage 3`);
    if (!predictor.boxes.givesSize) {
      throw new ModelError(`${card.name} cannot track faces: one point does not determine how large a face is`);
    }
    this.options = {
      maxFaces: R.MAX_FACES,
      prefer: "largest",
      detectionInterval: R.DETECTION_INTERVAL,
      smooth: true,
      pose: true,
      ...options,
    };
    this.#maxError = Math.max(R.MAX_ERROR, R.MAX_ERROR_RATIO * (card.accuracy?.validation?.nme_box ?? 0));
  }

  /** Forget every face; no id is used twice. */
  reset(): void {
    [this.#tracks, this.#tracked, this.#states, this.#doubtful] = [[], [], [], false];
    this.#searchedS = this.#lastS = -Infinity;
  }

  /** The faces of the next frame, by id. An earlier time, in seconds, or another size begins a new video. */
  async update(image: Image, timeS: number): Promise<Face[]> {
    const size: [number, number] = [image.width, image.height];
    if (timeS < this.#lastS || size.join() !== this.#size.join()) this.reset();
    const passed = timeS - this.#lastS;
    [this.#lastS, this.#size] = [timeS, size];
    this.#tracks = this.#tracks.filter((track) => timeS - track.seenS <= T.MAX_AGE);
    const tracked = passed <= T.MAX_AGE ? this.#tracked : [];
    const predicted = tracked.map((_, row) => this.predictor.boxes.of(predictPoints(this.#states[row]!, passed)));
    const boxes = predicted.map(([box]) => box);
    let found = this.#judge(
      await this.#predict(
        image,
        boxes,
        predicted.map(([, roll]) => roll),
      ),
      tracked,
    );
    const restarted = new Set<number>();
    const suspicious = !found.good.every(Boolean) || (!this.#doubtful && Math.max(0, ...found.doubts) > this.#maxError);
    if (suspicious || this.#isSearchDue(timeS, tracked.length)) {
      this.#searchedS = timeS;
      found = await this.#search(image, found, restarted);
    }
    let rows = found.good.flatMap((fits, row) => (fits ? [row] : []));
    let near = new Set<number>();
    if (rows.length > 1) {
      const [kept, neighbours, replaced] = dropDuplicates(image, rows, found.rows, found.doubts, tracked, timeS);
      [rows, near] = [kept, neighbours];
      for (const row of replaced) restarted.add(row);
    }
    if (rows.length > this.options.maxFaces) {
      rows = choose(rows, found.rows, tracked.length, this.options.maxFaces, this.options.prefer, size);
      const gone = tracked.filter((_, row) => !rows.includes(row) && found.good[row]);
      this.#tracks = this.#tracks.filter((track) => !gone.includes(track));
    }
    const seen = this.#identify(image, rows, found, tracked, boxes, near, timeS);
    this.#doubtful = false;
    for (const [row, track] of seen) {
      track.move(found.rows[row]!.box, timeS, near.has(row));
      this.#doubtful ||= found.doubts[row]! > this.#maxError;
    }
    const before = this.#states;
    this.#tracked = seen.map(([, track]) => track);
    const parameters = typeof this.options.smooth === "object" ? this.options.smooth : DEFAULT_SMOOTHING;
    this.#states = seen.map(([row, track]) => {
      const { points, box } = found.rows[row]!;
      const goesOn = row < tracked.length && tracked[row] === track && !restarted.has(row);
      return smooth(goesOn ? before[row]! : startState(points), points, box[2] - box[0], passed, parameters);
    });
    return seen.map(([row, track], place) => this.#face(found.rows[row]!, track, this.#states[place]!, size));
  }

  #face(one: Candidate, track: Track, state: SmoothState, size: [number, number]): Face {
    const points = this.options.smooth ? state.points : one.points;
    const box = this.options.smooth ? this.predictor.boxes.of(points)[0] : one.box;
    const pose = this.options.pose ? headPose(points, this.predictor.model.card.keypoints, size) : undefined;
    return {
      id: track.id,
      box: [...box],
      score: one.score,
      keypoints: pairs(points),
      errors: [...one.errors],
      ...(pose ? { pose } : {}),
    };
  }

  #isSearchDue(timeS: number, tracked: number): boolean {
    const more = tracked < this.options.maxFaces && (tracked === 0 || tracked < this.#tracks.length);
    const { detectionInterval } = this.options;
    const within = this.#doubtful || more ? Math.min(R.SHORT_INTERVAL, detectionInterval) : detectionInterval;
    return timeS - this.#searchedS >= within - 1e-6; // a frame that is due is not put off by rounding
  }

  /** What the keypoint model finds in boxes of faces rotated by rolls; nothing in those outside the image. */
  async #predict(image: Image, boxes: readonly Box[], rolls: readonly number[]): Promise<Candidate[]> {
    const shown = boxes.flatMap((box, row) =>
      box[2] - box[0] >= R.SMALLEST && overlapsImage(box, image) ? [row] : [],
    );
    const few = await this.predictor.predict(
      image,
      shown.map((row) => boxes[row]!),
      shown.map((row) => rolls[row]!),
    );
    const all = boxes.map(() => noCandidate(this.predictor.model.card.keypoints.points.length));
    shown.forEach((row, place) => (all[row] = few[place]!));
    return all;
  }

  /** Which candidates show a face. A tracked one, of the first rows, needs a lower score, and about its size before. */
  #judge(rows: Candidate[], tracked: readonly Track[]): Found {
    const good: boolean[] = [];
    const doubts = rows.map(({ box, score, errors }, row) => {
      const side = box[2] - box[0];
      const before = tracked[row]?.side;
      const { threshold } = this.predictor;
      const fits =
        before === undefined
          ? score >= threshold
          : score >= R.KEEP_THRESHOLD * threshold &&
            side < R.MAX_SCALE_CHANGE * before &&
            before < R.MAX_SCALE_CHANGE * side;
      const [width, height] = this.#size;
      const inside = box[0] < width && box[1] < height && box[2] > 0 && box[3] > 0;
      good.push(fits && side >= R.SMALLEST && inside);
      return errors.reduce((sum, error) => sum + error / errors.length, 0) / Math.max(side, R.SMALLEST);
    });
    return { rows, good, doubts };
  }

  /**
   * Look for faces elsewhere than where tracked ones were found. A detected box that overlaps a tracked one less than
   * it should is tried too, and takes its row, which restarts, if it is better.
   */
  async #search(image: Image, found: Found, restarted: Set<number>): Promise<Found> {
    const { boxes: model, threshold } = this.predictor;
    const joint = threshold === this.predictor.model.card.threshold ? this.#joint : undefined;
    const detections = await this.detector.detect(image);
    const turns = detections.map((one) => rollOf(this.detector.model.card.keypoints, one.points));
    const boxes = detections.map((one, place) => model.fromDetector(one.box, turns[place]!));
    const tracked = found.good.flatMap((fits, row) => (fits ? [row] : []));
    const wanted = boxesToTry(
      boxes,
      tracked.map((row) => found.rows[row]!.box),
    );
    if (!wanted.length) return found;
    let first: Candidate[];
    if (model.relatesToOurs) {
      first = await this.#predict(
        image,
        wanted.map(([place]) => boxes[place]!),
        wanted.map(([place]) => turns[place]!),
      );
    } else {
      // At several sizes; the best one goes on, and the next prediction decides whether it is a face.
      const several = wanted.flatMap(([place]) => scaledBoxes(boxes[place]!));
      const rolls = wanted.flatMap(([place]) => K.SCALES.map(() => turns[place]!));
      const all = await this.#predict(image, several, rolls);
      first = wanted.map((_, place) =>
        all
          .slice(place * K.SCALES.length, (place + 1) * K.SCALES.length)
          .reduce((best, one) => (one.score > best.score ? one : best)),
      );
    }
    const shown = first.flatMap(({ score }, place) =>
      (model.relatesToOurs ? score >= (joint ? R.KEEP_THRESHOLD : 1) * threshold : score > 0) ? [place] : [],
    );
    const nearer = shown.map((place) => first[place]!);
    const again = await this.#predict(
      image,
      nearer.map(({ box }) => box),
      nearer.map(({ roll }) => roll),
    );
    const fresh = this.#judge(again, []);
    if (joint) {
      const longer = Math.max(image.width, image.height);
      fresh.good = again.map((one, row) => {
        const score = jointScore(joint, detections[wanted[shown[row]!]![0]]!, one, longer);
        return score >= J.JOINT_THRESHOLD && one.score >= R.KEEP_THRESHOLD * threshold;
      });
    }
    const count = found.rows.length;
    const all: Found = {
      rows: [...found.rows, ...fresh.rows],
      good: [...found.good, ...fresh.good],
      doubts: [...found.doubts, ...fresh.doubts],
    };
    shown.forEach((place, number) => {
      const owner = wanted[place]![1];
      if (owner < 0) return;
      const [row, own] = [count + number, tracked[owner]!];
      if (all.good[row] && all.doubts[row]! < T.BETTER * all.doubts[own]!) {
        all.rows[own] = all.rows[row]!;
        all.doubts[own] = all.doubts[row]!;
        restarted.add(own);
      }
      all.good[row] = false;
    });
    return all;
  }

  /** Rows with the track of each, by id. A tracked face whose appearance does not change belongs to its track. */
  #identify(
    image: Image,
    rows: readonly number[],
    found: Found,
    tracked: readonly Track[],
    predicted: readonly Box[],
    near: ReadonlySet<number>,
    timeS: number,
  ): [number, Track][] {
    const seen: [number, Track][] = [];
    const unknown: number[] = [];
    const looks = new Map<number, Look>();
    for (const track of tracked) track.lost = true;
    for (const row of rows) {
      const track = tracked[row];
      if (!track) {
        unknown.push(row);
        continue;
      }
      const { box, roll, score } = found.rows[row]!;
      const doubt = found.doubts[row]!;
      const [x1, y1, x2, y2] = box;
      const [a1, b1, a2, b2] = predicted[row]!;
      const jump = Math.max(
        Math.abs(x1 + x2 - a1 - a2) / 2,
        Math.abs(y1 + y2 - b1 - b2) / 2,
        Math.abs(x2 - x1 - a2 + a1),
      );
      const jumped = jump > T.JUMPED * track.side;
      if (!near.has(row) && (jumped || track.near || timeS - track.lookS >= T.LOOK_INTERVAL - 1e-6)) {
        const look = appearance(image, box, roll);
        looks.set(row, look);
        const clear = doubt <= Math.min(this.#maxError, T.CLEAR * track.doubt);
        const settled = timeS - track.bornS >= T.SETTLED && score >= this.predictor.threshold;
        const unlike = track.unlike(look);
        if (unlike > (jumped ? T.JUMPED_DIFFERENT : T.CHANGED) && clear && settled) {
          unknown.push(row);
          continue;
        }
        if (unlike <= T.CHANGED || clear) track.learn(look, doubt, timeS);
      }
      track.lost = false;
      seen.push([row, track]);
    }
    const lookOf = (row: number): Look => {
      const { box, roll } = found.rows[row]!;
      const look = looks.get(row) ?? appearance(image, box, roll);
      looks.set(row, look);
      return look;
    };
    const again = reidentify(
      unknown.map((row) => found.rows[row]!.box),
      unknown.map(lookOf),
      this.#tracks.filter((track) => track.lost),
      timeS,
      unknown.map((row) => near.has(row)),
    );
    unknown.forEach((row, place) => {
      const own = tracked[row]?.near && !again.includes(tracked[row]) ? tracked[row] : undefined;
      const track = again[place] ?? own ?? new Track(this.#nextId++, timeS);
      if (!this.#tracks.includes(track)) this.#tracks.push(track);
      track.lost = false;
      track.learn(lookOf(row), found.doubts[row]!, timeS);
      seen.push([row, track]);
    });
    return seen.sort((a, b) => a[1].id - b[1].id);
  }
}
