"""`kpedge data fetch NAME --archive FILE`: archives that people have downloaded themselves."""

import hashlib
import io
import json
import os
import shutil
import socket
import zipfile
from collections import namedtuple
from dataclasses import replace

import pytest
from test_fetch import TABLE, TAR, ZIP, names, sha256
from test_unpack import zip_bytes

from kpedge.cli.main import main
from kpedge.core.errors import ArchiveError, ChecksumError, DataError, OutputError, UsageError
from kpedge.data import catalogue
from kpedge.data.archives import fetch_archives
from kpedge.data.catalogue import Checksum, PublicSet, RemoteFile
from kpedge.data.fetch import fetch
from kpedge.data.fetched import RECORD
from kpedge.data.unpack import Limits

BY_HAND = PublicSet("walls", "Faces on walls", "http://walls.example/", "to be asked for", label_format="label")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No test here may open a connection."""

    def refuse(*_arguments, **_options):
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


def known(**contents):
    """A set of the catalogue that knows its files."""
    files = tuple(
        RemoteFile(f"http://known.example/{name}", name, len(data), sha256(data), "the test")
        for name, data in contents.items()
    )
    return PublicSet("known", "Known faces", "http://known.example/", "ours", label_format="label", files=files)


def without_checksums(source):
    return replace(source, files=tuple(replace(file, checksum=None, size=None) for file in source.files))


@pytest.fixture
def given(tmp_path):
    """Puts an archive where a browser would."""
    (tmp_path / "downloads").mkdir()

    def put(name, data):
        path = tmp_path / "downloads" / name
        path.write_bytes(data)
        return path

    return put


def state(path):
    return path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode


def test_archives_of_a_set_that_has_to_be_got_by_hand_are_unpacked_and_left_alone(given, tmp_path):
    archives = [given("photos.zip", ZIP), given("more.tar", TAR)]
    before, seen = [state(path) for path in archives], []
    fetched = fetch_archives(BY_HAND, archives, tmp_path / "set", progress=lambda *one: seen.append(one))
    assert names(tmp_path / "set") == {"photos/a.jpg", "photos/label.txt", "more/b.jpg", RECORD}
    assert (fetched.new, fetched.unpacked) == (True, 3)
    assert [file.checked for file in fetched.files] == ["", ""], "nobody published a checksum"
    assert [state(path) for path in archives] == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["downloads", "set"]
    record = json.loads((tmp_path / "set" / RECORD).read_text())
    assert record["terms"] == "to be asked for"
    assert record["files"][1] == {
        "name": "more.tar",
        "url": archives[1].as_uri(),
        "size": len(TAR),
        "sha256": sha256(TAR).value,
        "checked": "",
    }
    assert list(dict.fromkeys(what for what, _, _ in seen)) == [
        *("checking photos.zip", "checking more.tar", "unpacking photos.zip", "unpacking more.tar")
    ]
    assert ("checking more.tar", len(TAR), len(TAR)) in seen


def test_the_same_archives_again_are_nothing_to_do_and_others_need_force(given, tmp_path):
    one, two = given("photos.zip", ZIP), given("more.tar", TAR)
    first = fetch_archives(BY_HAND, [one, two], tmp_path / "set")
    (tmp_path / "set" / "mine.txt").write_text("kept")
    again = fetch_archives(BY_HAND, [two, one], tmp_path / "set")
    assert (again.new, again.files) == (False, first.files)
    with pytest.raises(OutputError, match="holds Faces on walls, of other files"):
        fetch_archives(BY_HAND, [one], tmp_path / "set")
    with pytest.raises(OutputError, match="holds another set: Faces on walls"):
        fetch_archives(replace(BY_HAND, name="other"), [one, two], tmp_path / "set")
    assert (tmp_path / "set" / "mine.txt").exists()
    fetch_archives(BY_HAND, [one], tmp_path / "set", force=True)
    assert names(tmp_path / "set") == {"photos/a.jpg", "photos/label.txt", RECORD}


def test_the_one_file_of_a_set_may_be_called_anything(given, tmp_path):
    source = known(faces=ZIP)
    (file,) = fetch_archives(source, [given("download(3)", ZIP)], tmp_path / "set").files
    assert (file.name, file.checked, file.sha256) == ("faces", "sha256", sha256(ZIP).value)
    assert not fetch(source, tmp_path / "set").new, "a download would be the same set"


def test_the_files_of_a_set_are_told_by_content_and_name(given, tmp_path):
    source = known(**{"one.zip": ZIP, "two.tar": TAR, "boxes.csv": TABLE})
    archives = [given("b.bin", TAR), given("boxes.csv", TABLE), given("ONE (2).zip", ZIP)]
    fetched = fetch_archives(source, archives, tmp_path / "set")
    assert [file.name for file in fetched.files] == ["two.tar", "boxes.csv", "one.zip"]
    assert names(tmp_path / "set") == {"photos/a.jpg", "photos/label.txt", "more/b.jpg", "boxes.csv", RECORD}
    plain = without_checksums(known(**{"one.zip": ZIP, "two.tar": TAR}))
    archives = [given("two (1).tar", TAR), given("One.zip", ZIP)]
    fetched = fetch_archives(plain, archives, tmp_path / "plain")
    assert [(file.name, file.checked) for file in fetched.files] == [("two.tar", ""), ("one.zip", "")]


def test_a_set_whose_checksum_nobody_knows_is_there_for_the_next_download_too(given, tmp_path):
    source = without_checksums(known(faces=ZIP))
    assert fetch_archives(source, [given("faces.zip", ZIP)], tmp_path / "set").new
    assert not fetch(source, tmp_path / "set", unverified=True).new


@pytest.mark.parametrize("data", [ZIP[:-9], ZIP[:-1] + b"x", TAR], ids=["cut off", "one byte", "another"])
def test_a_file_that_is_not_the_published_one_is_refused_and_stays(given, tmp_path, data):
    path = given("faces.zip", data)
    with pytest.raises(ChecksumError, match=r"faces\.zip: its? .* instead of .*, as the test publish") as caught:
        fetch_archives(known(faces=ZIP), [path], tmp_path / "set")
    assert "http://known.example/" in caught.value.advice
    assert path.read_bytes() == data
    assert [one.name for one in tmp_path.iterdir()] == ["downloads"]


@pytest.mark.parametrize("source", [BY_HAND, without_checksums(known(faces=ZIP))], ids=["by hand", "in the catalogue"])
def test_a_checksum_can_be_given(given, tmp_path, source):
    path = given("faces.zip", ZIP)
    md5 = Checksum("md5", hashlib.md5(ZIP).hexdigest())
    for number, checksum in enumerate((sha256(ZIP), md5)):
        (file,) = fetch_archives(source, [path], tmp_path / f"set{number}", checksum=checksum).files
        assert file.checked == checksum.kind
    for checksum in (sha256(TAR), replace(md5, value="0" * 32)):
        with pytest.raises(ChecksumError, match=f"its {checksum.kind} is .* instead of {checksum.value}"):
            fetch_archives(source, [path], tmp_path / "wrong", checksum=checksum)


@pytest.mark.parametrize(
    "data",
    [zip_bytes(("good", b"good"), ("../evil", b"evil")), ZIP[:-30], b"<html>log in</html>", b""],
    ids=["evil", "cut off", "web page", "empty"],
)
def test_an_archive_that_is_evil_broken_or_none_leaves_nothing_and_stays(given, tmp_path, data):
    archives = [given("good.tar", TAR), given("faces.zip", data)]
    with pytest.raises(ArchiveError, match=r"faces\.zip"):
        fetch_archives(BY_HAND, archives, tmp_path / "set")
    assert [path.read_bytes() for path in archives] == [TAR, data]
    assert [one.name for one in tmp_path.iterdir()] == ["downloads"]


def test_no_more_comes_out_of_it_than_out_of_a_download(given, tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as pack:
        pack.writestr("zeros", bytes(1_000_000))
    path = given("bomb.zip", packed.getvalue())
    with pytest.raises(ArchiveError, match="more than"):
        fetch_archives(BY_HAND, [path], tmp_path / "set", limits=Limits(small=1000))
    with pytest.raises(ArchiveError, match="more than 1 files"):
        fetch_archives(BY_HAND, [given("two.zip", ZIP)], tmp_path / "set", limits=Limits(files=1))
    assert not (tmp_path / "set").exists()


def test_what_cannot_be_told_is_asked_for(given, tmp_path):
    one, two, three = given("one.zip", ZIP), given("two.tar", TAR), given("three.csv", TABLE)
    source, out = known(**{"one.zip": ZIP, "two.tar": TAR}), tmp_path / "set"
    with pytest.raises(UsageError, match=r"known comes in 2 files \(one\.zip, two\.tar\), 1 is given") as caught:
        fetch_archives(source, [one], out)
    assert caught.value.advice == "all of them: kpedge data fetch known --archive FILE --archive FILE"
    with pytest.raises(UsageError, match=r"3 are given"):
        fetch_archives(source, [one, two, three], out)
    with pytest.raises(UsageError, match=r"three\.csv: neither its name nor its content tells which file of known"):
        fetch_archives(source, [one, three], out)
    with pytest.raises(UsageError, match=r"one\.zip and .*copy\.zip are the same file, one\.zip"):
        fetch_archives(source, [one, given("copy.zip", ZIP)], out)
    with pytest.raises(UsageError, match=r"are the same file"):
        fetch_archives(BY_HAND, [one, given("copy.zip", ZIP)], out)
    with pytest.raises(UsageError, match="2 archives are given: --sha256 and --md5 are of one"):
        fetch_archives(BY_HAND, [one, two], out, checksum=sha256(ZIP))
    with pytest.raises(UsageError, match="known has 2 files"):
        fetch_archives(source, [one, two], out, checksum=sha256(ZIP))
    assert not out.exists()


def test_what_is_no_file_is_told(given, tmp_path):
    with pytest.raises(DataError, match=r"none\.zip: no such file") as caught:
        fetch_archives(BY_HAND, [tmp_path / "none.zip"], tmp_path / "set")
    assert BY_HAND.page in caught.value.advice
    with pytest.raises(DataError, match="downloads is a folder, not an archive") as caught:
        fetch_archives(BY_HAND, [tmp_path / "downloads"], tmp_path / "set")
    assert f"kpedge data check {tmp_path}/downloads --format label" in caught.value.advice
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe is no plain file"):
        fetch_archives(BY_HAND, [tmp_path / "pipe"], tmp_path / "set")
    with pytest.raises(DataError, match="cannot be read"):
        fetch_archives(BY_HAND, [tmp_path / ("x" * 300)], tmp_path / "set")


def test_a_folder_that_was_not_fetched_is_never_replaced(given, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").write_text("mine")
    for force in (False, True):
        with pytest.raises(OutputError, match="exists already and was not fetched"):
            fetch_archives(BY_HAND, [given("one.zip", ZIP)], tmp_path / "mine", force=force)
    assert names(tmp_path / "mine") == {"photo.jpg"}


@pytest.mark.parametrize("link", [False, True], ids=["file", "link"])
def test_an_archive_in_the_folder_that_is_to_be_replaced_is_not_lost(given, tmp_path, link):
    out = tmp_path / "set"
    fetch_archives(BY_HAND, [given("one.zip", ZIP)], out)
    inside = out / "deep" / "two.tar"
    inside.parent.mkdir()
    if link:
        inside.symlink_to(given("two.tar", TAR))
    else:
        inside.write_bytes(TAR)
    with pytest.raises(UsageError, match=r"two\.tar lies in .*set, which is to be replaced"):
        fetch_archives(BY_HAND, [inside], out, force=True)
    assert inside.read_bytes() == TAR


def test_room_on_the_disk_is_asked_for_before(given, tmp_path, monkeypatch):
    path = given("one.zip", ZIP)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "free")(1000))
    with pytest.raises(OutputError, match="bytes or so are needed, 1,000 are free"):
        fetch_archives(BY_HAND, [path], tmp_path / "set")
    assert not (tmp_path / "set").exists()


# the command


@pytest.fixture
def walls(monkeypatch):
    monkeypatch.setattr(catalogue, "catalogue", lambda: {"walls": BY_HAND, "known": known(faces=ZIP)})


def test_the_command_says_terms_what_was_checked_and_what_to_do_next(walls, given, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "fetch", "walls"]) == 2
    assert "then: kpedge data fetch walls --archive FILE" in capsys.readouterr().err
    files = ["--archive", str(given("one.zip", ZIP)), "--archive", str(given("two.tar", TAR))]
    assert main(["data", "fetch", "walls", *files]) == 0
    said = capsys.readouterr()
    assert said.out == "walls\n"
    assert "terms: to be asked for" in said.err
    assert f"one.zip: {len(ZIP):,} bytes, SHA-256 {sha256(ZIP).value}" in said.err
    assert said.err.count("no checksum of it is known") == 2
    assert said.err.endswith("walls: 3 files\nnext: kpedge data check walls --format label\n")
    assert (tmp_path / "walls" / "more" / "b.jpg").is_file()
    assert main(["data", "fetch", "walls", *files]) == 0
    assert "there already, nothing to do" in capsys.readouterr().err
    assert main(["data", "fetch", "known", "--archive", files[1]]) == 0
    assert "the sha256 holds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("form", "folder", "reads"),
    [
        ("label", "photos", True),
        ("background", "", True),
        ("auto", "", True),
        ("wflw", "", False),
        ("label", "in", False),
    ],
)
def test_an_archive_of_something_else_is_told(given, tmp_path, monkeypatch, capsys, form, folder, reads):
    source = replace(BY_HAND, label_format=form, folder=folder)
    monkeypatch.setattr(catalogue, "catalogue", lambda: {"walls": source})
    monkeypatch.chdir(tmp_path)
    assert main(["data", "fetch", "walls", "--archive", str(given("one.zip", ZIP))]) == 0
    last = capsys.readouterr().err.splitlines()[-1]
    place = f"walls/{folder}".rstrip("/")
    if reads:
        assert last.startswith(f"next: kpedge data check {place}")
    else:
        assert last == f"warning: nothing in {place} reads as {form}: is it the right archive, and all of them?"
    assert (tmp_path / "walls" / "photos" / "label.txt").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--archive", "{zip}"], 2, "--archive needs the name of its set"),
        (["walls", "--archive", "{zip}", "--url", "http://h/x"], 2, "two ways to have the same files"),
        (["walls", "--archive", "{zip}", "--sha256", "0" * 64], 3, "instead of 0000"),
        (["walls", "--archive", "none.zip"], 1, "none.zip: no such file"),
        (["walls", "--archive", "{page}"], 3, "neither a zip nor a tar archive"),
        (["known", "--archive", "{page}"], 3, "neither a zip nor a tar archive"),
        (["known", "--archive", "{zip}", "--sha256", "0" * 64], 2, "known has the sha256"),
        (["none", "--archive", "{zip}"], 2, "no public set is called 'none'"),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, list) else None,
)
def test_bad_input_gets_one_clear_line(walls, given, tmp_path, monkeypatch, capsys, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    places = {"zip": given("one.zip", ZIP), "page": given("page.zip", b"<html>log in</html>")}
    assert main(["data", "fetch", *(argument.format(**places) for argument in arguments)]) == code
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = (line for line in said.err.splitlines() if line.startswith("error: "))
    assert words in line
    assert "Traceback" not in said.err
    assert [one.name for one in tmp_path.iterdir()] == ["downloads"]


def test_the_list_says_what_to_do_with_a_set_got_by_hand(walls, capsys):
    assert main(["data", "list"]) == 0
    assert "kpedge data fetch NAME --archive FILE" in capsys.readouterr().err
