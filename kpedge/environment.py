"""What is installed, and what is wrong with it, each with its cure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import metadata

from kpedge.extras import EXTRAS, installed, pip_line
from kpedge.machine import version_of


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


def _opencv_problems() -> list[Problem]:
    both = [name for name in ("opencv-python", "opencv-python-headless") if version_of(name)]
    if len(both) > 1:
        return [
            Problem(
                "opencv-python and opencv-python-headless are both installed and overwrite each other's files",
                "pip uninstall -y opencv-python opencv-python-headless && pip install opencv-python",
            )
        ]
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        if "libGL" in str(error) or "libgthread" in str(error) or "libglib" in str(error):
            return [
                Problem(
                    f"OpenCV cannot be imported: {error}",
                    "apt-get install libgl1 libglib2.0-0, or without a display: "
                    "pip uninstall -y opencv-python && pip install opencv-python-headless",
                )
            ]
        return [Problem(f"OpenCV cannot be imported: {error}", "pip install --force-reinstall opencv-python")]
    return []


def _onnxruntime_problems() -> list[Problem]:
    both = [name for name in ("onnxruntime", "onnxruntime-gpu") if version_of(name)]
    if len(both) > 1:
        return [
            Problem(
                "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files",
                "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu",
            )
        ]
    try:
        import onnxruntime  # noqa: F401
    except ImportError as error:
        return [Problem(f"onnxruntime cannot be imported: {error}", "pip install --force-reinstall onnxruntime")]
    return []


def _torch_problems() -> list[Problem]:
    """Torch and torchvision must be of one release and from one package index, or torchvision does not import."""
    torch, vision = version_of("torch"), version_of("torchvision")
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
