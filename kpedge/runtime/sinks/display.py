"""Whether a window can be opened here: checked before OpenCV tries, which ends the whole process if it cannot."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping

import cv2

from kpedge.core.environment import opencv_fix
from kpedge.core.errors import OutputError

ADVICE = "without one, --serve shows the faces in a browser, --record writes a video, --json prints results"
PROBE = "import cv2; cv2.namedWindow('kpedge'); cv2.destroyAllWindows()"
PROBE_S = 30.0  # seconds that a window may take to open on a slow board


def toolkit() -> str:
    """GUI toolkit of this OpenCV, such as `QT5`, `GTK3` or `COCOA`; empty if it has none."""
    if hasattr(cv2, "currentUIFramework"):
        named = cv2.currentUIFramework()
    else:  # OpenCV before 4.10
        lines = cv2.getBuildInformation().splitlines()
        named = next((line.split(":", 1)[1] for line in lines if line.strip().startswith("GUI:")), "").strip()
    return "" if named.upper() == "NONE" else named


def probe_window() -> str:
    """Try a window in another process: its error message, empty if it works.

    Qt ends the process that cannot reach the display, may not use it, or lacks a library.
    """
    if not sys.executable:
        return ""
    command = [sys.executable, "-c", PROBE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_S, errors="replace", check=False)
    except subprocess.TimeoutExpired:
        return "it does not answer"
    except OSError:
        return ""  # no process can be started: nothing is known against the window
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    telling = [line for line in lines if "could not" in line.lower() or "error" in line.lower()]
    return "" if done.returncode == 0 else next(iter(telling or lines[-1:]), f"exit status {done.returncode}")


def check_display(
    environment: Mapping[str, str] | None = None,
    platform: str = sys.platform,
    probe: Callable[[], str] = probe_window,
) -> None:
    """Stop if no window can be opened; `probe` tries it, as `probe_window` does.

    Raises:
        OutputError: there is no display, it cannot be used, or this OpenCV shows no windows.
    """
    framework = toolkit()
    if not framework:
        raise OutputError("this OpenCV cannot open windows", f"{opencv_fix(windows=True)}; or use --serve")
    if not platform.startswith("linux"):
        return
    variables = os.environ if environment is None else environment
    if not (variables.get("DISPLAY") or variables.get("WAYLAND_DISPLAY")):
        raise OutputError("there is no display to open a window on", ADVICE)
    problem = probe() if framework.startswith("QT") else ""
    if problem:
        shown = variables.get("DISPLAY") or variables.get("WAYLAND_DISPLAY")
        raise OutputError(f"no window can be opened on display {shown}: {problem}", ADVICE)
