/** From an image to the keypoints of all its faces: detect, rotate upright, predict (kpedge/runtime/pipeline.py). */
import { scaledBoxes } from "./boxes.js";
import type { JointScore } from "./card.js";
import { geometry as G, joint as J, keypoints as K, looks as L, pipeline as P } from "./constants.js";
import { FaceDetector, type Detection } from "./detector.js";
import { pairs, type Face } from "./face.js";
import { overlapsImage, rotatedBox, type Box, type Image, type Points } from "./geometry.js";
import { KeypointPredictor, type Candidate } from "./keypoints.js";
import { headPose } from "./pose.js";
import { rollOf } from "./scheme.js";

/** Where to look: number of the face, box, roll. */
type Numbered = [number, Box, number];
/** What was found there, by number. */
type Looks = Map<number, { one: Candidate; crop: Box }>;

export class FacePipeline {
  readonly joint: JointScore | undefined;
  readonly #detector: FaceDetector;
  readonly #predictor: KeypointPredictor;
  readonly #guesses: boolean;

  /**
   * @param detector with the threshold for a keypoint model that decides after it; a joint score replaces both.
   * @param threshold score from which on there is a face; the models' own by default.
   * @param rotations whether images without a face are searched again, rotated by 90, 180 and 270 degrees.
   */
  constructor(
    detector: FaceDetector,
    predictor: KeypointPredictor,
    public threshold?: number,
    readonly rotations = true,
  ) {
    const { joint } = predictor.model.card;
    this.joint = joint?.detector_sha256 === detector.model.card.weights_sha256 ? joint : undefined;
    this.#detector = this.joint ? new FaceDetector(detector.model, J.LOWEST, detector.side) : detector;
    this.#predictor = predictor;
    const { givesSize, relatesToOurs } = predictor.boxes;
    this.#guesses = predictor.hasScore && givesSize && !relatesToOurs;
  }

  /** The faces of an image, by falling score of the detector. */
  async detect(image: Image, { pose = true }: { pose?: boolean } = {}): Promise<Face[]> {
    let faces = await this.#find(image, false);
    if (this.rotations && !faces.length) faces = await this.#find(image, true);
    if (!pose) return faces;
    const { keypoints: scheme } = this.#predictor.model.card;
    return faces.map((face) => {
      const points = Float64Array.from(face.keypoints.flat());
      const angles = headPose(points, scheme, [image.width, image.height]);
      return angles ? { ...face, pose: angles } : face;
    });
  }

  async #find(image: Image, rotated: boolean): Promise<Face[]> {
    const detections = await (rotated ? this.#detector.searchRotated(image) : this.#detector.detect(image));
    const looks = await this.#look(image, detections);
    const longer = Math.max(image.width, image.height);
    return [...looks].flatMap(([place, { one }]) => {
      const detection = detections[place]!;
      const score = this.joint ? jointScore(this.joint, detection, one, longer) : one.score;
      const threshold = this.threshold ?? J.JOINT_THRESHOLD;
      const most = rotated && this.joint ? Math.max(threshold, this.joint.rotated) : threshold;
      if (this.joint ? score < most : !this.#isFace(one)) return [];
      const face: Face = {
        box: [...detection.box],
        score: this.#predictor.hasScore ? score : null,
        keypoints: pairs(one.points),
      };
      return [this.#predictor.hasScore ? { ...face, errors: [...one.errors] } : face];
    });
  }

  /** What the keypoint model makes of detections. A second crop is cut around the box that follows from its points. */
  async #look(image: Image, detections: readonly Detection[]): Promise<Looks> {
    const scheme = this.#detector.model.card.keypoints;
    const boxes = detections.map(({ box, points }, place): Numbered => {
      const roll = rollOf(scheme, points);
      return [place, this.#predictor.boxes.fromDetector(box, roll), roll];
    });
    const first = await (this.#guesses ? this.#bestOfSizes(image, boxes) : this.#predict(image, boxes));
    const found = await this.#refine(image, first);
    const doubtful = boxes.filter(([place]) => found.has(place) && this.#error(found.get(place)!) > P.DOUBTFUL);
    const flipped = doubtful.map(([place, box, roll]): Numbered => [place, box, roll + Math.PI]);
    for (const [place, other] of await this.#refine(image, await this.#predict(image, flipped))) {
      const clearer = this.#error(other) < P.CLEARER * this.#error(found.get(place)!);
      if (this.#isFace(other.one) && clearer) found.set(place, other);
    }
    return this.#distinct(found);
  }

  /** Looks without those whose points are those of an earlier one: several boxes may lead to one face. */
  #distinct(looks: Looks): Looks {
    const kept: Looks = new Map();
    for (const [place, look] of [...looks].sort(([a], [b]) => a - b)) {
      const { points } = look.one;
      const same = ({ one }: { one: Candidate }) =>
        this.#isFace(one) && distance(points, one.points) < L.SAME_FACE * spread(one.points);
      if (!this.#isFace(look.one) || ![...kept.values()].some(same)) kept.set(place, look);
    }
    return kept;
  }

  /** Crops around the boxes that follow from the points of the first ones. */
  async #refine(image: Image, looks: Looks): Promise<Looks> {
    const { boxes } = this.#predictor;
    let found = looks;
    for (let step = boxes.givesSize ? (this.#guesses ? 2 : 1) : 0; step > 0; step--) {
      const again = [...found].filter(([, { one }]) => step === 2 || this.#isFace(one)); // guesses decide nothing
      const nearer = again.map(([place, { one }]): Numbered => [place, ...boxes.of(one.points)]);
      found = new Map([...found, ...(await this.#predict(image, nearer))]);
    }
    return found;
  }

  #isFace(one: Candidate): boolean {
    const threshold = this.joint ? 0 : (this.threshold ?? this.#predictor.threshold);
    return !this.#predictor.hasScore || one.score >= threshold;
  }

  /** The relative error of a face's points; 0 of what is no face. */
  #error({ one }: { one: Candidate }): number {
    return this.#isFace(one) ? relativeError(one) : 0;
  }

  /** The best of several sizes of each box. */
  async #bestOfSizes(image: Image, boxes: readonly Numbered[]): Promise<Looks> {
    const count = K.SCALES.length;
    const several = boxes.flatMap(([place, box, roll]) =>
      scaledBoxes(box).map((one, size): Numbered => [place * count + size, one, roll]),
    );
    const best: Looks = new Map();
    for (const [number, look] of await this.#predict(image, several)) {
      const place = Math.floor(number / count);
      if (!best.has(place) || look.one.score > best.get(place)!.one.score) best.set(place, look);
    }
    return best;
  }

  /** Candidates for boxes and rolls; without those whose crop would lie outside the image, or is none. */
  async #predict(image: Image, boxes: readonly Numbered[]): Promise<Looks> {
    const shown = boxes
      .map(([place, box, roll]): Numbered => [place, box, Math.abs(roll) > L.SMALL_ROLL ? roll : 0])
      .filter(([, box, roll]) => box[2] - box[0] >= G.MIN_SIDE && overlapsImage(rotatedBox(box, roll), image));
    const found: Looks = new Map();
    for (let start = 0; start < shown.length; start += L.BATCH) {
      const part = shown.slice(start, start + L.BATCH);
      const [crops, rolls] = [part.map((one) => one[1]), part.map((one) => one[2])];
      const answers = await this.#predictor.predict(image, crops, rolls);
      part.forEach(([place, crop], row) => found.set(place, { one: answers[row]!, crop }));
    }
    return found;
  }
}

/** The joint score of a detection and what the keypoint model found in it, in an image with this longer side. */
export function jointScore(joint: JointScore, detection: Detection, found: Candidate, longer: number): number {
  const size = (detection.box[2] - detection.box[0]) / longer;
  const scores = joint.detector * logit(detection.score) + joint.keypoints * logit(found.score);
  const support = (joint.support ?? 0) * log(detection.support);
  const total = scores + support + joint.error * log(relativeError(found)) + joint.size * log(size) + joint.constant;
  return 1 / (1 + Math.exp(-Math.max(-500, Math.min(total, 500))));
}

/** Mean expected error of points, in their mean distance from their mean. */
function relativeError({ points, errors }: Candidate): number {
  if (!errors.length) return 0;
  return errors.reduce((sum, error) => sum + error, 0) / errors.length / Math.max(spread(points), 1e-6);
}

/** Mean distance of points from their mean. */
function spread(points: Points): number {
  const count = points.length / 2;
  const mean = [0, 0];
  points.forEach((value, k) => (mean[k % 2]! += value / count));
  return distance(
    points,
    points.map((_, k) => mean[k % 2]!),
  );
}

/** Mean distance of points from others. */
function distance(points: Points, others: Points): number {
  let sum = 0;
  for (let k = 0; k < points.length; k += 2)
    sum += Math.hypot(points[k]! - others[k]!, points[k + 1]! - others[k + 1]!);
  return (2 * sum) / points.length;
}

function log(value: number): number {
  return Math.log(Math.max(value, 1e-4));
}

function logit(score: number): number {
  const most = J.LARGEST_LOGIT;
  if (!(score > 0 && score < 1)) return score - 0.5 < 0 ? -most : most;
  return Math.max(-most, Math.min(Math.log(score / (1 - score)), most));
}
