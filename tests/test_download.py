import hashlib
import shutil
import subprocess
import sys
from collections import namedtuple

import pytest
from fake_web import chunked, cut, good, raw, reset, serving, stall, trickle

from kpedge.core.errors import ChecksumError, DownloadError, OutputError, UsageError
from kpedge.data.catalogue import RemoteFile
from kpedge.data.download import _Transfer, check_url, download

DATA = bytes(range(256)) * 4000
"""A megabyte, which is not text."""
OTHER = DATA[::-1]
SHA256 = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
MD5 = f"md5:{hashlib.md5(DATA).hexdigest()}"


def run(url, folder, checksum=SHA256, size=None, **options):
    options.setdefault("timeout", 20)
    return download(RemoteFile(url, "f", size, checksum), folder, **options).read_bytes()


def left(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("checksum", [SHA256, MD5, None])
def test_a_file_arrives_whole(web, tmp_path, checksum):
    seen = []
    assert run(web.at("/f", good(DATA)), tmp_path, checksum, progress=lambda *state: seen.append(state)) == DATA
    assert seen[-1] == ("f", len(DATA), len(DATA))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert web.asked[0][1]["User-Agent"].startswith("kpedge/")
    assert left(tmp_path) == ["f"]


@pytest.mark.parametrize("trouble", [cut, reset, stall])
@pytest.mark.parametrize("checksum", [SHA256, None])
def test_a_broken_connection_is_tried_again(web, tmp_path, trouble, checksum):
    said = []
    (tmp_path / "f").write_bytes(OTHER)  # of another version
    url = web.at("/f", trouble(DATA, 300_000), trouble(DATA, 200_000), good(DATA))
    assert run(url, tmp_path, checksum, timeout=0.5, notify=said.append) == DATA
    assert len(said) == 2
    assert "try 2 of 5 in 1 s" in said[0]


def test_tries_are_limited(web, tmp_path):
    with pytest.raises(DownloadError, match="gave up after 3 tries"):
        run(web.at("/f", cut(DATA, 100_000)), tmp_path, tries=3)
    assert left(tmp_path) == []


def make_lies(data):
    """What a server may do wrong with a file -> its answers, one after the other."""
    return {
        "an unasked part": [raw(206, data), good(data)],
        "no status": [lambda handler: handler.wfile.write(b"nonsense\r\n\r\n"), good(data)],
        "nothing": [lambda handler: None, good(data)],
        "half a head": [lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Le"), good(data)],
        "endless head": [lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 5000), good(data)],
        "length too long": [raw(200, data, Content_Length=len(data) + 5000), good(data)],
        "length too short": [raw(200, data, Content_Length=len(data) - 5000), good(data)],
        "length nonsense": [raw(200, data, Content_Length="many"), good(data)],
        "length negative": [raw(200, data, Content_Length=-1), good(data)],
        "chunks cut": [chunked(data, whole=False), good(data)],
        "claims gzip": [raw(200, data, Content_Encoding="gzip"), good(data)],
        "other content": [good(data[::-1]), good(data)],
        "less": [good(data[:-1]), good(data)],
        "more": [good(data + b"!"), good(data)],
        "no content": [raw(204), good(data)],
        "web page": [raw(200, b"<html>", Content_Type="text/html; charset=utf-8"), good(data)],
        "redirect to a file": [raw(302, Location="file:///etc/passwd"), good(data)],
        "redirect to nonsense": [raw(302, Location="http://[::1"), good(data)],
        "redirect nowhere": [raw(302), good(data)],
        "redirect in a circle": [raw(302, Location="/f")] * 40,
        **{f"HTTP {code}": [raw(code), good(data)] for code in (304, 401, 403, 404, 408, 410, 416, 429, 500, 503, 599)},
    }


LIES = make_lies(DATA)


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("checksum", [SHA256, None])
def test_whatever_a_server_does_the_file_is_right_or_there_is_an_error(web, tmp_path, lie, checksum):
    url = web.at("/f", *LIES[lie])
    size = len(DATA) if checksum is None else None  # without a checksum at least the length is known
    try:
        content = run(url, tmp_path, checksum, size, tries=4, timeout=5)
    except (DownloadError, ChecksumError):
        assert "f" not in left(tmp_path)
    else:
        assert content == DATA or (checksum is None and lie == "other content")


@pytest.mark.parametrize("checksum", [SHA256, MD5])
def test_wrong_content_is_refused_and_nothing_of_it_is_kept(web, tmp_path, checksum):
    with pytest.raises(ChecksumError, match=checksum) as caught:
        run(web.at("/f", good(OTHER)), tmp_path, checksum)
    assert caught.value.exit_code == 3
    assert left(tmp_path) == []


@pytest.mark.parametrize("step", [good, chunked])
def test_a_file_that_is_too_large_is_stopped(web, tmp_path, step):
    with pytest.raises(DownloadError, match="500,000") as caught:
        run(web.at("/f", step(DATA)), tmp_path, max_size=500_000)
    assert "--max-size" in caught.value.advice
    with pytest.raises(ChecksumError, match="more than the 500,000 bytes"):
        run(web.at("/f", step(DATA)), tmp_path, size=500_000)


@pytest.mark.parametrize(("code", "advice"), [(404, "moved"), (403, "login")])
def test_a_refusal_is_not_tried_again(web, tmp_path, code, advice):
    with pytest.raises(DownloadError, match=f"HTTP {code}") as caught:
        run(web.at("/f", raw(code)), tmp_path)
    assert advice in caught.value.advice
    assert len(web.asked) == 1


def test_redirects_are_followed_but_never_from_https_to_http(web, tmp_path):
    target = web.at("/g", good(DATA))

    def redirect(handler):
        raw(302, Location=target)(handler)
        web.over.wait(0.1)  # the server closes the connection while the next request is on its way

    assert run(web.at("/f", redirect), tmp_path, tries=1) == DATA
    secure = namedtuple("response", "url is_redirect headers")("https://h/f", True, {"location": "http://m/f"})
    with pytest.raises(DownloadError, match="from https to http://m/f"):
        _Transfer(RemoteFile("https://h/f", "f"), 1, 1, None).inspect(secure)


def test_a_server_that_is_gone_or_silent_is_named(web, tmp_path):
    with serving() as gone:
        url = gone.at("/f")
    with pytest.raises(DownloadError, match="refused"):
        run(url, tmp_path, tries=2)
    with pytest.raises(DownloadError, match=r"no data for 0\.3 s"):
        run(web.at("/f", lambda _: web.over.wait(60)), tmp_path, timeout=0.3, tries=1)


def test_a_server_that_sends_a_few_bytes_per_second_is_left(web, tmp_path):
    with pytest.raises(DownloadError, match=r"less than 1,000 bytes per second .*gave up after 2 tries"):
        run(web.at("/f", trickle), tmp_path, timeout=0.3, tries=2)
    assert left(tmp_path) == []


def test_the_proxy_of_the_environment_is_used_and_its_password_kept(web, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{web.port}")
    web.at("http://data.example/f", good(DATA))  # a proxy is asked for the whole address
    assert run("http://data.example/f", tmp_path) == DATA
    with serving() as gone:
        monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{gone.port}")
    with pytest.raises(DownloadError, match=r"the proxy: .*refused") as caught:
        run("http://data.example/f", tmp_path, "sha256:" + "0" * 64, tries=1)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        *("file:///etc/passwd", "ftp://host/f", "host/f", "http://", "http:///f", "http://host:99999/f"),
        *("http://ho st/f", "http://host/a\r\nX: y", "http://[::1/f", "http://höst/f", ""),
        *("http://me:secret@host/f", "http://me@host/f"),
    ],
)
def test_addresses_that_are_not_http_or_carry_a_password_are_refused(url, tmp_path):
    with pytest.raises(UsageError) as caught:
        run(url, tmp_path)
    assert "secret" not in str(caught.value) + caught.value.advice
    check_url("https://host:8443/a%20b?c=d")


def test_a_disk_without_room_is_noticed_before(web, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "free")(64_500_000))
    with pytest.raises(OutputError, match="1,024,000 bytes"):
        run(web.at("/f", good(DATA)), tmp_path)


FULL = """
import resource, signal, sys
from pathlib import Path
from kpedge.core.errors import OutputError
from kpedge.data.catalogue import RemoteFile
from kpedge.data.download import download
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))  # the kernel refuses longer files, as a full disk would
try:
    download(RemoteFile(sys.argv[1], "f", None, sys.argv[3]), Path(sys.argv[2]))
except OutputError as error:
    print(error)
"""


def test_a_disk_that_fills_up_is_named(web, tmp_path):
    url = web.at("/f", good(DATA))
    done = subprocess.run([sys.executable, "-c", FULL, url, tmp_path, SHA256], capture_output=True, text=True)
    assert done.stdout.startswith(f"cannot write {tmp_path / 'f'}: "), done.stderr
    assert len(web.asked) == 1  # not tried again
    assert left(tmp_path) == []
