/** The model card that every model file carries, and the little of ONNX's protobuf that is needed to read it. */
import type { Border, Colour } from "./geometry.js";
import type { Scheme } from "./scheme.js";

/** What a model expects and promises (kpedge/core/card.py). */
export interface Card {
  format: number;
  name: string;
  task: "keypoints" | "face keypoints" | "detector";
  input: { name: string; shape: (number | string)[]; colour: Colour };
  outputs: { name: string }[];
  keypoints: Scheme;
  threshold?: number;
  weights_sha256: string;
  accuracy: { validation?: { nme_box?: number } };
}

/** Weights of a joint score with the detector whose weights have this hash (kpedge/core/joint_score.py). */
export interface JointScore {
  detector_sha256: string;
  detector: number;
  keypoints: number;
  error: number;
  size: number;
  support?: number;
  constant: number;
  rotated: number;
}

/** Of a keypoint model. */
export interface KeypointCard extends Card {
  task: "keypoints" | "face keypoints";
  crop: { widen: number; border: Border };
  /** (K, 2), fractions of the crop. */
  mean_shape: [number, number][];
  joint?: JointScore;
}

/** Of a detector. */
export interface DetectorCard extends Card {
  task: "detector";
  stride: number;
  side: number;
  suppression: number;
}

/** A model cannot be used; the message says why, and what to do. */
export class ModelError extends Error {
  override name = "ModelError";
}

const FORMAT = 1;
const METADATA_KEY = "kpedge.card";
/** Field of ONNX's ModelProto that holds pairs of key (field 1) and value (field 2). */
const METADATA_PROPS = 14;

/** The card inside an ONNX file. */
export function readCard(file: Uint8Array, source = "model"): KeypointCard | DetectorCard {
  let text: string | undefined;
  try {
    text = readMetadata(file).get(METADATA_KEY);
  } catch {
    throw new ModelError(`${source}: not an ONNX file, or a damaged one`);
  }
  if (text === undefined) {
    throw new ModelError(`${source}: an ONNX file without a kpedge card; write it with: kpedge export`);
  }
  return checkCard(parse(text, source), source);
}

function parse(text: string, source: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new ModelError(`${source}: the model card is not JSON`);
  }
}

function checkCard(data: unknown, source: string): KeypointCard | DetectorCard {
  const card = data as KeypointCard | DetectorCard;
  if (typeof card !== "object" || card === null || !("format" in card)) {
    throw new ModelError(`${source}: not a kpedge model card`);
  }
  if (card.format !== FORMAT) {
    throw new ModelError(`${source}: the card has format ${card.format}, this kpedge reads ${FORMAT}; update kpedge`);
  }
  const points = card.keypoints?.points?.length;
  const holds =
    card.task === "detector"
      ? card.input?.colour === "bgr" &&
        card.stride >= 8 &&
        card.side > 0 &&
        card.suppression > 0 &&
        card.suppression < 1
      : ["keypoints", "face keypoints"].includes(card.task) &&
        ["bgr", "grey"].includes(card.input?.colour) &&
        cropSize(card) >= 8 &&
        ["replicate", "black"].includes(card.crop?.border) &&
        card.mean_shape?.length === points;
  if (!points || !holds) throw new ModelError(`${source}: the model card is damaged, or of a later kpedge`);
  return card;
}

/** Side of a keypoint model's crops, pixels. */
export function cropSize(card: KeypointCard): number {
  return Number(card.input.shape[1]);
}

export function hasScore(card: Card): boolean {
  return card.task === "face keypoints";
}

/** The metadata of an ONNX file: key -> value. */
export function readMetadata(file: Uint8Array): Map<string, string> {
  const found = new Map<string, string>();
  for (const [field, content] of fields(file)) {
    if (field !== METADATA_PROPS || content === undefined) continue;
    const pair = new Map(fields(content));
    const [key, value] = [pair.get(1), pair.get(2)].map((bytes) => new TextDecoder().decode(bytes));
    found.set(key!, value!);
  }
  return found;
}

/** The fields of a protobuf message: number, and the content of those that have a length. */
function* fields(message: Uint8Array): Generator<[number, Uint8Array | undefined]> {
  let at = 0;
  const varint = (): number => {
    let [value, unit] = [0, 1];
    for (;;) {
      const byte = message[at++];
      if (byte === undefined || unit > 2 ** 63) throw new RangeError("truncated");
      value += (byte & 127) * unit;
      if (byte < 128) return value;
      unit *= 128;
    }
  };
  while (at < message.length) {
    const key = varint();
    const kind = key % 8;
    let content: Uint8Array | undefined;
    if (kind === 0) varint();
    else if (kind === 1) at += 8;
    else if (kind === 5) at += 4;
    else if (kind === 2) {
      const length = varint();
      if (at + length > message.length) throw new RangeError("truncated");
      content = message.subarray(at, at + length);
      at += length;
    } else throw new RangeError("not protobuf");
    yield [Math.floor(key / 8), content];
  }
}
