import os
import signal
import subprocess
import sys
import tempfile

import pytest

from kpedge.core import leftovers
from kpedge.core.errors import OutputError
from kpedge.core.files import atomic_folder, write_bytes
from kpedge.core.leftovers import HOST, lock_folder, temporary_folder
from kpedge.training.run import Run


@pytest.fixture
def gone():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture(autouse=True)
def unswept(monkeypatch):
    monkeypatch.setattr(leftovers, "_swept", set())


def listed(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path, gone):
    kept = [
        f".a.txt.{HOST}-{os.getpid()}-x.part",
        f".a.txt.00000000-{gone}-x.part",  # of another host
        ".a.txt.abcdef.part",
        f"a.txt.{HOST}-{gone}-x.jpg",
    ]
    for name in (*kept, f".a.txt.{HOST}-{gone}-x.part", f".clip.{HOST}-{gone}-x.part.mp4"):
        (tmp_path / name).touch()
    (tmp_path / f".set.{HOST}-{gone}-x.part" / "deep").mkdir(parents=True)
    write_bytes(tmp_path / "b.txt", b"")
    assert listed(tmp_path) == sorted([*kept, "b.txt"])


def test_a_folder_that_was_moved_away_comes_back(tmp_path, gone):
    for name in ("lost", "there"):
        (tmp_path / f".{name}.{HOST}-{gone}-x.old").mkdir()
        (tmp_path / f".{name}.{HOST}-{gone}-x.old" / "content").touch()
    (tmp_path / "there").mkdir()
    with atomic_folder(tmp_path / "new"):
        pass
    assert listed(tmp_path) == ["lost", "new", "there"]
    assert listed(tmp_path / "lost") == ["content"]


REPLACED = """
import os, signal, sys
from pathlib import Path
from kpedge.core.files import atomic_folder
with atomic_folder(Path(sys.argv[1]) / "set") as part:
    move = Path.replace
    Path.replace = lambda old, new: os.kill(os.getpid(), signal.SIGKILL) if old.name == part.name else move(old, new)
"""


def test_a_folder_whose_successor_was_killed_on_its_way_comes_back(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "content").touch()
    subprocess.run([sys.executable, "-c", REPLACED, tmp_path])
    assert not (tmp_path / "set").exists()
    write_bytes(tmp_path / "b.txt", b"")
    assert listed(tmp_path) == ["b.txt", "set"]
    assert listed(tmp_path / "set") == ["content"]


KILLED = """
import os, signal, sys
from pathlib import Path
from kpedge.core.files import atomic_folder
from kpedge.core.leftovers import lock_folder, temporary_folder
lock = lock_folder(Path(sys.argv[1]))
with temporary_folder() as folder, atomic_folder(Path(sys.argv[1]) / "set") as part:
    print(folder, flush=True)
    sys.stdin.read() if len(sys.argv) > 2 else os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_run_removes_the_temporary_folders_of_one_that_was_killed(tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "out").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "out"], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(listed(tmp_path / "tmp")) == 1
    assert len(listed(tmp_path / "out")) == 2
    with lock_folder(tmp_path / "out") and temporary_folder() as folder, atomic_folder(tmp_path / "out" / "set"):
        assert listed(tmp_path / "tmp") == [folder.name]
    assert listed(tmp_path / "tmp") == []
    assert listed(tmp_path / "out") == ["set"]


def test_a_folder_is_locked_by_one_process_and_the_other_is_told_which(tmp_path):
    command = [sys.executable, "-c", KILLED, tmp_path, "wait"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    with pytest.raises(OutputError, match=f"in use by process {process.pid} on ") as caught:
        lock_folder(tmp_path)
    assert "choose another folder" in caught.value.advice
    (tmp_path / "last.pt").write_bytes(b"a running training's")
    with pytest.raises(OutputError, match=f"in use by process {process.pid} on "):
        Run(tmp_path).start(resume=False, force=True)
    assert (tmp_path / "last.pt").exists()
    process.kill()
    process.communicate()
    lock = lock_folder(tmp_path)
    assert lock_folder(tmp_path) is lock
    assert lock.release.alive
    del lock
    again = lock_folder(tmp_path)
    assert again.release.alive
    again.release()
    assert not (tmp_path / leftovers.OWNER).exists()
