"""Which cameras this computer has, and why one of them cannot be opened."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from kpedge.core.errors import SourceError, UsageError

SYS = Path("/sys/class/video4linux")
DEV = Path("/dev")


@dataclass(frozen=True, slots=True)
class CameraDevice:
    """A camera that the system lists.

    Attributes:
        index: N of `/dev/videoN`.
        path: of the device.
        name: that its driver gives it; cameras of one make share it.
        readable: whether this user may use it.
        node: number of this device among those of one camera; cameras may have others than 0 for data about pictures.
    """

    index: int
    path: Path
    name: str
    readable: bool
    node: int = 0


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:  # the camera was unplugged between listing and reading
        return ""


def may_use(path: Path) -> bool:
    """Whether this user may read from and write to a device."""
    return os.access(path, os.R_OK | os.W_OK)


def list_cameras(sys: Path = SYS, dev: Path = DEV) -> list[CameraDevice]:
    """The cameras that Linux lists, by index; none on other systems.

    Args:
        sys: folder in which the kernel describes video devices.
        dev: folder of the devices.
    """
    cameras = []
    for entry in sys.glob("video*"):
        found = re.fullmatch(r"video(\d+)", entry.name)
        path = dev / entry.name
        if found and path.exists():
            node = _read(entry / "index")
            name = _read(entry / "name") or entry.name
            cameras.append(CameraDevice(int(found[1]), path, name, may_use(path), int(node) if node.isdecimal() else 0))
    return sorted(cameras, key=lambda camera: camera.index)


def tell_cameras(cameras: list[CameraDevice]) -> str:
    """One line on the cameras there are."""
    if not cameras:
        return "no cameras were found (in a container, hand one in: --device /dev/video0)"
    return "cameras found: " + ", ".join(f"{camera.index} ({camera.name})" for camera in cameras)


def find_camera(text: str, cameras: list[CameraDevice]) -> CameraDevice | None:
    """The camera whose name is `text`, or has it as a part, in small or capital letters; of several devices of one
    name, the first that is a camera's main one.

    Raises:
        UsageError: cameras of several names have it as a part.
    """
    wanted = text.strip().casefold()
    if not wanted:
        return None
    matching = [camera for camera in cameras if wanted == camera.name.casefold()]
    matching = matching or [camera for camera in cameras if wanted in camera.name.casefold()]
    if len({camera.name for camera in matching}) > 1:
        raise UsageError(f"{text}: more than one camera has this in its name", tell_cameras(matching))
    return min(matching, key=lambda camera: (camera.node, camera.index), default=None)


def group_of(path: Path) -> str:
    """Name of the group that may use a device; empty where there is none to join."""
    try:
        import grp  # not on Windows
    except ImportError:
        return ""
    try:
        status = path.stat()
        name = grp.getgrgid(status.st_gid).gr_name
    except (OSError, KeyError):
        return ""
    return name if status.st_mode & stat.S_IRGRP and name != "root" else ""


def check_device(name: str, path: Path, sys: Path = SYS, dev: Path = DEV) -> None:
    """Stop where a device cannot be opened, and say why.

    Raises:
        SourceError: it is not there, or this user may not use it.
    """
    if not path.exists():
        raise SourceError(f"{name}: there is no {path}", tell_cameras(list_cameras(sys, dev)))
    if not may_use(path):
        group = group_of(path)
        raise SourceError(
            f"{name}: no permission to use {path}",
            f"run: sudo usermod -aG {group} $USER, then log out and in again"
            if group
            else "ask the administrator of this computer for access to it",
        )
