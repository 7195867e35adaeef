/** From an image to the keypoints of all its faces: detect, rotate upright, predict (kpedge/runtime/pipeline.py). */
import { scaledBoxes } from "./boxes.js";
import { geometry as G, keypoints as K, pipeline as P } from "./constants.js";
import type { FaceDetector } from "./detector.js";
import { pairs, type Face } from "./face.js";
import { overlapsImage, rotatedBox, type Box, type Image } from "./geometry.js";
import type { Candidate, KeypointPredictor } from "./keypoints.js";
import { headPose } from "./pose.js";
import { rollOf } from "./scheme.js";

type Numbered = [number, Box, number];

/**
 * The faces of an image, by falling score of the detector. Each is predicted twice: the second crop is cut around the
 * box that follows from the points of the first.
 */
export async function detectFaces(
  image: Image,
  detector: FaceDetector,
  predictor: KeypointPredictor,
  { pose = true }: { pose?: boolean } = {},
): Promise<Face[]> {
  const { boxes: model, hasScore, threshold } = predictor;
  const detections = await detector.detect(image);
  const boxes = detections.map((one, place): Numbered => {
    const roll = rollOf(detector.model.card.keypoints, one.points);
    return [place, model.fromDetector(one.box, roll), roll];
  });
  const isFace = (one: Candidate): boolean => !hasScore || one.score >= threshold;
  const guess = hasScore && model.givesSize && !model.relatesToOurs;
  let found = guess ? await bestOfSizes(image, boxes, predictor) : await predictNumbered(image, boxes, predictor);
  for (let look = model.givesSize ? (guess ? 2 : 1) : 0; look > 0; look--) {
    const again = [...found].filter(([, one]) => look === 2 || isFace(one)); // the first of three decides nothing
    const nearer = again.map(([place, one]): Numbered => [place, ...model.of(one.points)]);
    found = new Map([...found, ...(await predictNumbered(image, nearer, predictor))]);
  }
  const { card } = predictor.model;
  return [...found]
    .filter(([, one]) => isFace(one))
    .map(([place, one]) => {
      const angles = pose ? headPose(one.points, card.keypoints, [image.width, image.height]) : undefined;
      return {
        box: [...detections[place]!.box],
        score: hasScore ? one.score : null,
        keypoints: pairs(one.points),
        ...(hasScore ? { errors: [...one.errors] } : {}),
        ...(angles ? { pose: angles } : {}),
      };
    });
}

/** The best of several sizes of each box, by its number. */
async function bestOfSizes(
  image: Image,
  boxes: Numbered[],
  predictor: KeypointPredictor,
): Promise<Map<number, Candidate>> {
  const count = K.SCALES.length;
  const several = boxes.flatMap(([place, box, roll]) =>
    scaledBoxes(box).map((one, size): Numbered => [place * count + size, one, roll]),
  );
  const best = new Map<number, Candidate>();
  for (const [number, one] of await predictNumbered(image, several, predictor)) {
    const place = Math.floor(number / count);
    if (!best.has(place) || one.score > best.get(place)!.score) best.set(place, one);
  }
  return best;
}

/** Candidates for numbered boxes and rolls; without those whose crop would lie outside the image, or is none. */
async function predictNumbered(
  image: Image,
  boxes: Numbered[],
  predictor: KeypointPredictor,
): Promise<Map<number, Candidate>> {
  const shown = boxes
    .map(([place, box, roll]): Numbered => [place, box, Math.abs(roll) > P.SMALL_ROLL ? roll : 0])
    .filter(([, box, roll]) => box[2] - box[0] >= G.MIN_SIDE && overlapsImage(rotatedBox(box, roll), image));
  const found = new Map<number, Candidate>();
  for (let start = 0; start < shown.length; start += P.BATCH) {
    const part = shown.slice(start, start + P.BATCH);
    const answers = await predictor.predict(
      image,
      part.map((one) => one[1]),
      part.map((one) => one[2]),
    );
    part.forEach(([place], row) => found.set(place, answers[row]!));
  }
  return found;
}
