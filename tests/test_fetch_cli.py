import hashlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading

import pytest
from fake_web import cut, good, raw, serving, stall, without_proxies
from test_fetch import ZIP, names, new_set, sha256
from test_unpack import zip_bytes

from kpedge.cli import fetch as fetch_commands
from kpedge.cli.main import main
from kpedge.data import catalogue


@pytest.fixture
def web(monkeypatch):
    without_proxies(monkeypatch)
    with serving() as server:
        yield server


@pytest.fixture
def drawn(web, monkeypatch):
    """A set in the catalogue, whose file the server has."""
    source = new_set(web, faces=ZIP)
    monkeypatch.setattr(catalogue, "catalogue", lambda: {"drawn": source})
    return source


def test_fetch_says_the_terms_what_came_and_what_to_do_next(drawn, tmp_path, capsys):
    out = tmp_path / "a set"
    assert main(["data", "fetch", "drawn", "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out == f"{out}\n"
    assert "terms: ours" in said.err
    assert f"faces: {len(ZIP):,} bytes, SHA-256 {sha256(ZIP).value}" in said.err
    assert "the sha256 holds" in said.err
    assert said.err.endswith(f'next: kpedge data check "{out}" --format label\n')
    assert main(["data", "fetch", "drawn", "--out", str(out)]) == 0
    assert "there already, nothing to do" in capsys.readouterr().err


def test_fetch_takes_an_archive_of_ones_own(web, tmp_path, capsys):
    url, out = web.at("/own.zip", good(ZIP)), str(tmp_path / "set")
    assert main(["data", "fetch", "--url", url, "--out", out]) == 2
    assert "--sha256" in capsys.readouterr().err
    assert main(["data", "fetch", "--url", url, "--out", out, "--sha256", sha256(ZIP).value.upper()]) == 0
    assert main(["data", "fetch", "--url", url, "--out", out + "2", "--md5", hashlib.md5(ZIP).hexdigest()]) == 0
    capsys.readouterr()
    assert main(["data", "fetch", "--url", url, "--out", out + "3", "--unverified"]) == 0
    said = capsys.readouterr().err
    assert f"SHA-256 {sha256(ZIP).value}" in said
    assert "not verified; next time, give this with --sha256" in said
    assert said.endswith(f"next: kpedge data check {out}3\n")
    assert names(tmp_path / "set3") == names(tmp_path / "set")


def test_by_default_the_folder_has_the_sets_name(drawn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "fetch", "drawn"]) == 0
    assert (tmp_path / "drawn" / "photos" / "a.jpg").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "nothing is named to fetch"),
        (["none"], 2, "no public set is called 'none'"),
        (["--url", "http://h/x"], 2, "--url alone needs a folder"),
        (["--url", "file:///etc/passwd", "--out", "{out}"], 2, "not an http or https address"),
        (["drawn", "--sha256", "12"], 2, "'12' is no sha256"),
        (["drawn", "--sha256", "0" * 64], 2, "drawn has the sha256"),
        (["drawn", "--sha256", "0" * 64, "--md5", "0" * 32], 2, "two checksums of one file"),
        (["drawn", "--max-size", "big"], 2, "no size such as 500MB"),
        (["drawn", "--tries", "0"], 2, "--tries"),
        (["drawn", "--out", "{used}"], 1, "exists already and was not fetched"),
        (["--url", "{web}/none", "--out", "{out}", "--unverified"], 1, "answers HTTP 404"),
        (["--url", "{web}/page", "--out", "{out}", "--unverified"], 1, "a web page instead of the file"),
        (
            ["--url", "{web}/faces", "--out", "{out}", "--unverified", "--max-size", "1kB"],
            1,
            "with --max-size",
        ),
        (["--url", "{web}/faces", "--out", "{out}", "--sha256", "0" * 64], 3, "do not use it"),
        (["--url", "{web}/evil", "--out", "{out}", "--unverified"], 3, "leaves the folder"),
        (["--url", "{web}/half", "--out", "{out}", "--unverified"], 3, "broken or cut off"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_gets_one_clear_line_and_its_exit_code(web, drawn, tmp_path, capsys, arguments, code, words):
    web.at("/page", raw(200, b"<html>", Content_Type="text/html"))
    web.at("/evil", good(zip_bytes(("../evil", b""))))
    web.at("/half", good(ZIP[: len(ZIP) // 2]))
    used = tmp_path / "used"
    used.mkdir()
    (used / "mine").touch()
    places = {"out": tmp_path / "out", "used": used, "web": f"http://127.0.0.1:{web.port}"}
    assert main(["data", "fetch", *(argument.format(**places) for argument in arguments)]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err
    assert "Traceback" not in said.err
    assert not (tmp_path / "out").exists()


def test_sizes_are_read_as_people_write_them():
    for text, size in {"1": 1, "500MB": 5 * 10**8, "1.5 gb": 15 * 10**8, "2T": 2 * 10**12, "7k": 7000}.items():
        assert fetch_commands.parse_size(text) == size
    for text in ("", "0", "-1", "MB", "1 XB", "1e9", "0.0000001k", "0x10"):
        with pytest.raises(Exception, match="no size such as"):
            fetch_commands.parse_size(text)


def test_list_names_every_set_with_terms_and_page(capsys):
    assert main(["data", "list"]) == 0
    said = capsys.readouterr()
    text = " ".join(said.out.split())
    for one in catalogue.catalogue().values():
        assert f"{one.name}: {one.title}" in text
        assert one.page in text
        assert one.terms in text
        assert not one.label_format or f"--format {one.label_format}" in text
    fetched, by_hand = said.out.split("to be got by hand:")
    assert "\n  lfw: " in fetched
    assert "\n  aflw: " in by_hand
    assert max(map(len, said.out.splitlines())) <= 120


def test_list_tells_more_of_one_and_all_in_json(capsys):
    assert main(["data", "list", "wflw"]) == 0
    assert "7,500 faces to train on and 2,500 to test" in " ".join(capsys.readouterr().out.split())
    assert main(["data", "list", "--json"]) == 0
    sets = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert list(sets) == list(catalogue.catalogue())
    assert sets["wflw"]["points"] == 98
    assert sets["lfw"]["files"][0]["size"] == 180566744
    assert main(["data", "list", "lfw", "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == ["lfw"]
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
    command = [sys.executable, "-c", COMMAND, "data", "fetch", "--url", url, "--out", out, "--unverified"]
    return subprocess.Popen(command, **options)


def test_stopped_by_hand_it_says_so_and_the_next_run_goes_on(web, tmp_path):
    web.at("/faces", stall(ZIP, 300))
    process = start(web, tmp_path / "set", stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    part = tmp_path / ".set.download" / "faces.part"
    try:
        deadline = threading.Event()
        for _ in range(600):
            if part.is_file() and part.stat().st_size == 300:
                break
            deadline.wait(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode != 0
    assert out == ""
    assert "stopped; the same command goes on from here" in err
    assert "Traceback" not in err
    assert part.stat().st_size == 300
    web.at("/faces", good(ZIP))
    arguments = ["data", "fetch", "--url", f"http://127.0.0.1:{web.port}/faces", "--unverified"]
    assert main([*arguments, "--out", str(tmp_path / "set")]) == 0
    assert web.ranges()[-1] == "bytes=300-"


def test_a_terminal_gets_a_bar_of_bytes(web, tmp_path):
    data = os.urandom(1_500_000)
    web.at("/faces", cut(data, 700_000), good(data))
    leader, follower = pty.openpty()
    process = start(
        web, tmp_path / "set", stderr=follower, stdout=subprocess.PIPE, env={**os.environ, "COLUMNS": "100"}
    )
    os.close(follower)
    shown = b""
    try:
        while select.select([leader], [], [], 60)[0]:
            try:
                block = os.read(leader, 65536)
            except OSError:  # the other end is closed
                break
            if not block:
                break
            shown += block
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        os.close(leader)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert re.search(r"faces [━╸╺ ]+ [\d.]+/1\.5 MB", text)
    assert "ended after 700,000 of 1,500,000 bytes; try 2 of 5 in 1 s" in text
