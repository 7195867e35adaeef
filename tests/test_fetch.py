import contextlib
import hashlib
import json
import shutil
import threading
from collections import namedtuple
from dataclasses import replace

import pytest
from fake_web import chunked, cut, good, lies, serving, stall, status, without_proxies
from test_unpack import tar_bytes, zip_bytes

from kpedge.core.errors import ArchiveError, ChecksumError, DownloadError, OutputError, UsageError
from kpedge.data.catalogue import Checksum, PublicSet, RemoteFile, public_set
from kpedge.data.download import Patience
from kpedge.data.fetch import fetch, file_name, from_elsewhere, own_set
from kpedge.data.fetched import RECORD

ZIP = zip_bytes(("photos/a.jpg", bytes(range(256)) * 2000), ("photos/label.txt", b"a.jpg 0 0 9 9\n"))
TAR = tar_bytes(("more/b.jpg", bytes(range(256)) * 2000))
TABLE = b"image,x1,y1,x2,y2\n"
QUICK = Patience(stall_s=20, tries=2, sleep=lambda _: None)


def sha256(data):
    return Checksum("sha256", hashlib.sha256(data).hexdigest())


@pytest.fixture
def web(monkeypatch):
    without_proxies(monkeypatch)
    with serving() as server:
        yield server


def new_set(web, **contents):
    """A set of files that the server has, with all that is known of them."""
    files = []
    for name, data in contents.items():
        url = web.at(f"/{name}", good(data))
        files.append(RemoteFile(url, name, len(data), sha256(data), "the test"))
    return PublicSet("drawn", "Drawn faces", "http://drawn.example/", "ours", label_format="label", files=tuple(files))


def run(source, out, **options):
    return fetch(source, out, patience=QUICK, **options)


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_set_of_several_files_is_downloaded_checked_and_unpacked(web, tmp_path):
    seen = []
    source = new_set(web, zip=ZIP, tar=TAR, table=TABLE)
    fetched = run(source, tmp_path / "set", progress=lambda *state: seen.append(state))
    assert names(tmp_path / "set") == {"photos/a.jpg", "photos/label.txt", "more/b.jpg", "table", RECORD}
    assert fetched.new
    assert fetched.unpacked == 4
    assert [file.checked for file in fetched.files] == ["sha256"] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert list(dict.fromkeys(what for what, _, _ in seen)) == ["zip", "tar", "table", "unpacking zip", "unpacking tar"]
    record = json.loads((tmp_path / "set" / RECORD).read_text())
    assert record["terms"] == "ours"
    assert record["files"][1] == {
        "name": "tar",
        "url": source.files[1].url,
        "size": len(TAR),
        "sha256": sha256(TAR).value,
        "checked": "sha256",
    }


def test_a_second_run_does_nothing(web, tmp_path):
    source = new_set(web, zip=ZIP)
    first = run(source, tmp_path / "set")
    (tmp_path / "set" / "mine.txt").write_text("kept")
    again = run(source, tmp_path / "set")
    assert not again.new
    assert again.files == first.files
    assert len(web.asked) == 1
    assert (tmp_path / "set" / "mine.txt").exists()
    run(source, tmp_path / "set", force=True)
    assert len(web.asked) == 2
    assert not (tmp_path / "set" / "mine.txt").exists()


def test_the_same_set_from_a_mirror_is_the_same_set(web, tmp_path):
    source = new_set(web, zip=ZIP)
    run(source, tmp_path / "set")
    assert not run(from_elsewhere(source, web.at("/mirror", good(ZIP)), None), tmp_path / "set").new


def test_a_stopped_run_goes_on_with_the_file_that_was_missing(web, tmp_path):
    source = new_set(web, zip=ZIP, tar=TAR)
    web.at("/tar", cut(TAR, 1000), status(404))
    with pytest.raises(DownloadError, match="404"):
        run(source, tmp_path / "set")
    assert not (tmp_path / "set").exists()
    web.at("/tar", good(TAR))
    web.asked.clear()
    run(source, tmp_path / "set")
    assert [(path, headers.get("Range")) for path, headers in web.asked] == [("/tar", "bytes=1000-")]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize(
    "step",
    [
        good(ZIP[::-1]),
        lies(ZIP, len(ZIP) - 9),
        lies(ZIP, len(ZIP) + 9),
        chunked(ZIP + b"more"),
        good(ZIP[:-1] + b"x"),
    ],
    ids=["other content", "announces less", "announces more", "sends more", "one byte"],
)
def test_what_is_not_as_promised_leaves_nothing(web, tmp_path, step):
    source = new_set(web, zip=ZIP)
    web.at("/zip", step)
    with pytest.raises(ChecksumError):
        run(source, tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [zip_bytes(("good", b"good"), ("../evil", b"evil")), ZIP[:-30], b"PK\x03\x04" * 9])
def test_an_archive_that_is_evil_or_broken_leaves_nothing(web, tmp_path, data):
    with pytest.raises(ArchiveError):
        run(new_set(web, zip=data), tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_only_the_file_that_is_wrong_comes_again(web, tmp_path):
    source = new_set(web, zip=ZIP, tar=TAR, table=TABLE)
    web.at("/tar", good(TAR[:-1] + b"x"), good(TAR))
    with pytest.raises(ChecksumError):
        run(source, tmp_path / "set")
    run(source, tmp_path / "set")
    assert [path for path, _ in web.asked] == ["/zip", "/tar", "/tar", "/table"]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_only_the_archive_that_is_broken_comes_again(web, tmp_path):
    source = new_set(web, zip=ZIP, tar=TAR)
    source = replace(source, files=tuple(replace(file, checksum=None, size=None) for file in source.files))
    web.at("/zip", good(ZIP[:-30]), good(ZIP))
    with pytest.raises(ArchiveError, match="zip: the archive is broken"):
        run(source, tmp_path / "set", unverified=True)
    run(source, tmp_path / "set", unverified=True)
    assert [path for path, _ in web.asked] == ["/zip", "/tar", "/zip"]
    assert (tmp_path / "set" / "more" / "b.jpg").is_file()


def test_two_archives_with_the_same_file_are_refused(web, tmp_path):
    with pytest.raises(ArchiveError, match="comes twice"):
        run(new_set(web, one=ZIP, two=ZIP), tmp_path / "set")
    with pytest.raises(ArchiveError, match="of its own"):
        run(new_set(web, one=zip_bytes((RECORD, b"{}"))), tmp_path / "set")


def test_a_folder_that_was_not_fetched_is_never_replaced(web, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / RECORD).write_text('{"files": []}')
    for name in ("mine", "file", "fake"):
        for force in (False, True):
            with pytest.raises(OutputError, match="exists already and was not fetched"):
                run(new_set(web, zip=ZIP), tmp_path / name, force=force)
    assert (tmp_path / "mine" / "photo.jpg").read_text() == "mine"
    assert web.asked == []
    (tmp_path / "empty").mkdir()
    assert run(new_set(web, zip=ZIP), tmp_path / "empty").new


def test_another_set_is_replaced_only_when_asked(web, tmp_path):
    run(new_set(web, zip=ZIP), tmp_path / "set")
    other = replace(new_set(web, tar=TAR), name="other")
    with pytest.raises(OutputError, match="holds another set: Drawn faces"):
        run(other, tmp_path / "set")
    assert "photos/a.jpg" in names(tmp_path / "set")
    run(other, tmp_path / "set", force=True)
    assert names(tmp_path / "set") == {"more/b.jpg", RECORD}


def test_a_file_without_a_checksum_is_taken_only_when_asked_and_held_to_from_then_on(web, tmp_path):
    source = own_set(web.at("/faces.zip", good(ZIP)), None)
    with pytest.raises(UsageError, match=r"no checksum of faces\.zip is known") as caught:
        run(source, tmp_path / "set")
    assert "--unverified" in caught.value.advice
    assert web.asked == []
    fetched = run(source, tmp_path / "set", unverified=True)
    assert (fetched.files[0].sha256, fetched.files[0].checked) == (sha256(ZIP).value, "")
    assert not run(source, tmp_path / "set").new
    with pytest.raises(OutputError, match="holds another set"):
        run(own_set(web.at("/other/faces.zip", good(ZIP)), None), tmp_path / "set", unverified=True)
    web.at("/faces.zip", good(TAR))  # changed on the server
    with pytest.raises(ChecksumError, match=f"instead of {sha256(ZIP).value}"):
        run(source, tmp_path / "set", force=True)
    assert "photos/a.jpg" in names(tmp_path / "set")


def test_an_md5_is_enough_and_recorded_as_such(web, tmp_path):
    source = own_set(web.at("/f.zip", good(ZIP)), Checksum("md5", hashlib.md5(ZIP).hexdigest()))
    assert run(source, tmp_path / "set").files[0].checked == "md5"


def test_a_set_that_has_to_be_got_by_hand_says_where(tmp_path):
    with pytest.raises(UsageError, match="aflw cannot be fetched") as caught:
        run(public_set("aflw"), tmp_path / "set")
    assert public_set("aflw").page in caught.value.advice
    assert caught.value.advice.endswith("kpedge data fetch aflw --archive FILE")
    with pytest.raises(UsageError) as caught:
        run(public_set("wflw"), tmp_path / "set")
    assert caught.value.advice.endswith("kpedge data fetch wflw --archive FILE --archive FILE")


def test_another_address_or_checksum_has_to_fit_the_set():
    lfw, wider = public_set("lfw"), public_set("wider-face")
    assert from_elsewhere(lfw, None, None) is lfw
    moved = from_elsewhere(lfw, "http://mirror.example/x", lfw.files[0].checksum)
    assert moved.files[0].url == "http://mirror.example/x"
    assert moved.files[0].checksum == lfw.files[0].checksum
    with pytest.raises(UsageError, match="lfw has the sha256 055f7d9c"):
        from_elsewhere(lfw, None, sha256(b""))
    with pytest.raises(UsageError, match="wider-face has 3 files"):
        from_elsewhere(wider, "http://mirror.example/x", None)
    with pytest.raises(UsageError, match="aflw has 0 files"):
        from_elsewhere(public_set("aflw"), "http://mirror.example/x", None)
    assert from_elsewhere(public_set("mtfl"), None, sha256(b"")).verified


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://host/a/faces.zip?x=1#y", "faces.zip"),
        ("http://host/a%20b/fa%20c%2Fes.zip", "es.zip"),
        ("http://host/", "download"),
        ("http://host", "download"),
        ("http://host/..", "download"),
        ("http://host/%2e%2e%2f.hidden", "hidden"),
        ("http://host/" + "a" * 300, "a" * 100),
        ("http://host/c:\\x", "c__x"),
    ],
)
def test_the_name_of_a_file_never_is_a_path(url, name):
    assert file_name(url) == name


def test_room_on_the_disk_is_asked_for_before(web, tmp_path, monkeypatch):
    source = new_set(web, zip=ZIP)
    large = replace(source, files=(replace(source.files[0], size=10**9),))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "free")(10**9))
    with pytest.raises(OutputError, match=r"2,000,000,000 bytes or so are needed, 1,000,000,000 are free"):
        run(large, tmp_path / "set")
    assert web.asked == []


def test_two_runs_do_not_write_into_one_download(web, tmp_path):
    source = new_set(web, zip=ZIP)
    web.at("/zip", stall(ZIP, 100))
    begun = threading.Event()

    def first():
        with contextlib.suppress(DownloadError):
            fetch(
                source,
                tmp_path / "set",
                patience=replace(QUICK, tries=1, stall_s=60),
                progress=lambda *_: begun.set(),
            )

    thread = threading.Thread(target=first)
    thread.start()
    assert begun.wait(60)
    with pytest.raises(OutputError, match="another run is downloading into it"):
        run(source, tmp_path / "set")
    web.over.set()
    thread.join(60)
    web.at("/zip", good(ZIP))
    assert run(source, tmp_path / "set").new
