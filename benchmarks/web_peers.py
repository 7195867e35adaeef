"""kpedge in a browser next to MediaPipe's face landmarker, in the same Chromium, on the same clip.

    kpedge export --format web --out site
    npm install --prefix peer @mediapipe/tasks-vision
    python benchmarks/web_peers.py site peer/node_modules/@mediapipe/tasks-vision --task face_landmarker.task

Measured: bytes, plain and compressed, of what a page loads; time from opening a page to the first result, each time in
a new browser profile, alternating; time per frame of two faces, the two taking turns on every frame. Both compute on
the CPU with one thread. kpedge's times include the transfer to its worker and back; MediaPipe blocks the page instead.
Without Google's face_landmarker.task, which npm does not have, MediaPipe is not timed, and its bytes are those of its
scripts and WebAssembly.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from real_browser import CHROMIUM, launched

from kpedge.core.files import write_json
from kpedge.core.geometry import Image
from kpedge.core.images import read_image
from kpedge.core.machine import describe
from kpedge.core.model_zoo import sample_photo

FRAMES = 20
PATIENCE_MS = 600_000
KPEDGE = ("kpedge.js", "worker.js", "ort.wasm.min.js", "ort-wasm-simd-threaded.js", "ort-wasm-simd-threaded.wasm")
KPEDGE_MODELS = ("models/detector.onnx", "models/keypoints.onnx")
MEDIAPIPE = ("vision_bundle.mjs", "wasm/vision_wasm_internal.js", "wasm/vision_wasm_internal.wasm")
SIZES = """
const z = require("zlib"), fs = require("fs"), c = z.constants;
console.log(JSON.stringify(process.argv.slice(1).map((name) => {
  const data = fs.readFileSync(name);
  const params = { [c.BROTLI_PARAM_QUALITY]: 11, [c.BROTLI_PARAM_LGWIN]: 22 };
  return [data.length, z.gzipSync(data, { level: 9 }).length, z.brotliCompressSync(data, { params }).length];
})));
"""
PAGE = """<!doctype html><script type="module">
const frame = async (n) => createImageBitmap(await (await fetch(`/frames/${n}.jpg`)).blob());
const start = {
  async kpedge() {
    const { load } = await import("/site/kpedge/kpedge.js");
    const tracker = await (await load()).tracker({ pose: false });
    return async (image, ms) => (await tracker.update(image, ms / 1000)).faces.length;
  },
  async mediapipe() {
    const { FaceLandmarker, FilesetResolver } = await import("/peer/vision_bundle.mjs");
    const files = await FilesetResolver.forVisionTasks("/peer/wasm");
    const baseOptions = { modelAssetPath: "/task", delegate: "CPU" };
    const marker = await FaceLandmarker.createFromOptions(files, { baseOptions, runningMode: "VIDEO", numFaces: 2 });
    return async (image, ms) => marker.detectForVideo(image, ms).faceLandmarks.length;
  },
};
window.first = async (name) => {
  const image = await frame(FRAMES - 1);
  const begin = performance.now();
  const faces = await (await start[name]())(image, 1);
  return [performance.now() - begin, faces];
};
window.frames = async ([names, passes]) => {
  const find = {}, times = {}, faces = {};
  for (const name of names) [find[name], times[name], faces[name]] = [await start[name](), [], 0];
  const images = await Promise.all(Array.from({ length: FRAMES }, (_, n) => frame(n)));
  for (let pass = 0, ms = 1; pass < passes; pass++) {
    for (let n = 0; n < FRAMES; n++, ms += 1000 / 30) {
      const shown = images[pass % 2 ? FRAMES - 1 - n : n];
      for (const name of n % 2 ? names : names.toReversed()) {
        const copy = await createImageBitmap(shown);
        const begin = performance.now();
        faces[name] += await find[name](copy, ms);
        if (pass) times[name].push(performance.now() - begin);
      }
    }
  }
  return [times, faces];
};
</script>"""


def clip_frame(photo: Image, number: int) -> Image:
    """A frame of 640 x 480: two moving faces of 130 pixels, which MediaPipe's detector for near faces finds."""
    part = cv2.resize(photo[30:270, 110 - number : 350 - number], (320, 320), interpolation=cv2.INTER_CUBIC)
    frame = np.full((480, 640, 3), 96, np.uint8)
    frame[80 + number : 400 + number] = np.hstack([part, part[:, ::-1]])
    return frame


def sizes(files: list[Path]) -> dict[str, dict[str, int]]:
    """Bytes of files, plain and compressed."""
    answer = subprocess.run(["node", "-e", SIZES, *map(str, files)], capture_output=True, text=True, check=True)
    kinds = ("plain", "gzip", "brotli")
    found = {
        file.name: dict(zip(kinds, row, strict=True))
        for file, row in zip(files, json.loads(answer.stdout), strict=True)
    }
    return found | {"total": {kind: sum(row[kind] for row in found.values()) for kind in kinds}}


def serve(folder: Path) -> http.server.ThreadingHTTPServer:
    """A server of files in a thread, at a free port of this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def measure(address: str, names: list[str], rounds: int, passes: int) -> dict[str, Any]:
    """Times in Chromium."""
    first: dict[str, list[float]] = {name: [] for name in names}
    with launched() as browser:
        for number in range(rounds):
            for name in names if number % 2 else reversed(names):
                page = browser.new_context().new_page()
                page.set_default_timeout(PATIENCE_MS)
                page.goto(address)
                milliseconds, faces = page.evaluate("name => first(name)", name)
                print(f"{name}: first result after {milliseconds:.0f} ms, {faces} faces", file=sys.stderr)
                first[name].append(milliseconds)
                page.context.close()
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(address)
        times, faces = page.evaluate("work => frames(work)", [names, passes])
        version = browser.version
    return {
        "chromium": version,
        "first_result_ms": {name: statistics.median(values) for name, values in first.items() if values},
        "frame_ms": {
            name: {"median": statistics.median(values), "p90": statistics.quantiles(values, n=10)[-1]}
            for name, values in times.items()
        },
        "faces_found": faces,
    }


def main() -> None:
    """Measure, and write `results/web_peers.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("site", "mediapipe", "--task"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--rounds", type=int, default=5, help="of the time to the first result")
    parser.add_argument("--passes", type=int, default=4, help="over the clip; the first is to warm up")
    arguments = parser.parse_args()
    if CHROMIUM is None:
        sys.exit("no Chromium: apt-get install chromium")
    photo = read_image(sample_photo())
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "frames").mkdir()
        for number in range(FRAMES):
            cv2.imwrite(str(root / "frames" / f"{number}.jpg"), clip_frame(photo, number))
        parts = {"site": arguments.site, "peer": arguments.mediapipe, "task": arguments.task}
        for name, path in parts.items():
            if path:
                (root / name).symlink_to(path.resolve())
        (root / "index.html").write_text(PAGE.replace("FRAMES", str(FRAMES)))
        server = serve(root)
        names = ["kpedge", "mediapipe"] if arguments.task else ["kpedge"]
        times = measure(f"http://127.0.0.1:{server.server_port}/", names, arguments.rounds, arguments.passes)
        server.shutdown()
    package = json.loads((arguments.mediapipe / "package.json").read_text())
    kpedge_files = [arguments.site / "kpedge" / name for name in (*KPEDGE, *KPEDGE_MODELS)]
    result = {
        "machine": describe(),
        "mediapipe": package["version"],
        "bytes": {
            "kpedge": sizes(kpedge_files),
            "mediapipe": sizes(
                [*(arguments.mediapipe / name for name in MEDIAPIPE), *([arguments.task] if arguments.task else [])]
            ),
        },
        **times,
    }
    write_json(Path(__file__).parent / "results" / "web_peers.json", result)
    print(json.dumps({key: value for key, value in result.items() if key != "bytes"}, indent=1))


if __name__ == "__main__":
    main()
