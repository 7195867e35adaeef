"""What kpedge ships: released models and the sample photo, in an installed wheel or in a checkout."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from kpedge.core.errors import ModelError, UsageError

_PACKAGE = Path(__file__).resolve().parent.parent
_SHIPPED = _PACKAGE / "_shipped"
_CHECKOUT = _PACKAGE.parent

DEFAULT_MODEL = "stage3"
DEFAULT_DETECTOR = "detector"
ANY, FREE = "any", "free"
LICENCES = (ANY, FREE)  # which released models may be chosen: any, or those that were trained on rendered photos alone
FREE_SUFFIX = "-synthetic"  # ending of the name of a free released model that stands in for another
RENDERED_TERMS = "rendered by kpedge; they show nobody"  # the terms of photos that kpedge rendered
BEST = "best.pt"  # the best checkpoint of a run folder
CARD_FILE = "kpedge-card.json"  # the card in the folder of a model that has several files
CORE_ML_FILE = "Data/com.apple.CoreML/model.mlmodel"  # the graph in a Core ML package, with the card among its metadata
WEIGHTS = ".safetensors"  # ending of a released model's weights, from which it can be trained further and exported


def models_folder() -> Path:
    """The folder of the released models."""
    return _SHIPPED / "export" if (_SHIPPED / "export").is_dir() else _CHECKOUT / "export"


def site_folder() -> Path:
    """The folder of the built web page and JavaScript package."""
    return _SHIPPED / "web" if (_SHIPPED / "web").is_dir() else _CHECKOUT / "js" / "site"


def sample_folder() -> Path:
    """The folder of the sample photo and its label."""
    return _SHIPPED / "sample" if (_SHIPPED / "sample").is_dir() else _CHECKOUT / "data" / "sample"


def sample_photo() -> Path:
    """The sample photo."""
    return next(path for path in sorted(sample_folder().iterdir()) if path.suffix == ".jpg")


def released() -> list[str]:
    """Names of the released models that are installed."""
    return sorted(path.stem for path in models_folder().glob("*.onnx") if path.with_suffix(".json").is_file())


def released_keypoint_models(scheme: str = "") -> list[str]:
    """Names of the released models that find keypoints in a crop; with `scheme`, those of that keypoint scheme."""
    names = [name for name in released() if not name.startswith(DEFAULT_DETECTOR)]
    return [name for name in names if not scheme or released_scheme(name) == scheme]


def closest_model(scheme: str) -> str:
    """The name of the released stage 3 from which training on a keypoint scheme is best started: the one of that
    scheme, if there is one.
    """
    own = [name for name in released_keypoint_models(scheme) if name.startswith(DEFAULT_MODEL)]
    return own[0] if own else DEFAULT_MODEL


def joint_partner(detector_sha256: str) -> str:
    """The name of the released keypoint model whose joint score is for the detector with these weights; empty if there
    is none.
    """
    names = released_keypoint_models()
    return next((name for name in names if _card(name).get("joint", {}).get("detector_sha256") == detector_sha256), "")


def released_scheme(name: str) -> str:
    """The name of the keypoint scheme of a released model."""
    return str(_card(name)["keypoints"]["name"])


def is_free(name: str) -> bool:
    """Whether a released model, and what its training started from, saw no photos but those that kpedge rendered."""
    training = _card(name)["training"]
    while training is not None:
        if any(photos.get("terms") != RENDERED_TERMS for photos in training.get("sets") or [{}]):
            return False
        training = training["start"]
    return True


def licensed(name: str | Path, licence: str) -> str:
    """The name of the model to use in place of `name` where only free ones may be: its own, where it is a file or free.

    Raises:
        UsageError: there is no such licence, or no free model to use instead.
    """
    if licence not in LICENCES:
        raise UsageError(f"licence {licence!r} is not known", f"choose from {', '.join(LICENCES)}")
    if not isinstance(name, str | os.PathLike):
        raise UsageError(
            f"not a model: {type(name).__name__}", "give the name of a released model, a file or a run folder"
        )
    name = str(name)
    if licence == ANY or name not in released() or is_free(name):
        return name
    if f"{name}{FREE_SUFFIX}" in released():
        return f"{name}{FREE_SUFFIX}"
    free = ", ".join(one for one in released() if is_free(one))
    raise UsageError(f"{name}: trained on photos that do not allow any use", f"free models: {free or 'none'}")


def _card(name: str) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((models_folder() / f"{name}.json").read_text(encoding="utf-8"))
    return card


def resolve_model(name: str | Path, suffix: str = ".onnx") -> Path:
    """The file of a model: a path as it is, the best checkpoint of a run folder, or a released model's file with this
    suffix.

    Raises:
        ModelError: it is none of these.
    """
    path = Path(name)
    for file in (path, path / BEST):
        if file.is_file():
            return file
    if any((path / file).is_file() for file in (CARD_FILE, CORE_ML_FILE)):
        return path
    released_file = models_folder() / f"{name}{suffix}"
    if path.name == str(name) and released_file.is_file():
        return released_file
    if path.is_dir():
        files = [file.name for pattern in ("*.onnx", "*.pt") for file in sorted(path.glob(pattern))]
        raise ModelError(
            f"{path}: a folder with neither {BEST} nor {CARD_FILE}",
            f"give one of its files: {', '.join(files)}" if files else "",
        )
    raise ModelError(
        f"{name}: no such file, run folder or released model", f"released: {', '.join(released()) or 'none'}"
    )


def resolve_weights(name: str | Path) -> Path:
    """`resolve_model` for PyTorch: of a released model the weights it was exported from."""
    return resolve_model(name, WEIGHTS)


def released_files(name: str | Path) -> list[Path]:
    """The files of a released model that can be timed, or the one that `resolve_model` returns."""
    file = resolve_model(name)
    if file.parent != models_folder() or str(name) != file.stem:
        return [file]
    others = (file.with_name(f"{name}{suffix}") for suffix in (WEIGHTS, ".torchscript.pt"))
    return [file, *(other for other in others if other.is_file())]


def newest_run(folder: Path = Path("runs")) -> Path:
    """The best checkpoint of the newest run in a folder.

    Raises:
        ModelError: there is none.
    """
    runs = sorted(folder.glob(f"*/{BEST}"), key=lambda path: path.stat().st_mtime)
    if not runs:
        raise ModelError(
            f"no run in {folder}/", f"give a checkpoint, or a released model: {', '.join(released()) or 'none'}"
        )
    return runs[-1]
