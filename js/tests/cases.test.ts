/** Python wrote the cases (`python tests/web_cases.py`); both languages must agree on them. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import * as ort from "onnxruntime-web";
import sharp from "sharp";
import { boxOfPoints, PointBoxes } from "../src/boxes.js";
import type { DetectorCard, KeypointCard } from "../src/card.js";
import { readCard } from "../src/card.js";
import { models as M, tracker as R } from "../src/constants.js";
import { FaceDetector, suppress } from "../src/detector.js";
import type { Face } from "../src/face.js";
import { faceFeatures } from "../src/features.js";
import {
  crop,
  cropTransform,
  resizeTo,
  rotate,
  type Border,
  type Box,
  type Colour,
  type Image,
} from "../src/geometry.js";
import { KeypointPredictor } from "../src/keypoints.js";
import { openModel, type Model } from "../src/model.js";
import { FacePipeline, jointScore } from "../src/pipeline.js";
import { headPose } from "../src/pose.js";
import type { Scheme } from "../src/scheme.js";
import { predictPoints, smooth, startState } from "../src/smoothing.js";
import { FaceTracker } from "../src/tracker.js";
import { appearance } from "../src/tracks.js";

const root = new URL("../../", import.meta.url);
const cases = JSON.parse(readFileSync(new URL("js/tests/cases.json", root), "utf8"));
const PIXEL = 0.05;
const LEVEL = 1;

const modelFile = (name: string): Uint8Array => readFileSync(new URL(`export/${name}.onnx`, root));
const flat = (points: number[][]): Float64Array => Float64Array.from(points.flat());
const photo: Image = await (async () => {
  const image = sharp(readFileSync(new URL("data/sample/eileen_collins.jpg", root)))
    .ensureAlpha()
    .raw();
  const { data, info } = await image.toBuffer({ resolveWithObject: true });
  return { data, width: info.width, height: info.height };
})();
const detector = (await openModel(ort, modelFile("detector"), "detector")) as Model<DetectorCard>;
const predictor = new KeypointPredictor((await openModel(ort, modelFile("stage3"), "stage3")) as Model<KeypointCard>);
const search = (share: number, side?: number): FaceDetector =>
  new FaceDetector(detector, detector.card.threshold! * share, side);

function near(found: ArrayLike<number>, wanted: ArrayLike<number>, tolerance: number, what = ""): void {
  assert.equal(found.length, wanted.length, what);
  for (let i = 0; i < wanted.length; i++) {
    assert.ok(Math.abs(found[i]! - wanted[i]!) <= tolerance, `${what}[${i}]: ${found[i]} is not ${wanted[i]}`);
  }
}

function nearFaces(found: Face[], wanted: Face[], what: string): void {
  assert.deepEqual(
    found.map((face) => face.id),
    wanted.map((face) => face.id),
    `${what}: ids`,
  );
  found.forEach((face, place) => {
    const other = wanted[place]!;
    near(face.keypoints.flat(), other.keypoints.flat(), PIXEL, `${what}: keypoints`);
    near(face.box, other.box, PIXEL, `${what}: box`);
    near([face.score!], [other.score!], 4e-3, `${what}: score`);
    near(Object.values(face.pose!), Object.values(other.pose!), 0.1, `${what}: pose`);
  });
}

const every = (values: ArrayLike<number>): number[] => Array.from(values).filter((_, place) => place % 97 === 0);

test("the photo is decoded as in Python", () => {
  assert.deepEqual([photo.width, photo.height], cases.photo.size);
  assert.equal(
    Array.from(photo.data).reduce((sum, value, i) => (i % 4 < 3 ? sum + value : sum), 0),
    cases.photo.sum,
  );
});

test("crops: the same transform, pixels within a grey level", () => {
  for (const { box, size, widen, roll, border, colour, transform, pixels } of cases.crops) {
    const own = cropTransform(box as Box, size, widen, roll);
    near(own, transform, 1e-5, "transform");
    near(every(crop(photo, own, size, { border: border as Border, colour: colour as Colour }).data), pixels, LEVEL);
  }
});

test("resized images: pixels within a grey level", () => {
  for (const { side, size, zoom, pixels } of cases.resizes) {
    const [resized, own] = resizeTo(photo, side);
    assert.deepEqual([resized.width, resized.height], size);
    near(own, zoom, 1e-8);
    near(every(resized.data), pixels, LEVEL, `side ${side}`);
  }
});

test("boxes from points of every scheme", () => {
  for (const { scheme, points, box } of cases.boxes) {
    near(boxOfPoints(flat(points), scheme as Scheme), box, 1e-5, scheme.name);
  }
});

test("boxes and rolls that a model's points give", () => {
  for (const { model, points, boxes, rolls } of cases.point_boxes) {
    const own = new PointBoxes(readCard(modelFile(model)) as KeypointCard);
    points.forEach((face: number[][], place: number) => {
      const [box, roll] = own.of(flat(face));
      near(box, boxes[place], 1e-5, model);
      near([roll], [rolls[place]], 1e-8, model);
    });
  }
});

test("non-maximum suppression keeps the same boxes", () => {
  const { boxes, scores, most, kept } = cases.suppress;
  const found = suppress(
    boxes.map((box: Box, place: number) => ({ box, score: scores[place] })),
    most,
  );
  near(
    found.map((one) => one.score),
    kept,
    1e-6,
  );
});

test("smoothing", () => {
  let state = startState(flat(cases.smooth.start));
  for (const { dt, points, smoothed, ahead } of cases.smooth.steps) {
    state = smooth(state, flat(points), 100, dt);
    near(state.points, flat(smoothed), 1e-4, "smoothed");
    near(predictPoints(state, 0.033), flat(ahead), 1e-4, "predicted");
  }
});

test("head poses", () => {
  for (const { points, size, pose } of cases.poses) {
    near(Object.values(headPose(flat(points), predictor.model.card.keypoints, size)!), pose, 0.01);
  }
});

test("features of every scheme", () => {
  for (const { scheme, points, pose, features } of cases.features) {
    const own = faceFeatures(flat(points), scheme, pose, [640, 480]);
    assert.deepEqual(Object.keys(own), Object.keys(features));
    for (const [name, value] of Object.entries(own)) {
      if (value === null || features[name] === null) assert.equal(value, features[name], `${scheme.name} ${name}`);
      else near([value], [features[name]], 6e-4, `${scheme.name} ${name}`);
    }
  }
});

test("appearances", () => {
  for (const { box, roll, look } of cases.looks) near(appearance(photo, box, roll), look, 0.02);
});

test("joint scores", () => {
  for (const { joint, detection, found, longer, score } of cases.joint) {
    near([jointScore(joint, detection, found, longer)], [score], 1e-9);
  }
});

test("the faces of the sample photo, and of its rotated copies", async () => {
  const pipeline = new FacePipeline(search(M.VERIFIED), predictor);
  for (const { quarters, faces } of cases.detect) {
    nearFaces(await pipeline.detect(quarters ? rotate(photo, quarters) : photo), faces, `rotated by ${quarters}`);
  }
});

test("the faces of a clip, frame by frame, with the same ids", async () => {
  const tracker = new FaceTracker(search(M.FOLLOWED, R.SIDE), predictor);
  for (const [number, wanted] of cases.track.frames.entries()) {
    nearFaces(await tracker.update(clipFrame(number), number / cases.track.rate), wanted, `frame ${number}`);
  }
});

/** As `clip_frame` in tests/web_cases.py. */
function clipFrame(number: number): Image {
  const [width, height] = [640, 360];
  const data = new Uint8Array(4 * width * height).fill(96);
  const [wide, high] = [Math.ceil(photo.width / 2), Math.ceil(photo.height / 2)];
  const paste = (left: number, top: number, mirror: boolean): void => {
    for (let y = 0; y < high; y++) {
      for (let x = 0; x < wide; x++) {
        const from = 4 * (2 * y * photo.width + 2 * (mirror ? wide - 1 - x : x));
        data.set(photo.data.subarray(from, from + 4), 4 * ((top + y) * width + left + x));
      }
    }
  };
  paste(20 + 2 * number, 40, false);
  if (number >= 8) paste(360 - number, 20 + number, true);
  return { data, width, height };
}
