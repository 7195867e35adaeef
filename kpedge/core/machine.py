"""What this machine is: processor, cores, load, versions. Standard library and package metadata only."""

import os
import platform
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

OPENCV = (
    *("opencv-python", "opencv-contrib-python"),
    *("opencv-python-headless", "opencv-contrib-python-headless"),
)
"""Distributions that bring `cv2`."""
ONNXRUNTIME = (
    *("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"),
    *("onnxruntime-rocm", "onnxruntime-migraphx", "onnxruntime-silicon"),
)
"""Distributions that bring `onnxruntime`."""
LIBRARIES = (
    "numpy",
    *OPENCV,
    *ONNXRUNTIME,
    "typer",
    "torch",
    "torchvision",
    "onnx",
    "onnxscript",
    "tensorboard",
    "matplotlib",
)
"""Distributions whose version can change a result."""

CPU_FEATURES = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8"),
    *("neon", "asimd", "asimddp", "i8mm", "bf16", "sve"),
)
"""Processor features that decide how fast a network runs, as Linux names them."""


def version_of(distribution: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def versions(distributions: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Python, kpedge, and the installed ones of some distributions."""
    found = {"python": platform.python_version(), "kpedge": version_of("kpedge") or "not installed"}
    return found | {name: version for name in distributions if (version := version_of(name)) is not None}


def _cpu_info() -> dict[str, str]:
    """The first processor's entries of Linux's cpuinfo; empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    entries = {}
    for line in text.split("\n\n", 1)[0].splitlines():
        name, _, value = line.partition(":")
        entries[name.strip().lower()] = value.strip()
    return entries


def cpu_name() -> str:
    """The processor's name, as far as the system states it."""
    info = _cpu_info()
    return info.get("model name") or info.get("model") or platform.processor() or platform.machine()


def cpu_features() -> list[str]:
    """Those of `CPU_FEATURES` that this processor has."""
    info = _cpu_info()
    present = set(f"{info.get('flags', '')} {info.get('features', '')}".split())
    return [name for name in CPU_FEATURES if name in present]


def usable_cores() -> int:
    """Processors that this process may use: fewer than the machine has, in a restricted container."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe() -> dict[str, object]:
    """The machine, for the header of a measurement."""
    return {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": versions(),
        "executable_bits": 64 if sys.maxsize > 2**32 else 32,
    }
