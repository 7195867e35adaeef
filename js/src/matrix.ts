/** The linear algebra that the head pose needs, for matrices of at most a few dozen rows. */
export type Matrix = number[][];

export function transpose(a: readonly (readonly number[])[]): Matrix {
  return a[0]!.map((_, column) => a.map((row) => row[column]!));
}

export function multiply(a: readonly (readonly number[])[], b: readonly (readonly number[])[]): Matrix {
  return a.map((row) => b[0]!.map((_, column) => row.reduce((sum, value, k) => sum + value * b[k]![column]!, 0)));
}

/** The lower triangular root of a symmetric positive matrix. */
export function cholesky(a: Matrix): Matrix {
  const root: Matrix = a.map((row) => row.map(() => 0));
  a.forEach((row, i) => {
    for (let j = 0; j <= i; j++) {
      let rest = row[j]!;
      for (let k = 0; k < j; k++) rest -= root[i]![k]! * root[j]![k]!;
      root[i]![j] = i === j ? Math.sqrt(rest) : rest / root[j]![j]!;
    }
  });
  return root;
}

/** The inverse of a lower triangular matrix. */
export function lowerInverse(root: Matrix): Matrix {
  const result: Matrix = root.map((row) => row.map(() => 0));
  root.forEach((row, i) => {
    for (let j = 0; j <= i; j++) {
      let rest = i === j ? 1 : 0;
      for (let k = j; k < i; k++) rest -= row[k]! * result[k]![j]!;
      result[i]![j] = rest / row[i]!;
    }
  });
  return result;
}

/** The inverse of a symmetric positive matrix. */
export function inverse(a: Matrix): Matrix {
  const lower = lowerInverse(cholesky(a));
  return multiply(transpose(lower), lower);
}

/** Least squares by the normal equations; undefined where they are singular. */
export function solve(a: Matrix, b: readonly number[]): number[] | undefined {
  const normal = multiply(transpose(a), a);
  const lower = lowerInverse(cholesky(normal));
  if (!lower.every((row) => row.every(Number.isFinite))) return undefined;
  const right = transpose(a).map((row) => [row.reduce((sum, value, k) => sum + value * b[k]!, 0)]);
  return multiply(transpose(lower), multiply(lower, right)).map((row) => row[0]!);
}

/** The smallest eigenvalue of a symmetric 3x3 matrix (Smith 1961). */
export function smallestEigenvalue(a: Matrix): number {
  const mean = (a[0]![0]! + a[1]![1]! + a[2]![2]!) / 3;
  const b = a.map((row, i) => row.map((value, j) => value - (i === j ? mean : 0)));
  const size = Math.sqrt(b.flat().reduce((sum, value) => sum + value * value, 0) / 6);
  if (size === 0) return mean;
  const [x, y, z] = b.map((row) => row.map((value) => value / size)) as [number[], number[], number[]];
  const determinant =
    x[0]! * (y[1]! * z[2]! - y[2]! * z[1]!) -
    x[1]! * (y[0]! * z[2]! - y[2]! * z[0]!) +
    x[2]! * (y[0]! * z[1]! - y[1]! * z[0]!);
  const angle = Math.acos(Math.max(-1, Math.min(1, determinant / 2))) / 3;
  return mean + 2 * size * Math.cos(angle + (2 * Math.PI) / 3);
}
