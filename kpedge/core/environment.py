"""What is installed, and what is wrong with it, each with its cure."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from importlib import metadata

from kpedge.core.extras import EXTRAS, installed, pip_line
from kpedge.core.machine import version_of


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with an installation.

    Attributes:
        what: what is wrong.
        cure: what to do.
    """

    what: str
    cure: str


def local_version(version: str) -> str:
    """The build tag of a version: `cpu` of `2.7.0+cpu`, empty for the default build."""
    return version.partition("+")[2]


def find_problems() -> list[Problem]:
    """All that is wrong, worst first; empty when there is nothing."""
    return [*_opencv_problems(), *_onnxruntime_problems(), *_torch_problems()]


def missing_extras() -> dict[str, str]:
    """Extras of which a module is missing -> the pip line that brings it. Not a problem until it is needed."""
    return {
        extra: pip_line(extra) for extra, modules in EXTRAS.items() if not all(installed(module) for module in modules)
    }


def _overwriting(*distributions: str) -> list[Problem]:
    """A problem when distributions that hold the same files are installed together; the first is the one to keep."""
    both = [name for name in distributions if version_of(name)]
    if len(both) < 2:
        return []
    what = f"{' and '.join(both)} are both installed and overwrite each other's files"
    return [Problem(what, f"pip uninstall -y {' '.join(both)} && pip install {distributions[0]}")]


def import_error(module: str) -> str:
    """Why a module cannot be imported; empty when it can."""
    try:
        importlib.import_module(module)
    except (ImportError, OSError, AttributeError) as error:  # a broken binary raises any of these
        return str(error) or type(error).__name__
    return ""


def _opencv_problems() -> list[Problem]:
    both = _overwriting("opencv-python", "opencv-python-headless")
    if both:
        return both
    error = import_error("cv2")
    if not error:
        return []
    if "libGL" in error or "libgthread" in error or "libglib" in error:
        cure = (
            "apt-get install libgl1 libglib2.0-0, or without a display: "
            "pip uninstall -y opencv-python && pip install opencv-python-headless"
        )
    else:
        cure = "pip install --force-reinstall opencv-python"
    return [Problem(f"OpenCV cannot be imported: {error}", cure)]


def _onnxruntime_problems() -> list[Problem]:
    both = _overwriting("onnxruntime-gpu", "onnxruntime")
    if both:
        return both
    error = import_error("onnxruntime")
    cure = "pip install --force-reinstall onnxruntime"
    return [Problem(f"onnxruntime cannot be imported: {error}", cure)] if error else []


def _torch_problems() -> list[Problem]:
    """Torch and torchvision must be of one release and from one package index, or torchvision does not import."""
    torch, vision = version_of("torch"), version_of("torchvision")
    error = import_error("torch") if installed("torch") else ""
    if error:
        return [Problem(f"torch {torch} cannot be imported: {error}", "pip install --force-reinstall torch")]
    if torch is None or vision is None:
        return []
    cure = "pip uninstall -y torch torchvision && pip install torch torchvision"
    if local_version(torch) != local_version(vision):
        builds = f"torch {torch} and torchvision {vision}"
        return [Problem(f"{builds} come from different package indexes", cure)]
    for requirement in metadata.requires("torchvision") or ():
        wanted = re.fullmatch(r"torch\s*\(?==\s*([0-9.]+)\)?", requirement)
        if wanted and wanted[1] != torch.partition("+")[0]:
            return [Problem(f"torchvision {vision} needs torch {wanted[1]}, installed is {torch}", cure)]
    return []
