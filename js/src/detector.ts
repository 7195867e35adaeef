/** From an image to the faces in it: preprocess, run, postprocess (kpedge/runtime/detector.py). */
import type { DetectorCard } from "./card.js";
import { boxes as B, detector as D, joint as J } from "./constants.js";
import { iou, resizeTo, rint, rotate, rotateBack, type Box, type Image, type Pixels, type Points } from "./geometry.js";
import type { Model, Outputs } from "./model.js";

export interface Detection {
  box: Box;
  score: number;
  /** (5, 2): both eyes, nose tip, both mouth corners, pixels of the image. */
  points: Points;
  /** The scores of all boxes that show the same face, added up and divided by the number of sizes searched. */
  support: number;
}

/** A box of the network. */
type Candidate = Omit<Detection, "support">;

export class FaceDetector {
  /**
   * @param threshold score from which on there is a face; the card's by default.
   * @param side longer side, pixels, to which images are resized; the card's by default.
   */
  constructor(
    readonly model: Model<DetectorCard>,
    readonly threshold = model.card.threshold ?? 0,
    readonly side = model.card.side,
  ) {}

  /** The faces of an image, by falling score. */
  async detect(image: Image): Promise<Detection[]> {
    const found: Candidate[] = [];
    const searched = sides(image, this.side);
    for (const side of searched) {
      const [shown, zoom] = resizeTo(image, side);
      for (const top of tileStarts(shown.height)) {
        for (const left of tileStarts(shown.width)) {
          const width = Math.min(D.TILE, shown.width - left);
          const height = Math.min(D.TILE, shown.height - top);
          const [frame, shape] = frameOf(shown, left, top, width, height, this.model.card.stride);
          for (const one of candidates(await this.model.run(frame, shape), Math.min(this.threshold, J.LOWEST))) {
            const [x1, y1, x2, y2] = one.box;
            const cut =
              (left > 0 && x1 <= D.SEAM) ||
              (top > 0 && y1 <= D.SEAM) ||
              (left + width < shown.width && x2 >= width - D.SEAM) ||
              (top + height < shown.height && y2 >= height - D.SEAM);
            if (cut) continue;
            const back = (value: number, place: number) =>
              (value + (place % 2 ? top : left) + 0.5) / zoom[place % 2]! - 0.5;
            found.push({ ...one, box: one.box.map(back) as unknown as Box, points: one.points.map(back) });
          }
        }
      }
    }
    const faces = suppress(
      found.filter((one) => one.score >= this.threshold),
      this.model.card.suppression,
    );
    return faces.map((face) => {
      const same = found.filter((one) => one.score >= J.LOWEST && iou(face.box, one.box) >= D.SUPPORT_OVERLAP);
      const support = same.reduce((sum, one) => sum + one.score, 0);
      if (support === 0) return { ...face, support };
      const mean = (numbers: (one: Candidate) => ArrayLike<number>) =>
        Float64Array.from(
          numbers(face),
          (_, k) => same.reduce((sum, one) => sum + one.score * numbers(one)[k]!, 0) / support,
        );
      const box = [...mean((one) => one.box)] as unknown as Box;
      return { ...face, box, points: mean((one) => one.points), support: support / searched.length };
    });
  }

  /** The faces of an image in its copies rotated by 90, 180 and 270 degrees, in pixels of the image itself. */
  async searchRotated(image: Image): Promise<Detection[]> {
    const found: Detection[] = [];
    for (const quarters of [1, 2, 3] as const) {
      for (const face of await this.detect(rotate(image, quarters))) {
        const { box, points } = face;
        const side = box[2] - box[0];
        // The mean of the points rotates with the face, the box does not.
        const [x, y] = rotateBack((box[0] + box[2]) / 2, (box[1] + box[3]) / 2 - B.BOX_BELOW * side, image, quarters);
        const [middle, half] = [y + B.BOX_BELOW * side, side / 2];
        const back = points.slice();
        for (let i = 0; i < back.length; i += 2) {
          [back[i], back[i + 1]] = rotateBack(points[i]!, points[i + 1]!, image, quarters);
        }
        found.push({ ...face, box: [x - half, middle - half, x + half, middle + half], points: back });
      }
    }
    return suppress(found, this.model.card.suppression);
  }
}

/** The longer sides at which an image is searched, the largest first. */
export function sides(image: Image, wanted: number): number[] {
  const longest = Math.max(image.width, image.height);
  const views = Math.max(1, longest / (D.ASPECT * Math.min(image.width, image.height)));
  let side = Math.max(wanted, Math.min(Math.trunc(views * wanted), longest));
  side = Math.min(side, Math.trunc(D.LARGEST_ZOOM * longest));
  const coarse = Math.trunc(views * D.COARSE);
  const found = [side];
  while (side > coarse) {
    side = Math.max(coarse, Math.floor(side / 2));
    found.push(side);
  }
  return found;
}

/** Where the tiles of an image start along an axis. */
function tileStarts(length: number): number[] {
  if (length <= D.TILE) return [0];
  const count = Math.ceil((length - D.OVERLAP) / (D.TILE - D.OVERLAP));
  return Array.from({ length: count }, (_, step) => rint((step * (length - D.TILE)) / (count - 1)));
}

/** Part of an image as a batch of one frame: black is added right and below up to whole strides. */
function frameOf(
  image: Pixels,
  left: number,
  top: number,
  width: number,
  height: number,
  stride: number,
): [Uint8Array, number[]] {
  const across = Math.ceil(width / stride) * stride;
  const down = Math.ceil(height / stride) * stride;
  const frame = new Uint8Array(down * across * 3);
  for (let row = 0; row < height; row++) {
    const from = 3 * ((top + row) * image.width + left);
    frame.set(image.data.subarray(from, from + 3 * width), 3 * row * across);
  }
  return [frame, [1, down, across, 3]];
}

/** The boxes of a frame from a score on, pixels of the frame. */
function candidates(outputs: Outputs, threshold: number): Candidate[] {
  const { boxes, scores, points } = outputs as Record<"boxes" | "scores" | "points", Float32Array>;
  const stride = points.length / scores.length;
  const found: Candidate[] = [];
  scores.forEach((score, row) => {
    if (score < threshold) return;
    const box = [...boxes.subarray(4 * row, 4 * row + 4)] as unknown as Box;
    found.push({ box, score, points: Float64Array.from(points.subarray(stride * row, stride * (row + 1))) });
  });
  return found;
}

/** The best of boxes that show the same face: greedy non-maximum suppression, by falling score. */
export function suppress<T extends { box: Box; score: number }>(found: T[], most: number): T[] {
  const kept: T[] = [];
  for (const one of [...found].sort((a, b) => b.score - a.score)) {
    if (kept.every((other) => iou(one.box, other.box) <= most)) kept.push(one);
  }
  return kept;
}
