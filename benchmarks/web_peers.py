"""kpedge in a browser next to MediaPipe, in the same Chromium, on the same clip.

    kpedge export --format web --out site
    npm install --prefix peer @mediapipe/tasks-vision@1.1.0 @mediapipe/face_mesh@0.4.1657299874
    python benchmarks/web_peers.py site peer/node_modules/@mediapipe

Measured: bytes, plain and compressed, of what a page loads; time from opening a page to the first result, each time in
a new browser profile, alternating; time per frame of two faces, the programs taking turns on every frame. Networks run
on the CPU with one thread. kpedge's times include the transfer to its worker and back; MediaPipe blocks the page.

`face_mesh` is MediaPipe's older package, which carries its models. It scales frames with WebGL, which runs on the CPU
in a browser without a graphics card; the time in which the page waits for that is measured, too. The face landmarker of
the present package, `tasks-vision`, is timed only with Google's model file, which npm does not have (--task); without
it, its bytes are those of its scripts and WebAssembly.
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
FILES = {
    "kpedge": (
        *(f"site/kpedge/{name}.js" for name in ("kpedge", "worker", "ort.wasm.min", "ort-wasm-simd-threaded")),
        "site/kpedge/ort-wasm-simd-threaded.wasm",
        *(f"site/kpedge/models/{name}.onnx" for name in ("detector", "keypoints")),
    ),
    "tasks-vision": (
        "peer/tasks-vision/vision_bundle.mjs",
        *(f"peer/tasks-vision/wasm/vision_wasm_internal.{kind}" for kind in ("js", "wasm")),
    ),
    "face_mesh": (
        *("peer/face_mesh/face_mesh.js", "peer/face_mesh/face_mesh.binarypb"),
        *(f"peer/face_mesh/face_mesh_solution_packed_assets{name}" for name in ("_loader.js", ".data")),
        *(f"peer/face_mesh/face_mesh_solution_simd_wasm_bin.{kind}" for kind in ("js", "wasm")),
    ),
}
"""What a page of each loads."""
SIZES = """
const z = require("zlib"), fs = require("fs"), c = z.constants;
console.log(JSON.stringify(process.argv.slice(1).map((name) => {
  const data = fs.readFileSync(name);
  const params = { [c.BROTLI_PARAM_QUALITY]: 11, [c.BROTLI_PARAM_LGWIN]: 22 };
  return [data.length, z.gzipSync(data, { level: 9 }).length, z.brotliCompressSync(data, { params }).length];
})));
"""
PAGE = """<!doctype html><script type="module">
let waited = 0;
const { readPixels } = WebGL2RenderingContext.prototype;
WebGL2RenderingContext.prototype.readPixels = function (...values) {
  const begin = performance.now();
  readPixels.apply(this, values);
  waited += performance.now() - begin;
};
const frame = async (n) => createImageBitmap(await (await fetch(`/frames/${n}.jpg`)).blob());
const start = {
  async kpedge() {
    const { load } = await import("/site/kpedge/kpedge.js");
    const tracker = await (await load()).tracker({ pose: false });
    return async (image, ms) => (await tracker.update(image, ms / 1000)).faces.length;
  },
  async "tasks-vision"() {
    const { FaceLandmarker, FilesetResolver } = await import("/peer/tasks-vision/vision_bundle.mjs");
    const files = await FilesetResolver.forVisionTasks("/peer/tasks-vision/wasm");
    const baseOptions = { modelAssetPath: "/task", delegate: "CPU" };
    const marker = await FaceLandmarker.createFromOptions(files, { baseOptions, runningMode: "VIDEO", numFaces: 2 });
    return async (image, ms) => marker.detectForVideo(image, ms).faceLandmarks.length;
  },
  async face_mesh() {
    const script = Object.assign(document.createElement("script"), { src: "/peer/face_mesh/face_mesh.js" });
    await new Promise((resolve) => document.head.append(Object.assign(script, { onload: resolve })));
    const mesh = new FaceMesh({ locateFile: (name) => `/peer/face_mesh/${name}` });
    mesh.setOptions({ maxNumFaces: 2, useCpuInference: true });
    let faces;
    mesh.onResults((results) => (faces = results.multiFaceLandmarks.length));
    return async (image, ms) => (await mesh.send({ image }, ms), faces);
  },
};
window.first = async (name) => {
  const image = await frame(FRAMES - 1);
  const begin = performance.now();
  const faces = await (await start[name]())(image, 1);
  return [performance.now() - begin, faces];
};
window.frames = async ([names, passes]) => {
  const find = {}, results = {};
  for (const name of names) [find[name], results[name]] = [await start[name](), { times: [], waits: [], faces: 0 }];
  const images = await Promise.all(Array.from({ length: FRAMES }, (_, n) => frame(n)));
  for (let pass = 0, ms = 1; pass < passes; pass++) {
    for (let n = 0; n < FRAMES; n++, ms += 1000 / 30) {
      const shown = images[pass % 2 ? FRAMES - 1 - n : n];
      for (const name of n % 2 ? names : names.toReversed()) {
        const copy = await createImageBitmap(shown);
        const begin = performance.now();
        waited = 0;
        const faces = await find[name](copy, ms);
        if (!pass) continue;
        results[name].times.push(performance.now() - begin);
        results[name].waits.push(waited);
        results[name].faces += faces;
      }
    }
  }
  return results;
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
        frames = page.evaluate("work => frames(work)", [names, passes])
        version = browser.version
    return {
        "chromium": version,
        "first_result_ms": {
            name: {"median": round(statistics.median(values)), "all": sorted(map(round, values))}
            for name, values in first.items()
        },
        "frame_ms": {name: quantiles(found["times"]) for name, found in frames.items()},
        "waiting_for_webgl_ms": {name: quantiles(found["waits"]) for name, found in frames.items()},
        "frames": {name: len(found["times"]) for name, found in frames.items()},
        "faces_found": {name: found["faces"] for name, found in frames.items()},
    }


def quantiles(values: list[float]) -> dict[str, float]:
    """Median and 90 % quantile."""
    return {"median": round(statistics.median(values), 2), "p90": round(statistics.quantiles(values, n=10)[-1], 2)}


def main() -> None:
    """Measure, and write `results/web_peers.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=Path, help="folder that kpedge export --format web wrote")
    parser.add_argument("peer", type=Path, help="node_modules/@mediapipe")
    parser.add_argument("--task", type=Path, help="face_landmarker.task, for tasks-vision")
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
        parts = {"site": arguments.site, "peer": arguments.peer, "task": arguments.task}
        for name, path in parts.items():
            if path:
                (root / name).symlink_to(path.resolve())
        (root / "index.html").write_text(PAGE.replace("FRAMES", str(FRAMES)))
        server = serve(root)
        names = [name for name in FILES if name != "tasks-vision" or arguments.task]
        times = measure(f"http://127.0.0.1:{server.server_port}/", names, arguments.rounds, arguments.passes)
        server.shutdown()
        files = {name: [root / file for file in FILES[name]] for name in FILES}
        if arguments.task:
            files["tasks-vision"].append(root / "task")
        result = {
            "machine": describe(),
            "mediapipe": {
                name: json.loads((arguments.peer / name / "package.json").read_text())["version"]
                for name in ("tasks-vision", "face_mesh")
            },
            "bytes": {name: sizes(paths) for name, paths in files.items()},
            **times,
        }
    write_json(Path(__file__).parent / "results" / "web_peers.json", result)
    print(json.dumps({key: value for key, value in result.items() if key != "bytes"}, indent=1))


if __name__ == "__main__":
    main()
