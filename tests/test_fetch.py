import contextlib
import hashlib
import json
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from fake_web import good, raw, stall
from test_unpack import tar_bytes, zip_bytes

from kpedge.cli.fetch import parse_size
from kpedge.cli.main import main
from kpedge.core.errors import ArchiveError, ChecksumError, DataError, DownloadError, OutputError, UsageError
from kpedge.data import catalogue
from kpedge.data.catalogue import PublicSet, RemoteFile, public_set
from kpedge.data.fetch import RECORD, custom_set, fetch, file_name, override

ZIP = zip_bytes(("photos/a.jpg", bytes(range(256)) * 2000), ("photos/label.txt", b"a.jpg 0 0 9 9\n"))
TAR = tar_bytes(("more/b.jpg", bytes(range(256)) * 2000))
TABLE = b"image,x1,y1,x2,y2\n"
PAGE = b"<!doctype html><p>please log in"
FROM_ZIP = {"photos/a.jpg", "photos/label.txt", RECORD}
MANUAL = PublicSet("walls", "Faces on walls", "http://walls.example/", "to be asked for", label_format="label")


def sha256(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def new_set(web, **contents):
    """A set of files that the server has, with their checksums and sizes."""
    files = []
    for name, data in contents.items():
        url = web.at(f"/{name}", good(data)) if web else f"http://known.example/{name}"
        files.append(RemoteFile(url, name, len(data), sha256(data), "the test"))
    return PublicSet("drawn", "Drawn faces", "http://drawn.example/", "ours", label_format="label", files=tuple(files))


def without_checksums(source):
    return replace(source, files=tuple(replace(file, checksum=None, size=None) for file in source.files))


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_set_of_several_files_is_downloaded_verified_and_unpacked_once(web, tmp_path):
    seen, out = [], tmp_path / "set"
    source = new_set(web, zip=ZIP, tar=TAR, table=TABLE)
    fetched = fetch(source, out, progress=lambda *state: seen.append(state))
    assert names(out) == FROM_ZIP | {"more/b.jpg", "table"}
    assert (fetched.new, fetched.unpacked) == (True, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert list(dict.fromkeys(what for what, _, _ in seen)) == ["zip", "tar", "table", "unpacking zip", "unpacking tar"]
    record = json.loads((out / RECORD).read_text())
    assert record["terms"] == "ours"
    file = {"name": "tar", "url": source.files[1].url, "size": len(TAR), "sha256": sha256(TAR)[7:], "checked": "sha256"}
    assert record["files"][1] == file
    (out / "mine.txt").write_text("kept")
    again = fetch(source, out)
    assert (again.new, again.files) == (False, fetched.files)
    assert len(web.asked) == 3


def test_a_folder_with_other_content_is_replaced_only_if_it_was_fetched_and_with_force(web, tmp_path):
    out = tmp_path / "set"
    fetch(new_set(web, zip=ZIP), out)
    with pytest.raises(OutputError, match="Drawn faces"):
        fetch(new_set(web, tar=TAR), out)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="1 file in it did not come"):
        fetch(new_set(web, tar=TAR), out, force=True)
    (out / "notes.txt").unlink()
    fetch(new_set(web, tar=TAR), out, force=True)
    assert names(out) == {"more/b.jpg", RECORD}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").write_text("mine")
    for force in (False, True):
        with pytest.raises(OutputError, match="was not fetched"):
            fetch(new_set(web, tar=TAR), tmp_path / "mine", force=force)
    assert names(tmp_path / "mine") == {"photo.jpg"}


def test_a_download_that_breaks_off_is_continued_and_files_that_are_there_are_not_fetched_again(web, tmp_path):
    source = new_set(web, tar=TAR, zip=ZIP)
    web.at("/zip", raw(503))
    with pytest.raises(DownloadError, match="503"):
        fetch(source, tmp_path / "set", tries=2)
    assert [path.name for path in tmp_path.iterdir()] == [".set.download"]
    web.at("/zip", good(ZIP))
    fetch(source, tmp_path / "set")
    assert [path for path, _ in web.asked].count("/tar") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("data", [zip_bytes(("../evil", b"")), ZIP[:-30], PAGE, zip_bytes((RECORD, b"{}")), b""])
@pytest.mark.parametrize("how", ["download", "archive"])
def test_what_is_not_a_sound_archive_leaves_nothing(web, tmp_path, data, how):
    given = tmp_path / "faces.zip"
    given.write_bytes(data)
    source = MANUAL if how == "archive" else custom_set(web.at("/faces.zip", good(data)), None)
    with pytest.raises(ArchiveError, match=r"faces\.zip") as caught:
        fetch(source, tmp_path / "set", archives=[given] if how == "archive" else (), unverified=True)
    assert caught.value.exit_code == 3
    assert given.read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["faces.zip"]


def test_a_file_without_a_known_checksum_needs_consent(web, tmp_path):
    source = without_checksums(new_set(web, zip=ZIP))
    with pytest.raises(UsageError, match="no checksum of zip") as caught:
        fetch(source, tmp_path / "set")
    assert "--unverified" in caught.value.advice
    assert web.asked == []
    fetched = fetch(source, tmp_path / "set", unverified=True)
    assert (fetched.files[0].checked, fetched.files[0].sha256) == ("", sha256(ZIP)[7:])
    assert not fetch(source, tmp_path / "set", unverified=True).new
    with pytest.raises(ChecksumError):
        fetch(override(source, None, sha256(TAR)), tmp_path / "other")


def test_a_mirror_is_held_against_the_catalogues_checksum(web, tmp_path):
    source = new_set(web, zip=ZIP)
    assert fetch(override(source, web.at("/mirror", good(ZIP)), None), tmp_path / "set").files[0].checked == "sha256"
    with pytest.raises(ChecksumError):
        fetch(override(source, web.at("/evil", good(TAR)), None), tmp_path / "other")
    for other, checksum in ((public_set("wider-face"), None), (public_set("wflw"), None), (source, sha256(TAR))):
        with pytest.raises(UsageError):
            override(other, "http://h/x", checksum)


def test_file_names_come_from_the_address_and_are_harmless():
    for url, name in {"/a/b.zip?x=1": "b.zip", "/": "download", "/%2e%2e%2f.x": "x", "/a b%00": "a_b_"}.items():
        assert file_name(f"http://h{url}") == name


# archives that the user has downloaded


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Puts an archive where a browser would; no test with it may open a connection."""
    monkeypatch.setattr(socket, "socket", None)
    (tmp_path / "downloads").mkdir()

    def put(name, data):
        path = tmp_path / "downloads" / name
        path.write_bytes(data)
        return path

    return put


def test_archives_of_a_set_that_needs_a_browser_are_unpacked_and_left_alone(given, tmp_path):
    archives, out = [given("photos.zip", ZIP), given("more.tar", TAR), given("boxes.csv", TABLE)], tmp_path / "set"
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in archives]
    fetched = fetch(MANUAL, out, archives=archives)
    assert names(out) == FROM_ZIP | {"more/b.jpg", "boxes.csv"}
    assert [file.checked for file in fetched.files] == ["", "", ""]
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in archives] == before
    assert not fetch(MANUAL, out, archives=archives[::-1]).new
    with pytest.raises(OutputError, match="Faces on walls"):
        fetch(MANUAL, out, archives=archives[:1])
    fetch(MANUAL, out, archives=archives[:1], force=True)
    assert names(out) == FROM_ZIP


def test_archives_are_matched_by_content_or_name_and_verified(given, tmp_path):
    source = new_set(None, **{"one.zip": ZIP, "two.tar": TAR, "boxes.csv": TABLE})
    archives = [given("b.bin", TAR), given("boxes.csv", TABLE), given("ONE (2).zip", ZIP)]
    fetched = fetch(source, tmp_path / "set", archives=archives)
    assert [(file.name, file.checked) for file in fetched.files] == [
        *(("two.tar", "sha256"), ("boxes.csv", "sha256"), ("one.zip", "sha256"))
    ]
    plain = without_checksums(source)
    archives = [given("two (1).tar", TAR), given("One.zip", ZIP), given("BOXES.csv", TABLE)]
    assert [file.checked for file in fetch(plain, tmp_path / "plain", archives=archives).files] == ["", "", ""]
    one = new_set(None, faces=ZIP)
    assert fetch(one, tmp_path / "one", archives=[given("download(3)", ZIP)]).files[0].name == "faces"
    assert not fetch(one, tmp_path / "one").new, "a download would be the same set"
    for data in (ZIP[:-9], ZIP[:-1] + b"x", PAGE):
        with pytest.raises(ChecksumError, match="the test"):
            fetch(one, tmp_path / "other", archives=[given("faces", data)])


def test_archives_that_do_not_fit_the_set_are_named(given, tmp_path):
    source, out = new_set(None, **{"one.zip": ZIP, "two.tar": TAR}), tmp_path / "set"
    one, three = given("one.zip", ZIP), given("three.csv", TABLE)
    for archives, words in {
        (one,): r"2 files \(one\.zip, two\.tar\), not 1",
        (one, three): r"three\.csv: neither name nor content",
        (one, given("copy.zip", ZIP)): r"one\.zip and .*copy\.zip",
    }.items():
        with pytest.raises(UsageError, match=words):
            fetch(source, out, archives=archives)
    with pytest.raises(DataError, match="no such file"):
        fetch(MANUAL, out, archives=[tmp_path / "none.zip"])
    with pytest.raises(DataError, match="is a folder") as caught:
        fetch(MANUAL, out, archives=[tmp_path / "downloads"])
    assert "kpedge data check" in caught.value.advice
    assert not out.exists()


@pytest.mark.parametrize("link", [False, True])
def test_an_archive_in_the_folder_that_would_be_replaced_is_not_lost(given, tmp_path, link):
    out = tmp_path / "set"
    fetch(MANUAL, out, archives=[given("one.zip", ZIP)])
    inside = out / "two.tar"
    if link:
        inside.symlink_to(given("two.tar", TAR))
    else:
        inside.write_bytes(TAR)
    with pytest.raises(UsageError, match="will be replaced"):
        fetch(MANUAL, out, archives=[inside], force=True)
    assert inside.read_bytes() == TAR


# the commands


@pytest.fixture
def known(web, monkeypatch):
    sets = {"drawn": new_set(web, faces=ZIP), "walls": MANUAL}
    monkeypatch.setattr(catalogue, "catalogue", lambda: sets)


def test_fetch_shows_the_terms_what_came_and_the_next_step(known, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "fetch", "drawn"]) == 0
    said = capsys.readouterr()
    assert said.out == "drawn\n"
    for words in ("terms: ours", f"{len(ZIP):,} bytes, SHA-256 {sha256(ZIP)[7:]}, sha256 verified"):
        assert words in said.err
    assert said.err.endswith("next: kpedge data check drawn --format label\n")
    assert main(["data", "fetch", "drawn"]) == 0
    assert "up to date" in capsys.readouterr().err
    (tmp_path / "other.tar").write_bytes(TAR)
    assert main(["data", "fetch", "walls", "--archive", "other.tar"]) == 0
    assert "warning: no label labels in walls" in capsys.readouterr().err


def test_fetch_takes_your_own_archive(web, tmp_path, capsys):
    command = ["data", "fetch", "--url", web.at("/own.zip", good(ZIP)), "--out", str(tmp_path / "set")]
    assert main(command) == 2
    for flag in (["--sha256", sha256(ZIP)[7:].upper()], ["--md5", hashlib.md5(ZIP).hexdigest()], ["--unverified"]):
        assert main([*command, *flag]) == 0
        assert names(tmp_path / "set") == FROM_ZIP
        assert main([*command, *flag, "--force"]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "nothing to fetch"),
        (["none"], 2, "'none'"),
        (["walls"], 2, "--archive FILE"),
        (["--url", "http://h/x"], 2, "--out"),
        (["--url", "file:///etc/passwd", "--out", "out"], 2, "not an http or https address"),
        (["drawn", "--sha256", "12"], 2, "'12'"),
        (["drawn", "--sha256", "0" * 64], 2, "drawn has the sha256"),
        (["drawn", "--sha256", "0" * 64, "--md5", "0" * 32], 2, "--md5"),
        (["drawn", "--max-size", "big"], 2, "500MB"),
        (["--archive", "page.zip"], 2, "--archive needs the name"),
        (["walls", "--archive", "page.zip", "--url", "http://h/x"], 2, "--archive needs"),
        (["drawn", "--out", "used"], 1, "was not fetched"),
        (["--url", "{web}/none", "--out", "out", "--unverified"], 1, "HTTP 404"),
        (["--url", "{web}/page", "--out", "out", "--unverified"], 1, "a web page"),
        (["--url", "{web}/faces", "--out", "out", "--unverified", "--max-size", "1kB"], 1, "--max-size"),
        (["--url", "{web}/faces", "--out", "out", "--sha256", "0" * 64], 3, "do not use it"),
        (["--url", "{web}/x.zip", "--out", "out", "--unverified"], 3, "not an archive"),
        (["--url", "{web}/x", "--out", "out", "--unverified"], 3, "a web page"),
        (["walls", "--archive", "page.zip"], 3, "not an archive"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_gets_one_clear_line_and_its_exit_code(
    web, known, tmp_path, monkeypatch, capsys, arguments, code, words
):
    monkeypatch.chdir(tmp_path)
    web.at("/page", raw(200, PAGE, Content_Type="text/html"))
    web.at("/x.zip", good(PAGE))
    web.at("/x", good(PAGE))
    (tmp_path / "page.zip").write_bytes(PAGE)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine").touch()
    assert main(["data", "fetch", *(text.format(web=f"http://127.0.0.1:{web.port}") for text in arguments)]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err
    assert "Traceback" not in said.err
    assert not (tmp_path / "out").exists()


def test_sizes_are_read_as_people_write_them():
    for text, size in {"1": 1, "500MB": 5 * 10**8, "1.5 gb": 15 * 10**8, "2T": 2 * 10**12}.items():
        assert parse_size(text) == size
    for text in ("", "0", "-1", "MB", "1 XB", "1e9", "0x10"):
        with pytest.raises(Exception, match="500MB"):
            parse_size(text)


def test_list_shows_every_set_and_one_in_detail(capsys):
    assert main(["data", "list"]) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 120
    text = " ".join(said.split())
    for one in catalogue.catalogue().values():
        assert all(part in text for part in (f"{one.name}: {one.title}", one.page, one.terms, one.label_format))
    assert main(["data", "list", "wflw"]) == 0
    assert "7,500 faces to train on and 2,500 to test" in " ".join(capsys.readouterr().out.split())
    assert main(["data", "list", "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == list(catalogue.catalogue())
    assert main(["data", "list", "none"]) == 2


COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what runs in the background ignore it
from kpedge.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def start(web, out, **options):
    """`kpedge data fetch` in a process of its own."""
    url = f"http://127.0.0.1:{web.port}/faces"
    command = [sys.executable, "-c", COMMAND, "data", "fetch", "--url", url, "--out", out, "--sha256", sha256(ZIP)[7:]]
    return subprocess.Popen(command, **options)


@pytest.mark.slow
def test_a_run_can_be_stopped_and_started_again(web, tmp_path):
    web.at("/faces", stall(ZIP, len(ZIP) - 1))
    process = start(web, tmp_path / "set", stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        if web.asked:
            break
        time.sleep(0.1)
    for _ in range(12):  # once is enough, unless it falls into a library's own handling of errors
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
            break
    _, err = process.communicate(timeout=5)
    assert process.returncode != 0
    assert "Traceback" not in err
    web.at("/faces", good(ZIP))
    assert start(web, tmp_path / "set").wait(60) == 0
    assert names(tmp_path / "set") == FROM_ZIP
