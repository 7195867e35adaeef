/** Results as files: JSON lines as `kpedge webcam --json` and `kpedge predict --json` print them, or CSV. */
import type { Face, Faces, Features, Scheme } from "../src/kpedge.js";

/** Most frames that are kept for a download: at 30 a second, 20 minutes. */
const MOST = 36_000;

export interface Row {
  /** Of a video. */
  frame?: number;
  time_s?: number;
  /** Of a photo. */
  image?: string;
  size: [number, number];
  faces: Face[];
}

/** What was found since a source was opened; the oldest frames go first. */
export class Results {
  rows: Row[] = [];

  constructor(readonly scheme: Scheme) {}

  add(found: Faces, place: { image: string } | { frame: number; time_s: number }): void {
    if (this.rows.length === MOST) this.rows.shift();
    this.rows.push({ ...place, size: found.size, faces: found.faces.map(rounded) });
  }

  json(): string {
    const { name: scheme } = this.scheme;
    return this.rows.map(({ faces, ...row }) => `${JSON.stringify({ ...row, scheme, faces })}\n`).join("");
  }

  csv(): string {
    const points = this.scheme.points.flatMap((name) => [`${name}_x`, `${name}_y`]);
    const features = Object.keys(this.rows.flatMap((row) => row.faces)[0]?.features ?? {}) as (keyof Features)[];
    const header = [
      "frame",
      "time_s",
      "image",
      "id",
      "x1",
      "y1",
      "x2",
      "y2",
      "score",
      "yaw",
      "pitch",
      "roll",
      ...points,
    ];
    const lines = this.rows.flatMap(({ frame, time_s, image, faces }) =>
      faces.map(({ id, box, score, pose, keypoints, features: own }) =>
        [
          frame,
          time_s,
          image,
          id,
          ...box,
          score,
          pose?.yaw,
          pose?.pitch,
          pose?.roll,
          ...keypoints.flat(),
          ...features.map((name) => own?.[name]),
        ].map(cell),
      ),
    );
    return [header, ...lines].map((line) => `${line.join(",")}\r\n`).join("");
  }
}

function rounded(face: Face): Face {
  return JSON.parse(
    JSON.stringify(face, (_key, value: unknown) =>
      typeof value === "number" ? Math.round(value * 1000) / 1000 : value,
    ),
  );
}

/** A value in CSV. A text that a spreadsheet would take for a formula gets a quote in front. */
function cell(value: string | number | null | undefined): string {
  if (typeof value !== "string") return String(value ?? "");
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
