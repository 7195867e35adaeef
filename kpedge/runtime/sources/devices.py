"""Which cameras this computer has, and why one of them cannot be opened."""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from kpedge.core.errors import SourceError, UsageError
from kpedge.core.model_zoo import sample_photo
from kpedge.core.text import quote

SYS = Path("/sys/class/video4linux")  # folder in which Linux describes video devices
DEV = Path("/dev")  # folder of the devices


@dataclass(frozen=True, slots=True)
class CameraDevice:
    """A camera that the system lists."""

    index: int  # N of `/dev/videoN`
    path: Path  # of the device
    name: str  # given by its driver; cameras of one make share it
    node: int = 0  # number among the devices of one camera; those above 0 may carry metadata instead of images


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:  # the camera was unplugged between listing and reading
        return ""


def list_cameras(sys: Path = SYS, dev: Path = DEV) -> list[CameraDevice]:
    """The cameras that Linux lists, by index; none on other systems."""
    cameras = []
    for entry in sys.glob("video*"):
        match = re.fullmatch(r"video(\d+)", entry.name)
        path = dev / entry.name
        if match and path.exists():
            node, name = _read(entry / "index"), _read(entry / "name") or entry.name
            cameras.append(CameraDevice(int(match[1]), path, name, int(node) if node.isdecimal() else 0))
    return sorted(cameras, key=lambda camera: camera.index)


def format_cameras(cameras: list[CameraDevice]) -> str:
    """One line that lists cameras."""
    if not cameras:
        sample = sample_photo()
        return (
            "no cameras were found (in a container, pass one in: --device /dev/video0); name a video, a folder or an "
            f"address instead, or try the sample: kpedge webcam {quote(sample)} --json"
        )
    return "cameras found: " + ", ".join(f"{camera.index} ({camera.name})" for camera in cameras)


def find_camera(text: str, cameras: list[CameraDevice]) -> CameraDevice | None:
    """The camera whose name is `text` or contains it, ignoring case; of several devices of one name, the main one.

    Raises:
        UsageError: cameras of several names contain it.
    """
    part = text.strip().casefold()
    if not part:
        return None
    matching = [camera for camera in cameras if part == camera.name.casefold()]
    matching = matching or [camera for camera in cameras if part in camera.name.casefold()]
    if len({camera.name for camera in matching}) > 1:
        raise UsageError(f"{text}: more than one camera has this in its name", format_cameras(matching))
    return min(matching, key=lambda camera: (camera.node, camera.index), default=None)


def _group_of(path: Path) -> str:
    """Name of the group that may use a device; empty if there is none to join."""
    try:
        import grp  # not on Windows

        status = path.stat()
        name = grp.getgrgid(status.st_gid).gr_name
    except (ImportError, OSError, KeyError):
        return ""
    return name if status.st_mode & stat.S_IRGRP and name != "root" else ""


def check_device(label: str, path: Path, cameras: list[CameraDevice]) -> None:
    """Stop if a device cannot be opened, and say why.

    Raises:
        SourceError: it is not there, or this user may not use it.
    """
    if not path.exists():
        raise SourceError(f"{label}: there is no {path}", format_cameras(cameras))
    if not os.access(path, os.R_OK | os.W_OK):
        group = _group_of(path)
        join = f"run: sudo usermod -aG {group} $USER, then log out and in again"
        raise SourceError(
            f"{label}: no permission to use {path}", join if group else "ask the administrator for access to it"
        )
