import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { readCard, readMetadata } from "../src/card.js";

const root = new URL("../../export/", import.meta.url);
const bytes = (text: string): number[] => [...new TextEncoder().encode(text)];
/** A protobuf field with a length. */
const field = (number: number, content: number[]): number[] => {
  const length = [];
  for (let rest = content.length; ; rest >>= 7) {
    length.push(rest > 127 ? (rest & 127) | 128 : rest);
    if (rest <= 127) break;
  }
  return [(number << 3) | 2, ...length, ...content];
};
const onnx = (key: string, value: string): Uint8Array =>
  Uint8Array.from([0x08, 8, ...field(14, [...field(1, bytes(key)), ...field(2, bytes(value))])]);

for (const name of ["detector", "stage1", "stage2", "stage3"]) {
  test(`the card of ${name} is the one next to the file`, () => {
    const card = readCard(readFileSync(new URL(`${name}.onnx`, root)), name);
    const stated = JSON.parse(readFileSync(new URL(`${name}.json`, root), "utf8"));
    for (const key of ["name", "task", "input", "outputs", "keypoints", "threshold"] as const) {
      assert.deepEqual(card[key], stated[key], key);
    }
  });
}

test("metadata of any length is read", () => {
  const value = "ü".repeat(70000);
  assert.equal(readMetadata(onnx("kpedge.card", value)).get("kpedge.card"), value);
});

test("files that are no models are refused in one line", () => {
  const card = JSON.parse(readMetadata(readFileSync(new URL("stage3.onnx", root))).get("kpedge.card")!);
  const broken: [Uint8Array, RegExp][] = [
    [Uint8Array.from(bytes("<html>not found</html>")), /not an ONNX file/],
    [readFileSync(new URL("stage3.onnx", root)).subarray(0, 5000), /not an ONNX file/],
    [onnx("author", "somebody"), /without a kpedge card/],
    [onnx("kpedge.card", "{"), /not JSON/],
    [onnx("kpedge.card", "[]"), /not a kpedge model card/],
    [onnx("kpedge.card", JSON.stringify({ ...card, format: 99 })), /update kpedge/],
    [onnx("kpedge.card", JSON.stringify({ ...card, mean_shape: [] })), /damaged/],
  ];
  for (const [file, message] of broken) {
    assert.throws(
      () => readCard(file, "mine.onnx"),
      (error: Error) => {
        assert.match(error.message, message);
        return error.message.startsWith("mine.onnx: ") && !error.message.includes("\n");
      },
    );
  }
});
