/** Head pose from keypoints: perspective-n-point with a generic head (kpedge/runtime/pose.py says how and why). */
import { pose as P } from "./constants.js";
import type { Pose } from "./face.js";
import type { Points } from "./geometry.js";
import {
  cholesky,
  inverse,
  lowerInverse,
  multiply,
  smallestEigenvalue,
  solve,
  transpose,
  type Matrix,
} from "./matrix.js";
import { meanOf, pointsOf, type Scheme } from "./scheme.js";

export const HEAD = P.HEAD as unknown as Record<string, [number, number, number]>;
const MODES = P.MODES as unknown as [number, Record<string, number>][];

interface Fit {
  /** For each of the head's M points the scheme's points whose mean it is. */
  groups: number[][];
  /** x and y of the head that looks straight at the camera, from their mean. */
  head: Matrix;
  size: number;
  /** (M, 24): measured coordinates to targets and their growth with depth, (axis, target, start and growths). */
  targets: Matrix;
  /** (6, 4, 4): a quaternion times it is the slope of the targets. */
  slope: Matrix[];
}

const fits = new Map<string, Fit | undefined>();

/** The fit for a scheme; undefined if its points give no pose. */
function fitOf(scheme: Scheme): Fit | undefined {
  const key = JSON.stringify([scheme.points, scheme.derived]);
  if (!fits.has(key)) fits.set(key, newFit(scheme));
  return fits.get(key);
}

function newFit(scheme: Scheme): Fit | undefined {
  const order = [...scheme.points, ...Object.keys(scheme.derived ?? {})];
  const names = order.filter((name) => name in HEAD);
  const head = names.map((name) => HEAD[name]!);
  const count = names.length;
  if (count < P.FEWEST) return undefined;
  const mean = [0, 1, 2].map((axis) => head.reduce((sum, point) => sum + point[axis]! / count, 0));
  const centred = head.map((point) => point.map((value, axis) => value - mean[axis]!));
  if (Math.sqrt(smallestEigenvalue(multiply(transpose(centred), centred))) < P.FLAT * Math.sqrt(count))
    return undefined;
  const slope: Matrix[] = [];
  const targets: Matrix = names.map(() => []);
  rotationForms().forEach((forms, axis) => {
    const spread = names.map((name, i) =>
      names.map((other, j) => {
        let value = i === j ? P.SPREAD ** 2 : 0;
        for (const [size, shares] of axis === 1 ? MODES : []) {
          value += size * (shares[name] ?? 0) * size * (shares[other] ?? 0);
        }
        return value;
      }),
    );
    const weights = inverse(spread);
    const rows = weights.map((row) => row.reduce((sum, value) => sum + value, 0));
    const total = rows.reduce((sum, value) => sum + value, 0);
    const relative = weights.map((row, i) => row.map((value, j) => value - (rows[i]! * rows[j]!) / total));
    const root = cholesky(multiply(multiply(transpose(head), relative), head));
    const project = multiply(multiply(relative, head), transpose(lowerInverse(root)));
    project.forEach((row, m) => {
      for (const value of row) targets[m]!.push(value, ...head[m]!.map((depth) => value * depth));
    });
    for (let j = 0; j < 3; j++) {
      slope.push(
        [0, 1, 2, 3].map((a) =>
          [0, 1, 2, 3].map((b) => 2 * [0, 1, 2].reduce((sum, k) => sum + forms[k]![a]![b]! * root[k]![j]!, 0)),
        ),
      );
    }
  });
  const flat = centred.map((point) => point.slice(0, 2));
  const size = flat.flat().reduce((sum, value) => sum + value * value, 0);
  return { groups: names.map((name) => pointsOf(scheme, name)!), head: flat, size, targets, slope };
}

/** Entry i, j of the rotation of a quaternion q = w x y z, times its squared length, is q . form . q: (2, 3, 4, 4). */
function rotationForms(): Matrix[][] {
  const forms = [0, 1].map(() => [0, 1, 2].map(() => [0, 1, 2, 3].map(() => [0, 0, 0, 0])));
  [
    [1, 1, -1, -1],
    [1, -1, 1, -1],
  ].forEach((signs, row) => signs.forEach((sign, i) => (forms[row]![row]![i]![i] = sign)));
  const [w, x, y, z] = [0, 1, 2, 3] as const;
  for (const [row, column, [a, b], [c, d], sign] of [
    [0, 1, [x, y], [w, z], -1],
    [0, 2, [x, z], [w, y], 1],
    [1, 0, [x, y], [w, z], 1],
    [1, 2, [y, z], [w, x], -1],
  ] as const) {
    const form = forms[row]![column]!;
    form[a]![b] = form[b]![a] = 1;
    form[c]![d] = form[d]![c] = sign;
  }
  return forms;
}

/** The focal length, pixels, of an image whose longer side spans a usual angle. */
export function focalLength(size: readonly [number, number]): number {
  return Math.max(...size) / 2 / Math.tan((P.FIELD * Math.PI) / 360);
}

/** The head pose of a face; undefined where its points are too few, have none of the nose, or are collinear. */
export function headPose(
  keypoints: Points,
  scheme: Scheme,
  [width, height]: readonly [number, number],
  focal = focalLength([width, height]),
): Pose | undefined {
  const fit = fitOf(scheme);
  if (!fit) return undefined;
  const points = fit.groups.map((group) => meanOf(keypoints, group));
  const count = points.length;
  const [middleX, middleY] = [(width - 1) / 2, (height - 1) / 2];
  const x0 = points.reduce((sum, point) => sum + point[0] / count, 0);
  const y0 = points.reduce((sum, point) => sum + point[1] / count, 0);
  const [u, v] = [(x0 - middleX) / focal, (y0 - middleY) / focal];
  const away = Math.hypot(u, v);
  if (!(away < Infinity)) return undefined;
  // The camera rotates the shortest way, which adds no roll, to look at the middle of the face: a homography.
  const far = Math.sqrt(1 + away * away);
  const [a, b] = away > 1e-9 ? [u / away, v / away] : [1, 0];
  const [toXX, toXY, toYY] = [a * a + b * b * far, a * b * (1 - far), b * b + a * a * far];
  const rays = points.map(([px, py]) => {
    const [dx, dy] = [(px - middleX) / focal, (py - middleY) / focal];
    const depth = u * dx + v * dy + 1;
    return [(toXX * dx + toXY * dy - u) / depth, (toXY * dx + toYY * dy - v) / depth];
  });
  for (const axis of [0, 1]) {
    const mean = rays.reduce((sum, ray) => sum + ray[axis]! / count, 0);
    for (const ray of rays) ray[axis]! -= mean;
  }
  const across = transpose(rays);
  const [[xx, xy], [, yy]] = multiply(across, rays) as [[number, number], [number, number]];
  if (!(xx + yy - Math.hypot(xx - yy, 2 * xy) > 2 * P.NARROW ** 2 * (xx + yy))) return undefined;
  const [[p, q], [r, s]] = multiply(across, fit.head) as [[number, number], [number, number]];
  const size = Math.hypot(p + s, r - q);
  if (!(size > 0 && size < Infinity)) return undefined;
  const [cos, sin] = [(p + s) / size, (r - q) / size];
  const [right, down] = multiply(across, fit.targets) as [number[], number[]];
  const targets = Array.from({ length: 6 }, (_, row) =>
    [0, 1, 2, 3].map((grow) => {
      const at = 4 * row + grow;
      return row < 3 ? cos * right[at]! + sin * down[at]! : -sin * right[at]! + cos * down[at]!;
    }),
  );
  // A quaternion w x y z whose squared length is the scale; it starts with a face that looks straight ahead.
  let found = [Math.sqrt(size / fit.size), 0, 0, 0];
  for (let step = 0; step < P.STEPS; step++) {
    const [w, x, y, z] = found as [number, number, number, number];
    const depth = [1, 2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z];
    const slope = fit.slope.map((form) => transpose(form).map((column) => dot(column, found)));
    const wanted = targets.map((row) => dot(row, depth));
    const change = solve(slope, wanted);
    if (!change) return undefined;
    found = found.map((value, i) => value / 2 + change[i]!); // the targets are quadratic in the quaternion
  }
  const [w, x, y, z] = found as [number, number, number, number];
  const length = dot(found, found);
  if (!(length > 0 && length < Infinity)) return undefined;
  const yaw = Math.asin(Math.max(-1, Math.min(1, (2 * (x * z - w * y)) / length)));
  const pitch = Math.atan2(-2 * (y * z + w * x), w * w - x * x - y * y + z * z);
  const roll = Math.atan2(sin, cos) + Math.atan2(2 * (x * y + w * z), w * w + x * x - y * y - z * z);
  const degrees = 180 / Math.PI;
  return { yaw: yaw * degrees, pitch: pitch * degrees, roll: Math.atan2(Math.sin(roll), Math.cos(roll)) * degrees };
}

function dot(a: readonly number[], b: readonly number[]): number {
  return a.reduce((sum, value, i) => sum + value * b[i]!, 0);
}
