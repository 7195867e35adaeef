import assert from "node:assert/strict";
import test from "node:test";
import { drawFaces } from "../src/draw.js";
import type { Face } from "../src/face.js";
import type { Scheme } from "../src/scheme.js";

const WIDTH = 40; // of every text on the canvas below
const SIZE = 14;

/** Where labels are drawn, on a canvas that draws nothing, and how much is drawn after the first. */
function labels(faces: Face[], mirror: boolean): { chips: number[][]; later: number } {
  const chips: number[][] = [];
  let [x, y, later] = [0, 0, 0];
  const own: Record<string, unknown> = {
    canvas: { width: 320, height: 240 },
    measureText: () => ({ width: WIDTH }),
    save: () => ([x, y] = [0, 0]),
    translate: (right: number, down: number) => ([x, y] = [x + right, y + down]),
    scale: () => (x -= WIDTH + SIZE),
    roundRect: (_left: number, _top: number, width: number, height: number) =>
      chips.push([x, y, x + width, y + height]),
    arc: () => (later += Number(chips.length > 0)),
  };
  const context = new Proxy(own, { get: (all, name) => all[name as string] ?? (() => undefined), set: () => true });
  const scheme = { points: ["nose_tip"], parts: {}, skeleton: [] } as unknown as Scheme;
  drawFaces(context as unknown as CanvasRenderingContext2D, faces, scheme, { mirror });
  return { chips, later };
}

for (const mirror of [false, true]) {
  test(`labels lie over all faces and not over each other${mirror ? ", mirrored" : ""}`, () => {
    const faces = [0, 1, 2].map((n) => {
      const [x, y] = [90 + 10 * n, 180 - 45 * n];
      const box = [x - 30, y - 30, x + 30, y + 30];
      return { box, keypoints: [[x, y]], score: 0.9, errors: null, pose: null } as unknown as Face;
    });
    const { chips, later } = labels(faces, mirror);
    assert.equal(chips.length, 3);
    assert.equal(later, 0);
    for (const [number, [left, top, right, bottom]] of chips.entries()) {
      assert.ok(left! >= 0 && top! >= 0 && right! <= 320 && bottom! <= 240);
      for (const other of chips.slice(number + 1)) {
        assert.ok(right! <= other[0]! || other[2]! <= left! || bottom! <= other[1]! || other[3]! <= top!);
      }
    }
  });
}
