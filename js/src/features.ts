/** Numbers that programs derive from keypoints (kpedge/runtime/features.py; docs/coordinates.md has the formulas). */
import { features as F } from "./constants.js";
import type { Features, Pose } from "./face.js";
import type { Points } from "./geometry.js";
import { focalLength, HEAD } from "./pose.js";
import { meanOf, pointsOf, type Scheme } from "./scheme.js";

type Point = readonly [number, number];
type At = Map<string, Point>;

const POINTS = F.POINTS as unknown as Record<string, readonly [number, number, number]>;
const RADIANS = Math.PI / 180;
const NONE = Object.fromEntries(F.NAMES.map((name) => [name, null])) as unknown as Features;

/** The features of a face with a pose; null where the scheme lacks the points for one. */
export function faceFeatures(
  keypoints: Points,
  scheme: Scheme,
  pose: Pose | undefined,
  size: readonly [number, number],
  focal = focalLength(size),
): Features {
  if (!pose) return NONE;
  const names = Object.keys(POINTS).filter((name) => pointsOf(scheme, name));
  const rotation = rotationMatrix(pose);
  const seen = names.map((name) => meanOf(keypoints, pointsOf(scheme, name)!));
  const turned = names.map((name) => times(rotation, POINTS[name]!));
  const rigid = names.flatMap((name, index) => (name in HEAD ? [index] : []));
  const mean = (points: readonly (readonly number[])[], axis: number): number =>
    rigid.reduce((sum, index) => sum + points[index]![axis]! / rigid.length, 0);
  const middle = [mean(seen, 0), mean(seen, 1)] as const;
  const turnedMiddle = [mean(turned, 0), mean(turned, 1)] as const;
  let [along, squares] = [0, 0];
  for (const index of rigid) {
    for (const axis of [0, 1] as const) {
      const there = turned[index]![axis] - turnedMiddle[axis];
      along += there * (seen[index]![axis] - middle[axis]);
      squares += there * there;
    }
  }
  const scale = along / squares;
  if (!(scale > 0)) return NONE;
  const distance = focal / scale;
  const eyes = times(rotation, F.EYES as [number, number, number]);
  const place = [0, 1].map((axis) => (middle[axis]! - scale * turnedMiddle[axis]! - (size[axis]! - 1) / 2) / focal);
  const [x, y, z] = [...place, 1].map((value, axis) => F.PUPILS_MM * (distance * value + eyes[axis]!));
  const position = { x_mm: x!, y_mm: y!, z_mm: z! };
  if (rotation[2]![2]! < F.FARTHEST) return { ...NONE, ...position };
  const [[a, b], [c, d]] = rotation as [number[], number[], number[]] as unknown as [
    [number, number],
    [number, number],
  ];
  const determinant = a * d - b * c;
  const at: At = new Map(
    names.map((name, index): [string, Point] => {
      // From pixels to the head's own x and y: perspective, then rotation, are undone at each point's depth.
      const depth = POINTS[name]![2];
      const [u, v] = [0, 1].map((axis) => {
        const flat = (seen[index]![axis]! - middle[axis]!) / scale + turnedMiddle[axis]!;
        return flat * (1 + turned[index]![2] / distance) - depth * rotation[axis]![2]!;
      }) as [number, number];
      return [name, [(d * u - b * v) / determinant, (a * v - c * u) / determinant]];
    }),
  );
  return { ...NONE, ...position, ...measure(at, scheme.points.includes("left_pupil")) };
}

/** Takes the head's axes to the camera's. */
function rotationMatrix({ yaw, pitch, roll }: Pose): number[][] {
  const [a, b, c] = [-pitch * RADIANS, -yaw * RADIANS, roll * RADIANS];
  const [sa, ca, sb, cb, sc, cc] = [Math.sin(a), Math.cos(a), Math.sin(b), Math.cos(b), Math.sin(c), Math.cos(c)];
  return [
    [cc * cb, cc * sb * sa - sc * ca, cc * sb * ca + sc * sa],
    [sc * cb, sc * sb * sa + cc * ca, sc * sb * ca - cc * sa],
    [-sb, cb * sa, cb * ca],
  ];
}

function times(matrix: number[][], point: readonly number[]): [number, number, number] {
  return matrix.map((row) => row.reduce((sum, value, k) => sum + value * point[k]!, 0)) as [number, number, number];
}

/** What follows from points on the head, in distances between the eyes. */
function measure(onHead: At, gaze: boolean): Partial<Features> {
  const get = (...names: string[]): Point[] | undefined =>
    names.every((name) => onHead.has(name)) ? names.map((name) => onHead.get(name)!) : undefined;
  const ends =
    get("left_eye_outer", "left_eye_inner", "right_eye_outer", "right_eye_inner") ??
    get("left_pupil", "left_pupil", "right_pupil", "right_pupil");
  if (!ends) return {};
  const eyes = [centre(ends.slice(0, 2)), centre(ends.slice(2))] as const;
  const [cos, sin] = [eyes[1][0] - eyes[0][0], eyes[1][1] - eyes[0][1]];
  const middle = centre(eyes);
  const unit = cos * cos + sin * sin;
  if (!(unit > 0)) return {};
  const level = ([x, y]: Point): Point => {
    const [u, v] = [x - middle[0], y - middle[1]];
    return [(cos * u + sin * v) / unit, (cos * v - sin * u) / unit];
  };
  const at: At = new Map([...onHead].map(([name, point]) => [name, level(point)]));
  const some = (stem: string, parts: readonly string[]): Point | undefined => {
    const there = parts.map((part) => at.get(`${stem}_${part}`)).filter((point) => point !== undefined);
    return there.length ? centre(there) : undefined;
  };
  const values: Partial<Record<keyof Features, number>> = {};
  const looks: Point[] = [];
  for (const [place, side] of (["left", "right"] as const).entries()) {
    const eye = level(eyes[place]!);
    const brow = some(`${side}_brow`, F.BROW);
    if (brow) values[`brow_raise_${side}`] = eye[1] - brow[1] - F.REST.brow;
    const [outer, inner] = [at.get(`${side}_eye_outer`), at.get(`${side}_eye_inner`)];
    if (!outer || !inner) continue;
    const [upper, lower] = [some(`${side}_eye`, F.LIDS.slice(0, 3)), some(`${side}_eye`, F.LIDS.slice(3))];
    if (upper && lower) values[`eye_open_${side}`] = (lower[1] - upper[1]) / distanceOf(outer, inner);
    const pupil = at.get(`${side}_pupil`);
    if (gaze && pupil) looks.push([pupil[0] - eye[0], pupil[1] - eye[1]]);
  }
  if (looks.length) {
    const [x, y] = centre(looks);
    values.gaze_yaw = degrees(x / F.EYE_RADIUS);
    values.gaze_pitch = degrees((F.REST.pupil - y) / F.EYE_RADIUS);
  }
  return { ...values, ...mouth(at) };
}

function mouth(at: At): Partial<Features> {
  const values: Partial<Record<keyof Features, number>> = {};
  const gap = (upper: string, lower: string): number | undefined => {
    const [above, below] = [at.get(upper), at.get(lower)];
    return above && below && below[1] - above[1];
  };
  const inner = gap("upper_lip_inner", "lower_lip_inner");
  const outer = gap("upper_lip_top", "lower_lip_bottom");
  if (inner !== undefined) values.mouth_open = Math.max(0, inner);
  else if (outer !== undefined) values.mouth_open = Math.max(0, outer - F.REST.lips);
  const [left, right] = [at.get("mouth_left_corner"), at.get("mouth_right_corner")];
  if (left && right) {
    values.mouth_width = distanceOf(left, right);
    const between = at.get("mouth_centre");
    const [ofLift, ofWidth, constant] = F.SMILE as [number, number, number];
    if (between) {
      values.smile = ofLift * (between[1] - (left[1] + right[1]) / 2) + ofWidth * values.mouth_width + constant;
    }
  }
  return values;
}

function centre(points: readonly Point[]): Point {
  return meanOf(points.flat(), [...points.keys()]);
}

function distanceOf(a: Point, b: Point): number {
  return Math.hypot(a[0] - b[0], a[1] - b[1]);
}

function degrees(sine: number): number {
  return Math.asin(Math.max(-1, Math.min(1, sine))) / RADIANS;
}
