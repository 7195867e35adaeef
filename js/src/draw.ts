/** Drawing faces on a canvas, as kpedge/core/drawing.py does. */
import { drawing as D } from "./constants.js";
import type { Face } from "./face.js";
import type { Scheme } from "./scheme.js";

export interface DrawOptions {
  box?: boolean;
  points?: boolean;
  skeleton?: boolean;
  /** Id and score of each face. */
  label?: boolean;
  /** Draw for a view that is mirrored by CSS: labels stay readable. */
  mirror?: boolean;
}

/** Under this, a rim of lines is left out: it would cover a small face. */
const THIN_RIM = 0.6;
const PART_COLOURS = D.PART_COLOURS as unknown as Record<string, readonly [number, number, number]>;

/** Draw faces on a canvas that shows their image in its own pixels. */
export function drawFaces(
  context: CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D,
  faces: readonly Face[],
  scheme: Scheme,
  { box = true, points = true, skeleton = true, label = true, mirror = false }: DrawOptions = {},
): void {
  const short = Math.min(context.canvas.width, context.canvas.height);
  const colours = pointColours(scheme);
  context.save();
  context.translate(0.5, 0.5); // a canvas counts from the corner of its first pixel
  context.lineCap = context.lineJoin = "round";
  for (const face of faces) {
    const [x1, y1, x2, y2] = face.box;
    const size = Math.sqrt((x2 - x1) * (y2 - y1));
    const dot = Math.min(Math.max(size / 70, 0.9, short / 500), Math.max(2, short / 110));
    const line = Math.max(1, dot * 0.55);
    const rim = Math.max(0.5, dot * 0.3);
    if (box) drawCorners(context, face.box, Math.max(1, dot * 0.8), Math.max(rim, THIN_RIM));
    if (points && skeleton) {
      for (const [first, second] of scheme.skeleton) {
        const [from, to] = [face.keypoints[first], face.keypoints[second]];
        if (from && to) stroke(context, [from, to], colours[first]!, line, rim);
      }
    }
    if (points) {
      for (const [radius, dark] of [
        [dot + rim, true],
        [dot, false],
      ] as const) {
        face.keypoints.forEach(([x, y], index) => {
          context.beginPath();
          context.arc(x, y, radius, 0, 2 * Math.PI);
          context.fillStyle = dark ? "#000" : colours[index]!;
          context.fill();
        });
      }
    }
  }
  const taken: Rectangle[] = []; // labels last: no other face lies over one
  for (const face of label ? faces : []) {
    const [x1, y1, x2, y2] = face.box;
    const size = Math.sqrt((x2 - x1) * (y2 - y1));
    drawLabel(context, face, Math.min(Math.max(size / 6, 13, short / 40), Math.max(14, short / 24)), mirror, taken);
  }
  context.restore();
}

/** The colour of each keypoint: that of its facial part. */
function pointColours(scheme: Scheme): string[] {
  const colours: string[] = scheme.points.map(() => css(PART_COLOURS["face"]!));
  for (const [part, members] of Object.entries(scheme.parts)) {
    for (const index of members) colours[index] = css(PART_COLOURS[part] ?? PART_COLOURS["face"]!);
  }
  return colours;
}

function css([blue, green, red]: readonly [number, number, number]): string {
  return `rgb(${red} ${green} ${blue})`;
}

type Context = CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D;

function stroke(
  context: Context,
  path: readonly (readonly [number, number])[],
  colour: string,
  width: number,
  rim: number,
): void {
  context.beginPath();
  path.forEach(([x, y], place) => (place ? context.lineTo(x, y) : context.moveTo(x, y)));
  for (const [style, wide] of [
    ["#000", rim < THIN_RIM ? 0 : width + 2 * rim],
    [colour, width],
  ] as const) {
    if (!wide) continue;
    context.strokeStyle = style;
    context.lineWidth = wide;
    context.stroke();
  }
}

/** The corners of a box: the face's outline stays free. */
function drawCorners(context: Context, [x1, y1, x2, y2]: Face["box"], width: number, rim: number): void {
  const arm = 0.2 * Math.min(x2 - x1, y2 - y1);
  for (const [x, right] of [
    [x1, arm],
    [x2, -arm],
  ] as const) {
    for (const [y, down] of [
      [y1, arm],
      [y2, -arm],
    ] as const) {
      stroke(
        context,
        [
          [x + right, y],
          [x, y],
          [x, y + down],
        ],
        "#fff",
        width,
        rim,
      );
    }
  }
}

type Rectangle = readonly [left: number, top: number, right: number, bottom: number];

/** Id and score on a dark chip above the box, or below or in it where there is no room; apart from those `taken` if it can. */
function drawLabel(context: Context, face: Face, size: number, mirror: boolean, taken: Rectangle[]): void {
  const words = [face.id === undefined ? "" : `#${face.id}`, face.score === null ? "" : face.score.toFixed(2)];
  const text = words.filter(Boolean).join("  ");
  if (!text) return;
  const [x1, y1, x2, y2] = face.box;
  context.save();
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const [width, height] = [context.measureText(text).width + size, size * 1.5];
  const [farthest, lowest] = [Math.max(context.canvas.width - width, 0), Math.max(context.canvas.height - height, 0)];
  const left = Math.min(Math.max(mirror ? x2 - width : x1, 0), farthest);
  const outside = [y1 - height - 4, y2 + 4].filter((top) => top >= 0 && top <= lowest);
  const inside = [y1 + 4, y2 - height - 4].map((top) => Math.min(Math.max(top, 0), lowest));
  const places = [...outside, ...inside].map((top): Rectangle => [left, top, left + width, top + height]);
  const place = places.find((one) => !taken.some((other) => overlap(one, other))) ?? places[0]!;
  taken.push(place);
  context.translate(mirror ? place[2] : left, place[1]);
  if (mirror) context.scale(-1, 1);
  context.fillStyle = "rgb(24 26 28 / 85%)";
  context.beginPath();
  context.roundRect(0, 0, width, height, size / 3);
  context.fill();
  context.fillStyle = "#fff";
  context.fillText(text, size / 2, height / 2);
  context.restore();
}

function overlap(one: Rectangle, other: Rectangle): boolean {
  return one[0] < other[2] && other[0] < one[2] && one[1] < other[3] && other[1] < one[3];
}
