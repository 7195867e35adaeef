/** From an image and boxes to keypoints: preprocess, run, postprocess (kpedge/runtime/keypoints.py). */
import { PointBoxes } from "./boxes.js";
import { cropSize, hasScore, type KeypointCard } from "./card.js";
import { keypoints as K } from "./constants.js";
import { crop, cropTransform, invert, type Box, type Image, type Points } from "./geometry.js";
import type { Model } from "./model.js";

/** What the keypoint model finds in a box. */
export interface Candidate {
  points: Points;
  /** Of the points, not the one that was cropped. */
  box: Box;
  roll: number;
  /** Of a face, 0 to 1; 1 where the model has no score. */
  score: number;
  /** Expected error of each point, pixels; 0 where the model does not give them. */
  errors: Float64Array;
}

export function noCandidate(points: number): Candidate {
  return {
    points: new Float64Array(2 * points),
    box: [0, 0, 0, 0],
    roll: 0,
    score: 0,
    errors: new Float64Array(points),
  };
}

export class KeypointPredictor {
  readonly boxes: PointBoxes;
  readonly hasScore: boolean;

  /** @param threshold score from which on a box shows a face; the card's by default. */
  constructor(
    readonly model: Model<KeypointCard>,
    public threshold = model.card.threshold ?? 0,
  ) {
    this.boxes = new PointBoxes(model.card);
    this.hasScore = hasScore(model.card);
  }

  /** What the model finds in boxes of faces rotated by rolls, radians. */
  async predict(image: Image, boxes: readonly Box[], rolls: readonly number[]): Promise<Candidate[]> {
    if (!boxes.length) return [];
    const { card } = this.model;
    const size = cropSize(card);
    const channels = card.input.colour === "grey" ? 1 : 3;
    const length = size * size * channels;
    const crops = new Uint8Array(boxes.length * length);
    const transforms = boxes.map((box, place) => {
      const transform = cropTransform(box, size, card.crop.widen, rolls[place]);
      const { border } = card.crop;
      crops.set(crop(image, transform, size, { border, colour: card.input.colour }).data, place * length);
      return transform;
    });
    const outputs = await this.model.run(crops, [boxes.length, size, size, channels]);
    const count = card.keypoints.points.length;
    return transforms.map((transform, row) => {
      const [a, b, x, c, d, y] = invert(transform);
      const fractions = outputs["keypoints"]!.subarray(2 * count * row, 2 * count * (row + 1));
      const points = new Float64Array(2 * count);
      for (let i = 0; i < 2 * count; i += 2) {
        const [u, v] = [size * fractions[i]! - 0.5, size * fractions[i + 1]! - 0.5];
        points[i] = a * u + b * v + x;
        points[i + 1] = c * u + d * v + y;
      }
      const scale = size * Math.hypot(a, c);
      const [box, roll] = this.boxes.of(points);
      const seen = contrast(crops.subarray(row * length, (row + 1) * length), channels) >= K.MIN_CONTRAST;
      const score = !this.hasScore ? 1 : seen ? outputs["score"]![row]! : 0;
      const errors = Float64Array.from({ length: count }, (_, place) =>
        this.hasScore ? outputs["error"]![row * count + place]! * scale : 0,
      );
      return { points, box, roll, score, errors };
    });
  }
}

/** The largest standard deviation of a channel. */
function contrast(pixels: Uint8Array, channels: number): number {
  const count = pixels.length / channels;
  let most = 0;
  for (let channel = 0; channel < channels; channel++) {
    let [sum, squares] = [0, 0];
    for (let i = channel; i < pixels.length; i += channels) {
      sum += pixels[i]!;
      squares += pixels[i]! ** 2;
    }
    most = Math.max(most, Math.sqrt(Math.max(0, squares / count - (sum / count) ** 2)));
  }
  return most;
}
