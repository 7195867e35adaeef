"""What is installed, and what is wrong with it and how to fix it."""

import ctypes.util
import importlib
import os
import re
import sys
from dataclasses import dataclass
from importlib import metadata

from kpedge.core.extras import EXTRAS, installed, pip_line
from kpedge.core.machine import ONNXRUNTIME, OPENCV, version_of

NEEDED = {"cv2": ("imread", "imdecode", "warpAffine", "VideoCapture"), "onnxruntime": ("InferenceSession",)}
"""Names that a working module has. Uninstalling one of two packages with the same files leaves an empty module."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with an installation."""

    what: str  # what is wrong
    fix: str  # what to do


def local_version(version: str) -> str:
    """The build tag of a version: `cpu` of `2.7.0+cpu`, empty for the default build."""
    return version.partition("+")[2]


def find_problems(*, imports: bool = True) -> list[Problem]:
    """All that is wrong, worst first; whether PyTorch can be imported, which takes seconds, only with `imports`."""
    return [*_opencv_problems(), *_onnxruntime_problems(), *_torch_problems(imports)]


def missing_extras() -> dict[str, str]:
    """Incomplete extras -> the pip line that completes them. Not a problem until one is needed."""
    return {
        extra: pip_line(extra) for extra, modules in EXTRAS.items() if not all(installed(module) for module in modules)
    }


def import_error(module: str) -> str:
    """Why a module cannot be used; empty if it can."""
    try:
        loaded = importlib.import_module(module)
    except (ImportError, OSError, AttributeError) as error:  # a broken binary raises any of these
        return str(error) or type(error).__name__
    missing = [name for name in NEEDED.get(module, ()) if not hasattr(loaded, name)]
    return f"it is empty: it has no {missing[0]}" if missing else ""


def opencv_fix(*, windows: bool | None = None) -> str:
    """The command that replaces what is installed by the one OpenCV package for this machine.

    With contrib if that is installed; headless without `windows`, by default if there is no display.
    """
    names = [name for name in OPENCV if version_of(name)]
    contrib = any("contrib" in name for name in names)
    if windows is None:
        windows = sys.platform != "linux" or (
            ctypes.util.find_library("GL") is not None
            and bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
        )
    best = f"opencv-{'contrib-' if contrib else ''}python{'' if windows else '-headless'}"
    return f"pip uninstall -y {' '.join(names or OPENCV[:1])} && pip install {best}"


def _opencv_problems() -> list[Problem]:
    names = [name for name in OPENCV if version_of(name)]
    if len(names) > 1:
        what = f"{' and '.join(names)} are installed together and overwrite each other's files"
        return [Problem(what, opencv_fix())]
    error = import_error("cv2")
    if not error:
        return []
    if "libGL" in error or "libgthread" in error or "libglib" in error:
        fix = f"apt-get install libgl1 libglib2.0-0, or without a display: {opencv_fix(windows=False)}"
    else:
        fix = opencv_fix()
    return [Problem(f"OpenCV cannot be used: {error}", fix)]


def _onnxruntime_problems() -> list[Problem]:
    names = [name for name in ONNXRUNTIME if version_of(name)]
    if len(names) > 1:
        what = f"{' and '.join(names)} are installed together and overwrite each other's files"
        best = next(name for name in names if name != "onnxruntime")
        return [Problem(what, f"pip uninstall -y {' '.join(names)} && pip install {best}")]
    error = import_error("onnxruntime")
    fix = f"pip install --force-reinstall {(names or ['onnxruntime'])[0]}"
    return [Problem(f"onnxruntime cannot be used: {error}", fix)] if error else []


def _torch_problems(imports: bool) -> list[Problem]:
    """Torch and torchvision must be of one release and from one package index, or torchvision cannot be imported."""
    torch, vision = version_of("torch"), version_of("torchvision")
    error = import_error("torch") if imports and installed("torch") else ""
    if error:
        return [Problem(f"torch {torch} cannot be imported: {error}", "pip install --force-reinstall torch")]
    if torch is None or vision is None:
        return []
    fix = "pip uninstall -y torch torchvision && pip install torch torchvision"
    if local_version(torch) != local_version(vision):
        builds = f"torch {torch} and torchvision {vision}"
        return [Problem(f"{builds} come from different package indexes", fix)]
    for requirement in metadata.requires("torchvision") or ():
        match = re.fullmatch(r"torch\s*\(?==\s*([0-9.]+)\)?", requirement)
        if match and match[1] != torch.partition("+")[0]:
            return [Problem(f"torchvision {vision} needs torch {match[1]}, installed is {torch}", fix)]
    return []
