import io
import ssl
import urllib.error
import urllib.request
from email.message import Message

import pytest
from fake_web import cut, good, raw, serving, status, without_proxies
from test_download import DATA, SHA256, Clock, left, run

from kpedge.core.errors import DownloadError, UsageError
from kpedge.data import transfer
from kpedge.data.transfer import _Redirects, ask, check_url


@pytest.fixture
def web(monkeypatch):
    without_proxies(monkeypatch)
    with serving() as server:
        yield server


@pytest.mark.parametrize(
    ("code", "words", "advice"),
    [
        (404, "answers HTTP 404 Not Found", "may have moved"),
        (410, "answers HTTP 410", "may have moved"),
        (403, "refuses .HTTP 403 Forbidden", "may need a login"),
        (401, "refuses .HTTP 401", "may need a login"),
        (407, "the proxy asks for a password", "https_proxy"),
        (501, "answers HTTP 501", ""),
        (304, "answers HTTP 304", ""),
        (204, "answers HTTP 204, which is no file", "in a browser"),
        (416, "answers HTTP 416", ""),
    ],
)
def test_a_refusal_is_told_at_once(web, tmp_path, code, words, advice):
    with pytest.raises(DownloadError, match=words) as caught:
        run(web.at("/f", status(code)), tmp_path)
    assert advice in caught.value.advice
    assert len(web.asked) == 1


def test_a_web_page_is_not_taken_for_the_file(web, tmp_path):
    page = raw(200, b"<html>log in</html>", Content_Type="text/html; charset=utf-8")
    with pytest.raises(DownloadError, match="a web page instead of the file") as caught:
        run(web.at("/f", page), tmp_path)
    assert "look at the address in a browser" in caught.value.advice


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_followed_with_the_range(web, tmp_path, code):
    place = web.at("/real file", good(DATA))
    web.steps["/real%20file"] = [cut(DATA, 1000), good(DATA)]
    url = web.at("/f", status(code, Location="/real file"))
    assert place.endswith("/real file")
    assert run(url, tmp_path).path.read_bytes() == DATA
    assert [path for path, _ in web.asked] == ["/f", "/real%20file"] * 2
    assert web.asked[3][1]["Range"] == "bytes=1000-"
    assert web.asked[3][1]["If-Range"] == '"one"'


@pytest.mark.parametrize(
    "place", ["file:///etc/passwd", "ftp://127.0.0.1/f", "data:,x", "gopher://x/", "http://u:p@x/"]
)
def test_redirects_off_the_web_are_refused(web, tmp_path, place):
    with pytest.raises(DownloadError, match="it redirects, and"):
        run(web.at("/f", status(302, Location=place)), tmp_path)
    assert left(tmp_path) == []


def test_redirects_end(web, tmp_path):
    with pytest.raises(DownloadError, match="redirects more than 5 times"):
        run(web.at("/f", status(302, Location="/f")), tmp_path)
    assert len(web.asked) == 6
    with pytest.raises(DownloadError, match="does not say where to"):
        run(web.at("/g", status(302)), tmp_path)


def test_https_never_becomes_http():
    headers = Message()
    headers["Location"] = "http://mirror.example/f"
    request = urllib.request.Request("https://data.example/f")
    with pytest.raises(DownloadError, match=r"from https to http://mirror\.example/f"):
        _Redirects().http_error_302(request, io.BytesIO(), 302, "", headers)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://host/f",
        "host/f",
        "http://",
        "http:///f",
        "http://host:99999/f",
        "http://host:x/f",
        "http://ho st/f",
        "http://host/a\r\nX: y",
        "http://[::1/f",
        "http://höst/f",
        "",
    ],
)
def test_addresses_that_are_none_are_refused(url, tmp_path):
    with pytest.raises(UsageError, match="address"):
        check_url(url)
    with pytest.raises(UsageError):
        run(url, tmp_path)


def test_a_password_in_the_address_is_refused_and_not_repeated():
    for url in ("http://me:secret@host/f", "http://secret@host/f", "http://:secret@host/f"):
        with pytest.raises(UsageError, match="carries a name or password") as caught:
            check_url(url)
        assert "secret" not in str(caught.value) + caught.value.advice


def test_a_server_that_is_not_there_is_told(web, tmp_path):
    with serving() as gone:
        url = gone.at("/f")
    with pytest.raises(DownloadError, match="cannot connect: Connection refused; given up after 2 tries"):
        run(url, tmp_path, patience=Clock().patience(tries=2))


def test_a_certificate_that_does_not_hold_is_told_at_once(tmp_path, monkeypatch):
    class Opener:
        asked = 0

        def open(self, *_, **__):
            self.asked += 1
            raise urllib.error.URLError(ssl.SSLCertVerificationError(1, "self-signed certificate"))

    opener = Opener()
    monkeypatch.setattr(transfer, "_opener", lambda: opener)
    with pytest.raises(DownloadError, match="the server's certificate does not hold: self-signed certificate"):
        run("https://data.example/f", tmp_path)
    assert opener.asked == 1


def test_the_proxy_of_the_environment_is_asked(web, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{web.port}")
    web.at("http://data.example/f", cut(DATA, 1000), good(DATA))  # a proxy is asked for the whole address
    assert run("http://data.example/f", tmp_path, checksum=SHA256).path.read_bytes() == DATA
    path, headers = web.asked[1]
    assert path == "http://data.example/f"
    assert headers["Proxy-Authorization"] == "Basic bWU6c2VjcmV0"
    assert headers["Range"] == "bytes=1000-"


def test_a_proxys_password_does_not_go_to_others(web, tmp_path, monkeypatch):
    with serving() as other:
        monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{web.port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        place = other.at("/f", good(DATA))
        web.at("http://data.example/f", status(302, Location=place))
        assert run("http://data.example/f", tmp_path).path.read_bytes() == DATA
        assert len(other.asked) == 1
        assert "Proxy-Authorization" not in other.asked[0][1]


def test_no_proxy_is_honoured_and_a_dead_proxy_named(web, tmp_path, monkeypatch):
    with serving() as gone:
        port = gone.port
    monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{port}")
    with pytest.raises(DownloadError, match=rf"cannot connect through the proxy 127\.0\.0\.1:{port}: ") as caught:
        run("http://data.example/f", tmp_path, patience=Clock().patience(tries=1))
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert run(web.at("/f", good(DATA)), tmp_path).path.read_bytes() == DATA


def test_https_goes_through_the_proxys_tunnel(web, tmp_path, monkeypatch):
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{web.port}")
    with pytest.raises(DownloadError, match=r"through the proxy 127.0.0.1:\d+: Tunnel connection failed: 501"):
        run("https://data.example/f", tmp_path, patience=Clock().patience(tries=1))  # the test's server has no CONNECT


def test_the_rest_is_asked_for_as_the_standard_says(web):
    url = web.at("/f", good(DATA))
    with ask(url, start=len(DATA) - 3, validator='"one"') as answer:
        assert (answer.start, answer.total, answer.end) == (len(DATA) - 3, len(DATA), len(DATA))
        assert b"".join(answer.blocks()) == DATA[-3:]
    with ask(url, start=len(DATA) + 7) as answer:
        assert not answer.satisfied
        assert answer.total == len(DATA)
