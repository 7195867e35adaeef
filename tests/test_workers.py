"""Photos in several processes, and in batches: the same results, in order, and nothing is lost with a process."""

import json
import os
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import SAMPLE, noise_photo
from fake_live import clip_frames, write_video

import kpedge
from kpedge.cli.main import main
from kpedge.core.errors import ImageError
from kpedge.core.images import read_image
from kpedge.runtime.workers import PhotoReader, PhotoWorkers

PHOTO = SAMPLE / "eileen_collins.jpg"


@pytest.fixture
def mixed(tmp_path):
    """Photos, one that is broken, a folder and a video."""
    (tmp_path / "a.jpg").write_bytes(PHOTO.read_bytes())
    (tmp_path / "b.jpg").write_bytes(b"broken")
    for number in range(9):
        noise_photo(tmp_path / "c" / f"{number}.png", number)
    video = write_video(tmp_path / "d.avi", clip_frames(3)[0])
    return [str(path) for path in (tmp_path / "a.jpg", tmp_path / "b.jpg", tmp_path / "c", video)]


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--box", "10,10,60,60")], ids=["detected", "given"])
def test_several_processes_print_what_one_does(mixed, options, tmp_path, capsys):
    results = []
    for workers in ("1", "2"):
        out = tmp_path / f"out{workers}"
        code = main(["predict", *mixed, "--json", "--out", str(out), "--workers", workers, *options])
        captured = capsys.readouterr()
        copies = {path.name: path.read_bytes() for path in out.rglob("*.*") if path.suffix in (".png", ".jpg")}
        # A slow machine shows how far it is.
        told = [line for line in captured.err.replace(f"out{workers}", "").split("\n") if " elapsed" not in line]
        results.append((code, captured.out, told, copies))
    assert results[0] == results[1]
    assert any("b.jpg" in line for line in results[0][2])


def open_dying(flag: Path):
    """A `find` that kills its process at the photo `deadly`, and once at `unlucky`."""

    def find(text, image):
        if "deadly" in text or ("unlucky" in text and not flag.exists()):
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return ()

    return find


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="SIGKILL is POSIX's")
def test_a_killed_process_loses_no_photo_and_a_deadly_one_is_named(tmp_path):
    names = ["0", "1", "unlucky", "3", "4", "deadly", "6", "7", "8", "9"]
    photos = [str(tmp_path / f"{name}.png") for name in names]
    for photo in photos:
        noise_photo(Path(photo))
    lines, outcomes = [], []
    reader = PhotoReader(partial(open_dying, tmp_path / "flag"), pixels=False)
    with PhotoWorkers(reader, photos, 2, lines.append) as search:
        for photo in photos:
            try:
                outcomes += [size for _, _, size in search(photo)]
            except ImageError as error:
                outcomes.append(str(error))
        masked = search._pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, []).result()
        assert signal.SIGINT in masked, "Ctrl-C is the parent's, from the first moment"
    assert outcomes[:5] + outcomes[6:] == [(160, 120)] * 9
    assert "deadly" in str(outcomes[5])
    assert lines


def test_a_batch_has_a_row_for_each_image_and_its_error(capsys):
    assert main(["predict", str(PHOTO), "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)
    paths = {"path": np.array([str(PHOTO), "none.jpg"]), "id": np.array([7, 8])}
    contents = {"bytes": np.array([PHOTO.read_bytes(), b"broken"], object), "id": [7, 8]}
    pixels = {"image": iter([read_image(PHOTO)[..., ::-1], np.zeros((0, 0, 3), np.uint8)]), "id": [7, 8]}
    for column, batch in (("path", paths), ("bytes", contents), ("image", pixels)):
        rows = kpedge.BatchPredictor(column=column)(batch)
        assert json.loads(rows["faces"][0]) == expected["faces"]
        assert (rows["id"], rows["width"], rows["faces"][1]) == ([7, 8], [512, 0], "[]")
        assert (rows["error"][0], bool(rows["error"][1])) == ("", True)
        assert (column in rows) == (column == "path")
