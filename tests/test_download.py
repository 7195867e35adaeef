import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections import namedtuple

import pytest
from fake_web import chunked, cut, deaf, good, lies, raw, reset, serving, stall, status, without_proxies

from kpedge.core.errors import ChecksumError, DownloadError, OutputError
from kpedge.data.catalogue import Checksum
from kpedge.data.download import Patience, download

DATA = bytes(range(256)) * 4000
"""A megabyte, which is no text."""
OTHER = DATA[::-1]
SHA256 = Checksum("sha256", hashlib.sha256(DATA).hexdigest())
MD5 = Checksum("md5", hashlib.md5(DATA).hexdigest())


@pytest.fixture
def web(monkeypatch):
    without_proxies(monkeypatch)
    with serving() as server:
        yield server


class Clock:
    """Pauses that take no time."""

    def __init__(self):
        self.pauses = []

    def patience(self, stall_s=20.0, tries=5):
        return Patience(stall_s=stall_s, tries=tries, pause_s=1.0, longest_s=60.0, sleep=self.pauses.append)


def run(url, folder, **options):
    options.setdefault("patience", Clock().patience())
    return download(url, folder / "f", **options)


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_with_its_hashes_and_progress(web, tmp_path):
    seen = []
    url = web.at("/f", good(DATA))
    there = run(url, tmp_path, checksum=SHA256, size=len(DATA), progress=lambda *state: seen.append(state))
    assert there.path.read_bytes() == DATA
    assert (there.size, there.sha256, there.resumed_from) == (len(DATA), SHA256.value, 0)
    assert seen[-1] == (len(DATA), len(DATA))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert web.asked[0][1]["User-Agent"].startswith("kpedge/")
    assert run(web.at("/m", good(DATA)), tmp_path, checksum=MD5).path.read_bytes() == DATA


def test_nothing_at_all_is_a_file_too(web, tmp_path):
    assert run(web.at("/f", good(b"")), tmp_path).path.read_bytes() == b""


@pytest.mark.parametrize("checksum", [SHA256, None])
@pytest.mark.parametrize("trouble", [cut, reset])
def test_a_broken_connection_is_taken_up_where_it_broke(web, tmp_path, trouble, checksum):
    clock, said = Clock(), []
    url = web.at("/f", trouble(DATA, 300_000), trouble(DATA, 200_000), good(DATA))
    there = run(url, tmp_path, checksum=checksum, patience=clock.patience(), say=said.append)
    assert there.path.read_bytes() == DATA
    ranges = web.ranges()
    assert ranges[0] == ""
    starts = [int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) for asked in ranges[1:] if asked]
    assert starts == sorted(starts)
    if trouble is cut:  # a reset may take along what the kernel had not handed over
        assert starts == [300_000, 500_000]
        assert "ended after 300,000 of 1,024,000 bytes" in said[0]
    assert all(headers["If-Range"] == '"one"' for _, headers in web.asked if "Range" in headers)
    assert clock.pauses == [1.0, 2.0]
    assert "try 2 of 5 in 1 s" in said[0]
    assert left(tmp_path) == ["f", "f.json"]


def test_a_stall_is_given_up_and_taken_up(web, tmp_path):
    said = []
    url = web.at("/f", stall(DATA, 300_000), good(DATA))
    there = run(url, tmp_path, checksum=SHA256, patience=Clock().patience(stall_s=1.0), say=said.append)
    assert there.path.read_bytes() == DATA
    assert "nothing comes any more" in said[0]
    assert web.ranges()[1].startswith("bytes=")


def test_a_server_that_never_answers_is_a_stall_too(web, tmp_path):
    with pytest.raises(DownloadError, match="gives no answer: timed out; given up after 1 tries"):
        run(web.at("/f", lambda _: web.over.wait(60)), tmp_path, patience=Clock().patience(stall_s=0.5, tries=1))


def test_tries_are_bounded_and_what_came_is_kept_for_the_next_run(web, tmp_path):
    clock = Clock()
    url = web.at("/f", cut(DATA, 1000))
    with pytest.raises(DownloadError, match="given up after 3 tries in a row") as caught:
        run(url, tmp_path, checksum=SHA256, patience=clock.patience(tries=3))
    assert "goes on from 3,000 bytes" in caught.value.advice
    assert caught.value.exit_code == 1
    assert len(web.asked) == 3
    assert len(clock.pauses) == 2
    assert (tmp_path / "f.part").read_bytes() == DATA[:3000]
    said = []
    there = run(web.at("/f", good(DATA)), tmp_path, checksum=SHA256, say=said.append)
    assert there.path.read_bytes() == DATA
    assert there.resumed_from == 3000
    assert said == ["f: 3,000 bytes are there already"]
    assert web.ranges()[-1] == "bytes=3000-"


def test_progress_earns_new_tries(web, tmp_path):
    big = DATA * 4
    url = web.at("/f", cut(big, 1_500_000), cut(big, 1_500_000), good(big))
    assert run(url, tmp_path, patience=Clock().patience(tries=2)).path.read_bytes() == big


def test_a_server_that_ignores_ranges_begins_anew_without_a_mixture(web, tmp_path):
    url = web.at("/f", cut(DATA, 300_000), deaf(DATA))
    there = run(url, tmp_path, checksum=SHA256)
    assert there.path.read_bytes() == DATA
    assert web.ranges() == ["", "bytes=300000-"]
    with pytest.raises(DownloadError, match="given up after 5 tries"):  # it never gets further
        run(web.at("/g", deaf(DATA, 400_000)), tmp_path, checksum=SHA256)
    large = DATA * 5
    to_and_fro = [deaf(large, 4_000_000), deaf(large, 1_000_000)] * 3
    with pytest.raises(DownloadError, match="given up after 5 tries"):
        run(web.at("/h", *to_and_fro, good(large)), tmp_path, checksum=SHA256)


def test_without_a_tag_only_a_checksum_lets_a_download_be_taken_up(web, tmp_path):
    assert run(web.at("/f", cut(DATA, 1000, etag=""), good(DATA, etag="")), tmp_path, checksum=SHA256).size == len(DATA)
    assert web.ranges() == ["", "bytes=1000-"]
    assert "If-Range" not in web.asked[1][1]
    web.asked.clear()
    assert run(web.at("/g", cut(DATA, 1000, etag=""), good(DATA, etag="")), tmp_path).size == len(DATA)
    assert web.ranges() == ["", ""]


def test_a_weak_tag_gives_way_to_the_date(web, tmp_path):
    dated = {"etag": 'W/"x"', "modified": "Sat, 21 Nov 2026 20:00:00 GMT"}
    run(web.at("/f", cut(DATA, 1000, **dated), good(DATA, **dated)), tmp_path)
    assert web.asked[1][1]["If-Range"] == dated["modified"]


def test_a_file_that_changes_meanwhile_begins_anew(web, tmp_path):
    changed = Checksum("sha256", hashlib.sha256(OTHER).hexdigest())
    url = web.at("/f", cut(DATA, 300_000, '"one"'), good(OTHER, '"two"'))
    assert run(url, tmp_path, checksum=changed).path.read_bytes() == OTHER
    assert web.ranges() == ["", "bytes=300000-"]


def test_a_part_of_another_version_is_never_joined(web, tmp_path):
    def careless(handler):  # ignores If-Range
        if "Range" not in handler.headers:
            return good(OTHER, '"two"')(handler)
        span = f"bytes 300000-{len(OTHER) - 1}/{len(OTHER)}"
        handler.head(206, Content_Range=span, Content_Length=len(OTHER) - 300_000, ETag='"two"')
        return handler.wfile.write(OTHER[300_000:])

    said = []
    there = run(web.at("/f", cut(DATA, 300_000, '"one"'), careless), tmp_path, say=said.append)
    assert there.path.read_bytes() == OTHER
    assert "has changed; begins anew" in said[1]


def test_a_part_from_another_place_is_never_joined(web, tmp_path):
    shifted = raw(206, DATA[500:], Content_Range=f"bytes 500-{len(DATA) - 1}/{len(DATA)}", ETag='"one"')
    there = run(web.at("/f", cut(DATA, 1000), shifted, good(DATA)), tmp_path)
    assert there.path.read_bytes() == DATA
    assert run(web.at("/g", cut(DATA, 1000), raw(206, b"x"), good(DATA)), tmp_path).path.read_bytes() == DATA


def test_pieces_that_do_not_fit_together_are_fetched_once_more_in_one(web, tmp_path):
    url = web.at("/f", cut(OTHER, 300_000), good(DATA))  # another file under the same tag
    said = []
    assert run(url, tmp_path, checksum=SHA256, say=said.append).path.read_bytes() == DATA
    assert web.ranges() == ["", "bytes=300000-", ""]
    assert f"instead of {SHA256.value}; begins anew" in said[-1]


def test_a_whole_part_is_not_asked_for_again_in_vain(web, tmp_path):
    url = web.at("/f", good(DATA))
    (tmp_path / "f.part").write_bytes(DATA)
    (tmp_path / "f.json").write_text(json.dumps({"url": url, "validator": '"one"', "total": len(DATA)}))
    assert run(url, tmp_path, checksum=SHA256).resumed_from == len(DATA)
    assert web.ranges() == [f"bytes={len(DATA)}-"]  # answered by 416


def test_a_part_longer_than_the_file_begins_anew(web, tmp_path):
    url = web.at("/f", good(DATA))
    (tmp_path / "f.part").write_bytes(DATA + b"more")
    (tmp_path / "f.json").write_text(json.dumps({"url": url, "validator": '"one"', "total": len(DATA) + 4}))
    assert run(url, tmp_path).path.read_bytes() == DATA


@pytest.mark.parametrize("checksum", [SHA256, None])
@pytest.mark.parametrize("notes", ["", "{", "[]", '{"url": "http://other/"}', '{"url": 5, "total": "x"}'])
def test_a_part_of_unknown_origin_is_not_used(web, tmp_path, notes, checksum):
    (tmp_path / "f.part").write_bytes(OTHER[:1000])
    (tmp_path / "f.json").write_text(notes)
    assert run(web.at("/f", good(DATA)), tmp_path, checksum=checksum).path.read_bytes() == DATA
    assert web.ranges() == [""]


def test_a_file_of_an_earlier_run_is_checked_and_not_asked_for(web, tmp_path):
    url = web.at("/f", good(DATA))
    run(url, tmp_path, checksum=SHA256)
    assert run(url, tmp_path, checksum=SHA256).path.read_bytes() == DATA
    assert len(web.asked) == 1
    (tmp_path / "f").write_bytes(OTHER)  # damaged since
    assert run(url, tmp_path, checksum=SHA256).path.read_bytes() == DATA
    assert len(web.asked) == 2


@pytest.mark.parametrize("checksum", [SHA256, MD5], ids=["sha256", "md5"])
def test_a_wrong_content_is_refused_and_not_kept(web, tmp_path, checksum):
    with pytest.raises(ChecksumError, match=f"the {checksum.kind} is .* instead of {checksum.value}") as caught:
        run(web.at("/f", good(OTHER)), tmp_path, checksum=checksum)
    assert caught.value.exit_code == 3
    assert left(tmp_path) == []
    assert len(web.asked) == 1


def test_a_wrong_content_in_pieces_ends_too(web, tmp_path):
    url = web.at("/f", *[cut(OTHER, 400_000), good(OTHER)] * 2)
    with pytest.raises(ChecksumError, match="instead of"):
        run(url, tmp_path, checksum=SHA256)
    assert len(web.asked) <= 4
    assert left(tmp_path) == []


@pytest.mark.parametrize("announced", [len(DATA) - 5000, len(DATA) + 5000])
def test_a_length_that_is_not_the_known_one_is_refused_at_once(web, tmp_path, announced):
    with pytest.raises(ChecksumError, match=f"announces {announced:,} bytes instead of {len(DATA):,}"):
        run(web.at("/f", lies(DATA, announced)), tmp_path, checksum=SHA256, size=len(DATA))
    assert left(tmp_path) == []


def test_less_than_announced_is_told(web, tmp_path):
    with pytest.raises(DownloadError, match="ended after 1,024,000 of 1,029,000 bytes"):
        run(web.at("/f", lies(DATA, len(DATA) + 5000)), tmp_path, patience=Clock().patience(tries=2))


def test_more_than_announced_does_not_pass_the_checksum(web, tmp_path):
    with pytest.raises(ChecksumError, match="instead of"):
        run(web.at("/f", lies(DATA, len(DATA) - 5000)), tmp_path, checksum=SHA256)


def test_a_file_of_unannounced_length_arrives_but_not_half_of_it(web, tmp_path):
    assert run(web.at("/f", chunked(DATA)), tmp_path).path.read_bytes() == DATA
    with pytest.raises(DownloadError, match="the connection broke"):
        run(web.at("/g", chunked(DATA, whole=False)), tmp_path, patience=Clock().patience(tries=2))
    with pytest.raises(DownloadError, match="ended after 1,024,000 of 1,024,001"):
        run(web.at("/h", chunked(DATA)), tmp_path, size=len(DATA) + 1, patience=Clock().patience(tries=2))
    with pytest.raises(ChecksumError, match="more than the 1,000,000 bytes"):
        run(web.at("/i", chunked(DATA)), tmp_path, size=1_000_000)


def test_a_huge_file_is_stopped(web, tmp_path):
    with pytest.raises(DownloadError, match=r"1,024,000 bytes or more, over the limit of 5,000") as caught:
        run(web.at("/f", good(DATA)), tmp_path, limit=5000)
    assert caught.value.advice == "raise it with --max-size"
    with pytest.raises(DownloadError, match="over the limit of 500,000"):  # not announced, so counted
        run(web.at("/g", chunked(DATA)), tmp_path, limit=500_000)
    assert left(tmp_path) == []


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_trouble_of_the_server_is_waited_out(web, tmp_path, code):
    clock = Clock()
    url = web.at("/f", status(code), status(code, Retry_After="7"), good(DATA))
    assert run(url, tmp_path, patience=clock.patience()).path.read_bytes() == DATA
    assert clock.pauses == [1.0, 7.0]


def test_a_server_that_wants_too_long_a_pause_is_not_waited_for(web, tmp_path):
    with pytest.raises(DownloadError, match=r"503 .*asks to come back in 3600 s"):
        run(web.at("/f", status(503, Retry_After="3600")), tmp_path)
    past, nonsense = status(503, Retry_After="Fri, 31 Dec 1999 23:59:59 GMT"), status(503, Retry_After="soon")
    clock = Clock()
    run(web.at("/g", past, nonsense, good(DATA)), tmp_path, patience=clock.patience())
    assert clock.pauses == [0.0, 2.0]


def test_pauses_grow_up_to_the_longest(web, tmp_path):
    clock = Clock()
    with pytest.raises(DownloadError):
        run(web.at("/f", status(500)), tmp_path, patience=clock.patience(tries=9))
    assert clock.pauses == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_disk_without_room_is_told_before(web, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "free")(64_500_000))
    with pytest.raises(OutputError, match=r"1,024,000 bytes are still to come, 64,500,000 are free"):
        run(web.at("/f", good(DATA)), tmp_path)
    assert left(tmp_path) == []


FULL = """
import resource, signal, sys
from pathlib import Path
from kpedge.data.download import download
from kpedge.core.errors import OutputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))  # the kernel refuses longer files, as a full disk would
try:
    download(sys.argv[1], Path(sys.argv[2]))
except OutputError as error:
    print(error)
"""


def test_a_disk_that_fills_up_is_told_and_the_part_stays(web, tmp_path):
    url = web.at("/f", good(DATA))
    command = [sys.executable, "-c", FULL, url, tmp_path / "f"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"cannot write {tmp_path / 'f.part'}: ")
    assert len(web.asked) == 1  # not tried again
    assert run(url, tmp_path, checksum=SHA256).resumed_from == 500_000


def test_stopped_by_hand_the_part_stays(web, tmp_path):
    def stop(done, total):
        if done > 300_000:
            raise KeyboardInterrupt

    url = web.at("/f", good(DATA))
    with pytest.raises(KeyboardInterrupt):
        run(url, tmp_path, progress=stop)
    kept = (tmp_path / "f.part").stat().st_size
    assert kept > 300_000
    assert run(url, tmp_path, checksum=SHA256).resumed_from == kept
    assert web.ranges() == ["", f"bytes={kept}-"]
