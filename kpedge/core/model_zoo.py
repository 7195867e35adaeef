"""What kpedge ships: released models and the sample photo, in an installed wheel or in a checkout."""

from __future__ import annotations

from pathlib import Path

from kpedge.core.errors import ModelError

_PACKAGE = Path(__file__).resolve().parent.parent
_SHIPPED = _PACKAGE / "_shipped"
_CHECKOUT = _PACKAGE.parent

DEFAULT_MODEL = "stage3"
DEFAULT_DETECTOR = "detector"
BEST = "best.pt"
"""The best checkpoint of a run folder."""


def models_folder() -> Path:
    """The folder of the released models."""
    return _SHIPPED / "export" if (_SHIPPED / "export").is_dir() else _CHECKOUT / "export"


def sample_folder() -> Path:
    """The folder of the sample photo and its label."""
    return _SHIPPED / "sample" if (_SHIPPED / "sample").is_dir() else _CHECKOUT / "data" / "sample"


def sample_photo() -> Path:
    """The sample photo."""
    return next(path for path in sorted(sample_folder().iterdir()) if path.suffix == ".jpg")


def released() -> list[str]:
    """Names of the released models that are installed."""
    return sorted(path.stem for path in models_folder().glob("*.onnx"))


def released_keypoint_models() -> list[str]:
    """Names of the released models that find keypoints, in a crop."""
    return [name for name in released() if name != DEFAULT_DETECTOR]


def resolve_model(name: str | Path) -> Path:
    """The file of a model: a path as it is, the best checkpoint of a run folder, or a released model's ONNX file.

    Raises:
        ModelError: it is none of these.
    """
    path = Path(name)
    for file in (path, path / BEST):
        if file.is_file():
            return file
    released_file = models_folder() / f"{name}.onnx"
    if path.name == str(name) and released_file.is_file():
        return released_file
    if path.is_dir():
        files = [file.name for pattern in ("*.onnx", "*.pt") for file in sorted(path.glob(pattern))]
        raise ModelError(
            f"{path}: a folder without {BEST}", f"give one of its files: {', '.join(files)}" if files else ""
        )
    raise ModelError(
        f"{name}: no such file, run folder or released model", f"released: {', '.join(released()) or 'none'}"
    )
