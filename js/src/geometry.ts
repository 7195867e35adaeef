/** Boxes, and the crop that the models see: the formulas of kpedge/core/geometry.py (docs/coordinates.md). */
import { boxes as B, geometry as G } from "./constants.js";

/** An image as a canvas gives it: red, green, blue, alpha, one byte each, row by row. */
export interface Image {
  data: Uint8Array | Uint8ClampedArray;
  width: number;
  height: number;
}

/** Pixels of some channels, row by row: what is left of an image after a crop or a resize (blue-green-red, or grey). */
export interface Pixels {
  data: Uint8Array;
  width: number;
  height: number;
  channels: number;
}

/** x1 y1 x2 y2, pixels; (0, 0) is the centre of the first pixel. */
export type Box = readonly [number, number, number, number];
/** The rows a b x, c d y of a 2x3 matrix. */
export type Transform = readonly [number, number, number, number, number, number];
/** x0 y0 x1 y1 …, pixels. */
export type Points = Float64Array;
export type Border = "replicate" | "black";
export type Colour = "bgr" | "grey";

/** Rounds ties to even numbers, as Python and OpenCV do. */
export function rint(value: number): number {
  const low = Math.floor(value);
  const part = value - low;
  return part < 0.5 || (part === 0.5 && low % 2 === 0) ? low : low + 1;
}

export function clamp(value: number, low: number, high: number): number {
  return value < low ? low : value > high ? high : value;
}

export function iou(a: Box, b: Box): number {
  const shared = overlap(a, b);
  return shared / (area(a) + area(b) - shared);
}

export function area(box: Box): number {
  return (box[2] - box[0]) * (box[3] - box[1]);
}

/** The area that two boxes share. */
export function overlap(a: Box, b: Box): number {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  return Math.max(width, 0) * Math.max(height, 0);
}

/** Whether any part of a box lies within an image. */
export function overlapsImage(box: Box, image: Image): boolean {
  return box[0] < image.width - 0.5 && box[1] < image.height - 0.5 && box[2] > -0.5 && box[3] > -0.5;
}

/** The box that lies in the upright crop of a face rotated by `roll` radians as other boxes do in theirs. */
export function rotatedBox([x1, y1, x2, y2]: Box, roll: number): Box {
  const below = B.BOX_BELOW * (y2 - y1);
  const x = -below * Math.sin(roll);
  const y = below * (Math.cos(roll) - 1);
  return [x1 + x, y1 + y, x2 + x, y2 + y];
}

/** From image pixels to those of an upright crop of `size`, of the square of a side around (x, y). */
export function squareTransform(x: number, y: number, side: number, size: number, roll = 0): Transform {
  const cos = (size / side) * Math.cos(roll);
  const sin = (size / side) * Math.sin(roll);
  const middle = (size - 1) / 2;
  return [cos, sin, middle - (cos * x + sin * y), -sin, cos, middle - (-sin * x + cos * y)];
}

/** The transform of the crop of a box: `widen` is added on each side, as a fraction of the longer one. */
export function cropTransform(box: Box, size: number, widen: number, roll = 0): Transform {
  const [x1, y1, x2, y2] = rotatedBox(box, roll);
  return squareTransform((x1 + x2) / 2, (y1 + y2) / 2, (1 + 2 * widen) * Math.max(x2 - x1, y2 - y1), size, roll);
}

export function invert([a, b, x, c, d, y]: Transform): Transform {
  const determinant = a * d - b * c;
  const [e, f, g, h] = [d / determinant, -b / determinant, -c / determinant, a / determinant];
  return [e, f, -(e * x + f * y), g, h, -(g * x + h * y)];
}

/** An image rotated clockwise by quarter turns. */
export function rotate(image: Image, quarters: 1 | 2 | 3): Image {
  const [width, height] = quarters === 2 ? [image.width, image.height] : [image.height, image.width];
  const source = new Uint32Array(image.data.slice().buffer);
  const pixels = new Uint32Array(width * height);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [u, v] = rotateBack(x, y, image, quarters);
      pixels[at++] = source[v * image.width + u]!;
    }
  }
  return { data: new Uint8Array(pixels.buffer), width, height };
}

/** Where a pixel of the rotated image lies in the image itself. */
export function rotateBack(x: number, y: number, image: Image, quarters: 1 | 2 | 3): [number, number] {
  const [right, bottom] = [image.width - 1, image.height - 1];
  return quarters === 1 ? [y, bottom - x] : quarters === 2 ? [right - x, bottom - y] : [right - y, x];
}

/** Cut a square crop out of an image: averaged down by a whole factor, then sampled bilinearly. */
export function crop(
  image: Image,
  transform: Transform,
  size: number,
  { border = "replicate", colour = "bgr" }: { border?: Border; colour?: Colour } = {},
): Pixels {
  const zoom = Math.sqrt(Math.abs(transform[0] * transform[4] - transform[1] * transform[3]));
  const factor = Math.min(Math.max(1, rint(1 / zoom)), Math.max(image.width, image.height));
  const offset = (factor - 1) / 2 / factor;
  const inverse = invert(transform).map((value, place) => {
    const part = factor > 1 ? (1 / factor) * value - (place % 3 === 2 ? offset : 0) : value;
    return rint(part * G.GRID) / G.GRID;
  });
  const [a, b, x, c, d, y] = inverse as unknown as Transform;
  const middleX = x + ((a + b) * (size - 1)) / 2;
  const middleY = y + ((c + d) * (size - 1)) / 2;
  const reachX = ((Math.abs(a) + Math.abs(b)) * size) / 2;
  const reachY = ((Math.abs(c) + Math.abs(d)) * size) / 2;
  const low: [number, number] = [Math.floor(middleX - reachX) - 1, Math.floor(middleY - reachY) - 1];
  const high: [number, number] = [Math.floor(middleX + reachX) + 3, Math.floor(middleY + reachY) + 3];
  const [region, left, top] = shrunkRegion(image, low, high, factor);
  return warp(colour === "grey" ? toGrey(region) : region, [a, b, x - left, c, d, y - top], size, border);
}

/** Part of an image, blue-green-red, averaged down by `factor`: its cells from `low` up to `high`, and its first cell. */
function shrunkRegion(
  image: Image,
  low: [number, number],
  high: [number, number],
  factor: number,
): [Pixels, number, number] {
  const across = Math.ceil(image.width / factor);
  const down = Math.ceil(image.height / factor);
  const x1 = clamp(low[0], 0, across - 1);
  const y1 = clamp(low[1], 0, down - 1);
  const width = clamp(high[0], x1 + 1, across) - x1;
  const height = clamp(high[1], y1 + 1, down) - y1;
  return [averaged(image, x1 * factor, y1 * factor, width, height, factor, factor), x1, y1];
}

/** Cells of whole pixels, averaged as OpenCV's INTER_AREA does; pixels beyond the image repeat its edge. */
function averaged(
  image: Image,
  left: number,
  top: number,
  width: number,
  height: number,
  stepX: number,
  stepY: number,
): Pixels {
  const data = new Uint8Array(width * height * 3);
  const { data: source, width: across, height: down } = image;
  const count = stepX * stepY;
  for (let row = 0, at = 0; row < height; row++) {
    for (let column = 0; column < width; column++, at += 3) {
      let blue = 0;
      let green = 0;
      let red = 0;
      for (let j = 0; j < stepY; j++) {
        const line = Math.min(top + row * stepY + j, down - 1) * across;
        for (let i = 0; i < stepX; i++) {
          const from = 4 * (line + Math.min(left + column * stepX + i, across - 1));
          red += source[from]!;
          green += source[from + 1]!;
          blue += source[from + 2]!;
        }
      }
      data[at] = mean(blue, count);
      data[at + 1] = mean(green, count);
      data[at + 2] = mean(red, count);
    }
  }
  return { data, width, height, channels: 3 };
}

/** OpenCV rounds ties of 2x2 cells up, others to even. */
function mean(sum: number, count: number): number {
  return count === 1 ? sum : count === 4 ? (sum + 2) >> 2 : rint(sum / count);
}

/** Blue-green-red to grey, with OpenCV's integers. */
function toGrey({ data, width, height }: Pixels): Pixels {
  const grey = new Uint8Array(width * height);
  for (let i = 0, j = 0; i < grey.length; i++, j += 3) {
    grey[i] = (data[j]! * 3735 + data[j + 1]! * 19235 + data[j + 2]! * 9798 + 16384) >> 15;
  }
  return { data: grey, width, height, channels: 1 };
}

/** Sample pixels bilinearly; `inverse` takes a pixel of the square result to one of the source. */
function warp(source: Pixels, inverse: Transform, size: number, border: Border): Pixels {
  const { data: from, width, height, channels } = source;
  const data = new Uint8Array(size * size * channels);
  const [a, b, x, c, d, y] = inverse;
  for (let row = 0, at = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      const sx = a * column + b * row + x;
      const sy = c * column + d * row + y;
      const left = Math.floor(sx);
      const top = Math.floor(sy);
      const [u, v] = [sx - left, sy - top];
      const weights = [(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v];
      for (let k = 0; k < 4 && border === "black"; k++) {
        const [i, j] = [left + (k & 1), top + (k >> 1)];
        if (i < 0 || j < 0 || i >= width || j >= height) weights[k] = 0;
      }
      const x1 = clamp(left, 0, width - 1) * channels;
      const x2 = clamp(left + 1, 0, width - 1) * channels;
      const y1 = clamp(top, 0, height - 1) * width * channels;
      const y2 = clamp(top + 1, 0, height - 1) * width * channels;
      for (let k = 0; k < channels; k++) {
        data[at++] = rint(
          weights[0]! * from[y1 + x1 + k]! +
            weights[1]! * from[y1 + x2 + k]! +
            weights[2]! * from[y2 + x1 + k]! +
            weights[3]! * from[y2 + x2 + k]!,
        );
      }
    }
  }
  return { data, width: size, height: size, channels };
}

/** An image with a longer side of `side` pixels, blue-green-red, and its zoom along x and y. */
export function resizeTo(image: Image, side: number): [Pixels, [number, number]] {
  const factor = side / Math.max(image.width, image.height);
  const width = Math.max(1, rint(image.width * factor));
  const height = Math.max(1, rint(image.height * factor));
  const [stepX, stepY] = [image.width / width, image.height / height];
  const zoom: [number, number] = [1 / stepX, 1 / stepY];
  if (Number.isInteger(stepX) && Number.isInteger(stepY)) {
    return [averaged(image, 0, 0, width, height, stepX, stepY), zoom];
  }
  return [factor < 1 ? shrunk(image, width, height) : enlarged(image, width, height), zoom];
}

/** Which source pixels a pixel of the result covers: the first, and the weight of each from there on. */
type Taps = [number, number[]][];

function areaTaps(from: number, to: number): Taps {
  const step = from / to;
  return Array.from({ length: to }, (_, place) => {
    const [low, high] = [place * step, Math.min((place + 1) * step, from)];
    const first = Math.floor(low);
    const weights = [];
    for (let i = first; i < high - 1e-9; i++) weights.push((Math.min(high, i + 1) - Math.max(low, i)) / (high - low));
    return [first, weights];
  });
}

/** An image averaged down by any factor, as OpenCV's INTER_AREA does. */
function shrunk(image: Image, width: number, height: number): Pixels {
  const data = new Uint8Array(width * height * 3);
  const line = new Float32Array(image.width * 3);
  const columns = areaTaps(image.width, width);
  let at = 0;
  for (const [top, down] of areaTaps(image.height, height)) {
    line.fill(0);
    down.forEach((weight, j) => {
      let from = (top + j) * image.width * 4;
      for (let i = 0; i < line.length; i += 3, from += 4) {
        line[i]! += weight * image.data[from + 2]!;
        line[i + 1]! += weight * image.data[from + 1]!;
        line[i + 2]! += weight * image.data[from]!;
      }
    });
    for (const [left, across] of columns) {
      for (let k = 0; k < 3; k++) {
        let sum = 0;
        for (let i = 0; i < across.length; i++) sum += across[i]! * line[3 * (left + i) + k]!;
        data[at++] = rint(sum);
      }
    }
  }
  return { data, width, height, channels: 3 };
}

/** Two source pixels and their weights, in parts of 2048. */
function linearTaps(from: number, to: number): [number, number, number, number][] {
  return Array.from({ length: to }, (_, place) => {
    const at = Math.fround(clamp(((place + 0.5) * from) / to - 0.5, 0, from - 1));
    const first = Math.floor(at);
    return [first, Math.min(first + 1, from - 1), rint((1 - (at - first)) * 2048), rint((at - first) * 2048)];
  });
}

/** An image enlarged bilinearly, with the integers of OpenCV's INTER_LINEAR. */
function enlarged(image: Image, width: number, height: number): Pixels {
  const { data: from, width: across } = image;
  const data = new Uint8Array(width * height * 3);
  const columns = linearTaps(across, width);
  let at = 0;
  for (const [y1, y2, v1, v2] of linearTaps(image.height, height)) {
    const [above, below] = [y1 * across, y2 * across];
    for (const [x1, x2, u1, u2] of columns) {
      for (let k = 2; k >= 0; k--) {
        const first = from[4 * (above + x1) + k]! * u1 + from[4 * (above + x2) + k]! * u2;
        const second = from[4 * (below + x1) + k]! * u1 + from[4 * (below + x2) + k]! * u2;
        data[at++] = (((v1 * (first >> 4)) >> 16) + ((v2 * (second >> 4)) >> 16) + 2) >> 2;
      }
    }
  }
  return { data, width, height, channels: 3 };
}
