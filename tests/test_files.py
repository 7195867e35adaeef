import os
import subprocess
import sys

import pytest

from kpedge.core.errors import OutputError
from kpedge.core.files import atomic_folder, make_folder, read_bytes, record_output, refuse_existing, write_bytes

LIMITED = """
import resource, signal, sys
from pathlib import Path
from kpedge.core.errors import OutputError
from kpedge.core.files import atomic_folder, write_bytes
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # the kernel refuses longer files, as a full disk would
here = Path(sys.argv[1])
for attempt in range(2):
    try:
        if attempt == 0:
            write_bytes(here / "model.onnx", b"x" * 5000)
        else:
            with atomic_folder(here / "set") as folder:
                (folder / "pixels.bin").write_bytes(b"x" * 5000)
    except OutputError as error:
        print(error)
"""


def test_a_full_disk_leaves_the_old_file_and_no_half_of_the_new(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", LIMITED, tmp_path], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"cannot write {tmp_path / 'model.onnx'}: ")
    assert lines[1].startswith(f"cannot write {tmp_path / 'set'}: ")
    assert (tmp_path / "model.onnx").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_missing_file_is_answered_with_the_most_similar_one_of_a_small_folder(tmp_path, monkeypatch):
    (tmp_path / "photo.jpg").touch()
    for name, advice in (("foto.jpg", f"did you mean {tmp_path / 'photo.jpg'}?"), ("x", "check its name and folder")):
        with pytest.raises(OutputError, match="no such file") as caught:
            read_bytes(tmp_path / name, OutputError)
        assert caught.value.advice == advice
    monkeypatch.setattr("kpedge.core.files.MOST_NAMES", 0)
    with pytest.raises(OutputError) as caught:
        read_bytes(tmp_path / "foto.jpg", OutputError)
    assert caught.value.advice == "check its name and folder"


def test_a_block_that_fails_leaves_no_folder(tmp_path):
    def fail():
        with atomic_folder(tmp_path / "set") as folder:
            (folder / "a").write_text("a")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_replaced_whole(tmp_path):
    for name in ("a", "b"):
        with atomic_folder(tmp_path / "set") as folder:
            (folder / name).write_text(name)
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_files_get_the_permissions_that_the_user_asked_for(tmp_path):
    old = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a", b"")
        with atomic_folder(tmp_path / "b"):
            pass
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o750


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(OutputError, match="a is a file, not a folder"):
        make_folder(tmp_path / "a")
    with pytest.raises(OutputError, match="a is a file, not a folder"):
        write_bytes(tmp_path / "a" / "b", b"")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere; the command-line test drops its rights instead")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(OutputError, match=r"no permission|Permission denied"):
        write_bytes(tmp_path / "a", b"")


def test_existing_files_are_kept_unless_forced(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(OutputError, match="exists already"):
        refuse_existing(tmp_path / "a")
    refuse_existing(tmp_path / "a", force=True)
    refuse_existing(tmp_path / "b")


def test_what_kpedge_wrote_may_be_replaced_until_somebody_changes_it(tmp_path):
    file, folder = tmp_path / "a", tmp_path / "folder"
    file.write_text("ours")
    write_bytes(folder / "below" / "b", b"ours")
    for path in (file, folder):
        record_output(path)
        refuse_existing(path)
    (tmp_path / "c").write_text("the user's")
    write_bytes(folder / "below" / "c", b"the user's")
    file.write_text("changed")
    for path in (file, folder, tmp_path / "c"):
        with pytest.raises(OutputError, match="exists already"):
            refuse_existing(path)
    refuse_existing(file, force=True)
    with pytest.raises(OutputError, match="below/c"):
        refuse_existing(folder, force=True)
    with pytest.raises(OutputError, match="below/c"), atomic_folder(folder):
        pass
    assert (folder / "below" / "c").exists()
    file.write_text("ours again")
    record_output(file)
    refuse_existing(file)
