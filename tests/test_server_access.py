import json
import re

import pytest
from test_server import ask, new_controls, port_of, post, serving, streaming

from kpedge.core.errors import UsageError
from kpedge.core.keypoints import FACES5
from kpedge.runtime.server.address import parse_address
from kpedge.runtime.server.server import ServeSink

TOKEN = "a-token-of-the-test"


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Origin": "http://{host}", "Sec_Fetch_Site": "same-origin"}, True),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://127.0.0.1:1"}, False),
        ({"Sec_Fetch_Site": "cross-site"}, False),
        ({"Sec_Fetch_Site": "same-site"}, False),
    ],
)
def test_another_sites_page_may_not_control(headers, allowed):
    with serving() as (sink, controls):
        host = f"127.0.0.1:{port_of(sink)}"
        given = {name: value.format(host=host) for name, value in headers.items()}
        assert post(sink, {"paused": True}, **given)[0] == (200 if allowed else 403)
        assert controls.paused.is_set() is allowed


def test_on_loopback_only_this_machines_names_are_answered():
    with serving() as (sink, _):
        for host in ("localhost", "localhost:9999", "127.0.0.1", "[::1]:8000", "LOCALHOST"):
            assert ask(sink, "/state", Host=host)[0] == 200
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "[::1", "10.0.0.1"):
            status, _, content = ask(sink, "/state", Host=host)
            assert status == 403
            assert "localhost only" in json.loads(content)["error"]


ROUTES = ("/", "/page.js", "/state", "/events", "/frames/1.jpg", "/stream.mjpg", "/nothing")


def test_with_a_token_every_route_asks_for_it():
    with serving(token=TOKEN) as (sink, controls):
        assert sink.url.endswith(f"/?token={TOKEN}")
        for path in ROUTES:
            status, headers, content = ask(sink, path)
            assert status == 401
            assert "Set-Cookie" not in headers
            assert "open the address that kpedge printed" in json.loads(content)["error"]
            assert ask(sink, f"{path}?token={TOKEN}x")[0] == 401
            assert ask(sink, path, Cookie=f"kpedge-{port_of(sink)}={TOKEN}")[0] == 401
        assert post(sink, {"paused": True})[0] == 401
        assert post(sink, {"paused": True}, Authorization=f"Bearer {TOKEN[:-1]}")[0] == 401
        status, _, _ = ask(
            sink, f"/control?token={TOKEN}", "POST", b'{"paused": true}', Content_Type="application/json"
        )
        assert status == 401  # an address alone never changes anything
        assert not controls.paused.is_set()
        assert post(sink, {"paused": True}, Authorization=f"bearer {TOKEN}")[0] == 200
        assert controls.paused.is_set()


def test_the_token_in_the_address_becomes_a_cookie():
    with serving(token=TOKEN) as (sink, controls):
        status, headers, page = ask(sink, f"/?token={TOKEN}")
        assert (status, b"<canvas" in page) == (200, True)
        cookie, *rules = headers["Set-Cookie"].split("; ")
        assert {"HttpOnly", "SameSite=Strict"} <= set(rules)
        assert TOKEN not in cookie
        assert ask(sink, "/page.js", Cookie=cookie)[0] == 200
        assert post(sink, {"paused": True}, Cookie=f"other=1; {cookie}")[0] == 200
        assert controls.paused.is_set()
        assert ask(sink, "/state", Cookie=cookie, Host="evil.example")[0] == 403
        with streaming(sink, f"/stream.mjpg?token={TOKEN}"):  # players send no cookie
            pass


def test_any_other_address_has_a_token():
    said = []
    with serving("0.0.0.0:0", say=said.append) as (sink, _):
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
