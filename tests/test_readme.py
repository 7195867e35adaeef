"""Every command of the README runs, in order, in a folder with a checkout's sample and 30 synthetic photos."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, make_photos
from fake_live import clip_frames, write_video
from test_cli import COMMANDS
from typer.main import get_command

from kpedge.cli.main import new_app

TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
LINES = [line.split("  #")[0].strip() for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    photos = make_photos(folder / "photos", 30)
    shutil.copytree(photos, folder / "faces21")
    (folder / "faces21" / "test_images.txt").write_text("007.png\n021.png\n")
    shutil.copytree(ROOT / "data" / "sample", folder / "data" / "sample")
    shutil.copytree(ROOT / "export", folder / "export")
    write_video(folder / "clip.avi", clip_frames(20)[0]).rename(folder / "video.mp4")
    return folder


INSTEAD = {
    "kpedge demo": "kpedge demo --help",  # `.ci/run` does it, and test_demo.py in small
    "kpedge webcam": "kpedge webcam video.mp4 --json",
    "kpedge webcam 0 --serve": "kpedge webcam video.mp4 --serve 127.0.0.1:0",
}
"""Commands that need a camera or a screen, and what is run in their place."""


def shortened(command: str) -> str:
    """A command as the test runs it: trainings have three epochs and timings one short round, since those of the README
    need minutes.
    """
    if command.startswith("kpedge train"):
        return f"{command} --epochs 3"
    if command.startswith("kpedge bench"):
        return f"{command} --rounds 1 --calls 3"
    return INSTEAD.get(command, command)


def parts(line: str) -> list[str]:
    """The commands of a line; installing is what `.ci/run` does."""
    return [part.strip() for part in line.split("&&") if not part.strip().startswith(("pip ", "pytest"))]


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in LINES if line and parts(line)])
def test_every_command_runs(line, place):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for part in map(shortened, parts(line)):
        assert shlex.split(part)[0] in ("kpedge", "python"), f"not a command of kpedge: {part}"
        done = subprocess.run(
            part, shell=True, cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=500
        )
        assert done.returncode == 0, done.stderr


def test_what_the_commands_write_is_there(place):
    if not (place / "predictions").is_dir():
        pytest.skip("the commands have not been run in this session")
    for name in (
        "preview.png",
        "runs/stage3/best.pt",
        "report/worst.png",
        "models/stage3.onnx",
        "predictions/eileen_collins.jpg",
    ):
        assert (place / name).stat().st_size > 1000, name


def test_the_table_of_commands_is_complete():
    named = set(re.findall(r"^\| `kpedge ([a-z0-9 ]+)` \|", TEXT, re.MULTILINE))
    assert named == {" ".join(path) for path in COMMANDS}
    assert get_command(new_app()).name == "kpedge"


def test_links_lead_somewhere():
    for name in ("README.md", "CONTRIBUTING.md", *(str(path.relative_to(ROOT)) for path in ROOT.glob("[a-z]*/*.md"))):
        text = re.sub(r"```.*?```", "", (ROOT / name).read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
            assert ((ROOT / name).parent / target).exists(), f"{name} links to {target}"
        for target in re.findall(
            r"(?<![\w/])(?:docs|kpedge|tests|benchmarks|data|export)/[\w/]+\.(?:md|py|json|png)\b", text
        ):
            assert "NAME" in target or (ROOT / target).exists(), f"{name} names {target}"
