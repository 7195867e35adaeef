import json
import re

import pytest
from test_server import TOKEN, ask, new_controls, port_of, post, serving, streaming

from kpedge.core.errors import UsageError
from kpedge.core.keypoints import FACES5
from kpedge.runtime.server.access import VARIABLE, find_token
from kpedge.runtime.server.address import parse_address
from kpedge.runtime.server.server import ServeSink


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Origin": "http://{host}", "Sec_Fetch_Site": "same-origin"}, True),
        ({"Sec_Fetch_Site": "none"}, True),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://127.0.0.1:1"}, False),
        ({"Sec_Fetch_Site": "cross-site"}, False),
        ({"Sec_Fetch_Site": "same-site"}, False),
    ],
)
def test_pages_of_other_sites_may_neither_control_nor_take_a_place(headers, allowed):
    with serving() as (sink, controls):
        given = {name: value.format(host=f"127.0.0.1:{port_of(sink)}") for name, value in headers.items()}
        assert post(sink, {"paused": True}, **given)[0] == (200 if allowed else 403)
        assert controls.paused.is_set() is allowed
        if "Sec_Fetch_Site" in headers:
            for path in ("/", "/state", "/page.js"):
                assert ask(sink, path, **given)[0] == (200 if allowed else 403)
            assert ask(sink, "/stream.mjpg", "HEAD", **given)[0] == (200 if allowed else 403)
            assert ask(sink, "/", Sec_Fetch_Dest="document", **given)[0] == 200  # a link may open the page
            assert (ask(sink, "/state", Sec_Fetch_Dest="document", **given)[0] == 200) is allowed


def test_on_loopback_only_this_machines_names_are_answered():
    with serving() as (sink, _):
        for host in ("localhost", "localhost:9999", "127.0.0.1", "[::1]:8000", "LOCALHOST"):
            assert ask(sink, "/state", Host=host)[0] == 200
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "[::1", "10.0.0.1"):
            assert ask(sink, "/state", Host=host)[0] == 403


ROUTES = ("/", "/page.js", "/state", "/events", "/stream.mjpg", "/nothing")


def test_with_a_token_every_route_asks_for_it():
    with serving(token=TOKEN) as (sink, controls):
        assert sink.url.endswith(f"/?token={TOKEN}")
        for path in ROUTES:
            status, headers, content = ask(sink, path)
            assert status == 401
            assert "Set-Cookie" not in headers
            assert "token" in json.loads(content)["error"]
            assert ask(sink, f"{path}?token={TOKEN}x")[0] == 401
            assert ask(sink, path, Cookie=f"kpedge-{port_of(sink)}={TOKEN}")[0] == 401
        assert post(sink, {"paused": True})[0] == 401
        assert post(sink, {"paused": True}, Authorization=f"Bearer {TOKEN[:-1]}")[0] == 401
        kind = {"Content_Type": "application/json"}
        assert ask(sink, f"/control?token={TOKEN}", "POST", b'{"paused": true}', **kind)[0] == 401
        assert not controls.paused.is_set()  # an address alone never changes anything
        assert post(sink, {"paused": True}, Authorization=f"bearer {TOKEN}")[0] == 200
        assert controls.paused.is_set()


def test_the_token_in_the_address_becomes_a_cookie():
    with serving(token=TOKEN) as (sink, _):
        status, headers, page = ask(sink, f"/?token={TOKEN}")
        assert (status, b"stream" in page) == (200, True)
        cookie, *rules = headers["Set-Cookie"].split("; ")
        assert {"HttpOnly", "SameSite=Strict"} <= set(rules)
        assert TOKEN not in cookie
        assert ask(sink, "/page.js", Cookie=cookie)[0] == 200
        assert post(sink, {"paused": True}, Cookie=f"other=1; {cookie}")[0] == 200
        assert ask(sink, "/state", Cookie=cookie, Host="evil.example")[0] == 403
        assert ask(sink, "/stream.mjpg", "HEAD", Cookie=cookie, Sec_Fetch_Site="cross-site")[0] == 403
        with streaming(sink, f"/stream.mjpg?token={TOKEN}"):  # players send no cookie
            pass


def test_any_address_but_loopback_has_a_token():
    said = []
    with serving("0.0.0.0:0", notify=said.append) as (sink, _):
        token = re.search(r"\?token=([\w-]{20,})$", sink.url)[1]
        assert said == [f"preview: {sink.url}"]
        assert ask(sink, "/state")[0] == 401
        assert ask(sink, "/state", Authorization=f"Bearer {token}", Host="board.local")[0] == 200
        with serving("0.0.0.0:0") as (other, _):
            assert token not in other.url


@pytest.mark.parametrize("token", ["", "short", "with spaces in it", "q?a=b&c=defgh", "x" * 129])
def test_a_bad_token_is_refused(token):
    with pytest.raises(UsageError, match="8 to 128"):
        ServeSink(parse_address("0"), new_controls(), FACES5, token=token)


def test_a_token_can_stay_out_of_the_list_of_processes(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert find_token(None, None) is None
    assert find_token(None, file) == TOKEN
    monkeypatch.setenv(VARIABLE, "another-token")
    assert find_token(None, None) == "another-token"
    assert find_token(None, file) == TOKEN
    assert find_token("mine-mine", None) == "mine-mine"
    for token, path in (("mine-mine", file), (None, tmp_path / "none"), (None, tmp_path)):
        with pytest.raises(UsageError):
            find_token(token, path)
