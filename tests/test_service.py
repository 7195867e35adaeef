"""`kpedge serve`: what a request gets, what is refused, and a stop that loses nothing."""

import asyncio
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from conftest import SAMPLE

from kpedge.cli.main import main
from kpedge.runtime.pipeline import FacePipeline
from kpedge.runtime.service.limits import Limits, RateLimit

pytest.importorskip("starlette")
import uvicorn
from starlette.testclient import TestClient

from kpedge.runtime.service import connections
from kpedge.runtime.service.app import FaceService

PHOTO = SAMPLE / "eileen_collins.jpg"


@pytest.fixture(scope="module")
def client():
    limits = Limits(max_bytes=200_000, max_pixels=600_000, rate=0)
    with TestClient(FaceService(FacePipeline, limits).app) as client:
        yield client


@pytest.mark.parametrize("flags", [(), ("pose", "names"), ("features",)], ids=str)
def test_a_photo_gets_the_document_of_predict(client, capsys, flags):
    assert main(["predict", str(PHOTO), "--json", *(f"--{flag}" for flag in flags)]) == 0
    expected = json.loads(capsys.readouterr().out)
    parameters = dict.fromkeys(flags, "true")
    as_body = client.post("/v1/predict", content=PHOTO.read_bytes(), params={**parameters, "name": str(PHOTO)})
    as_form = client.post("/v1/predict", files={"photo": (str(PHOTO), PHOTO.read_bytes())}, params=parameters)
    assert as_body.json() == as_form.json() == expected


async def post(app, messages, address="a"):
    """The status of a request whose body arrives as `messages`; after the last one nothing comes any more."""
    scope = {"type": "http", "method": "POST", "path": "/v1/predict", "query_string": b"", "headers": []}
    arriving, sent = list(messages), []

    async def receive():
        return arriving.pop(0) if arriving else await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    await app(scope | {"client": (address, 1)}, receive, send)
    return sent[0]["status"]


HALF = {"type": "http.request", "body": b"half", "more_body": True}


def test_a_client_that_leaves_in_the_middle_of_its_photo_is_no_internal_error(client):
    assert asyncio.run(post(client.app, [HALF, {"type": "http.disconnect"}])) == 400


def test_slow_clients_of_one_address_leave_places_to_others(client):
    async def run():
        slow = [asyncio.ensure_future(post(client.app, [HALF])) for _ in range(40)]
        await asyncio.sleep(0)
        await asyncio.wait(slow, return_when=asyncio.FIRST_COMPLETED)
        assert {task.result() for task in slow if task.done()} == {503}
        whole = {"type": "http.request", "body": PHOTO.read_bytes()}
        statuses = [await post(client.app, [whole], address) for address in "ab"]
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        return [*statuses, await post(client.app, [whole])]

    assert asyncio.run(run()) == [503, 200, 200]


def large_png():
    return cv2.imencode(".png", np.zeros((1000, 1000, 3), np.uint8))[1].tobytes()


@pytest.mark.parametrize(
    ("request_of", "status"),
    [
        ({"content": b""}, 400),
        ({"data": {"photo": "no file"}, "files": {}}, 422),
        ({"content": b"--x--", "headers": {"content-type": "multipart/form-data; boundary=x"}}, 400),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400),
        ({"content": b"not an image"}, 422),
        ({"content": PHOTO.read_bytes()[:9000]}, 422),
        ({"content": bytes(200_001)}, 413),
        ({"content": iter([bytes(150_000)] * 2)}, 413),  # chunked: its length is not known before
        ({"files": {"photo": bytes(200_001)}}, 413),
        ({"content": b"x", "headers": {"content-type": "Multipart/Form-Data"}}, 400),
        ({"content": large_png()}, 413),
        ({"content": b"x", "params": {"pose": "maybe"}}, 400),
    ],
)
def test_a_bad_request_is_one_line_of_json(client, request_of, status):
    response = client.post("/v1/predict", **request_of)
    assert response.status_code == status
    assert "\n" not in response.json()["error"]
    assert "OPENCV" not in response.text, "only who started the service can set that"
    assert client.post("/v1/predict", content=PHOTO.read_bytes()).status_code == 200, "it goes on"


def test_other_paths_and_methods_are_errors_in_json(client):
    assert client.get("/nothing").status_code == 404
    for path, method, allowed, advice in (
        ("/v1/predict?pose=1", "GET", "POST", "curl --data-binary @photo.jpg http://testserver/v1/predict"),
        ("/healthz", "POST", "GET", "use"),
    ):
        refused = client.request(method, path)
        assert refused.status_code == 405
        assert allowed in refused.headers["Allow"]
        assert method in refused.json()["error"]
        assert advice in refused.json()["advice"]
    assert "error" in client.get("/nothing").json()


def test_health_metrics_and_documentation(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    client.post("/v1/predict", content=b"x")
    assert re.search(r'^kpedge_requests_total\{status="422"\} [1-9]', client.get("/metrics").text, re.MULTILINE)
    document = client.get("/openapi.json").json()
    assert {path for path in document["paths"] if client.get(path).status_code == 404} == set()
    assert "/openapi.json" in client.get("/").text


def test_requests_beyond_the_queue_are_told_to_come_back():
    started, go = threading.Event(), threading.Event()

    class Slow(FacePipeline):
        def __call__(self, image):
            started.set()
            go.wait(30)
            return super().__call__(image)

    service = FaceService(Slow, Limits(queue=1))
    with TestClient(service.app) as client, ThreadPoolExecutor(1) as threads:
        first = threads.submit(client.post, "/v1/predict", content=PHOTO.read_bytes())
        assert started.wait(30)
        second = client.post("/v1/predict", content=PHOTO.read_bytes())
        go.set()
        assert (second.status_code, int(second.headers["retry-after"])) == (503, 1)
        assert first.result().status_code == 200


def test_requests_that_wait_are_left_out_when_the_client_goes_or_the_service_stops():
    """Two wait behind one that is computed: the client of the first goes, then the service stops."""

    async def scenario():
        started, go, gone, runs = asyncio.Event(), threading.Event(), asyncio.Event(), []
        loop = asyncio.get_running_loop()

        class Slow(FacePipeline):
            def __call__(self, image):
                runs.append(image.shape)
                loop.call_soon_threadsafe(started.set)
                go.wait(30)
                return super().__call__(image)

        service = FaceService(Slow, Limits(rate=0))

        async def post(leaves):
            messages, statuses = [{"type": "http.request", "body": PHOTO.read_bytes()}], []

            async def receive():
                if messages:
                    return messages.pop()
                await (gone if leaves else asyncio.Event()).wait()
                return {"type": "http.disconnect"}

            async def send(message):
                statuses.append(message.get("status"))

            scope = {"type": "http", "method": "POST", "path": "/v1/predict", "query_string": b"", "headers": []}
            await service.app(scope, receive, send)
            return statuses[0]

        first = asyncio.create_task(post(False))
        await started.wait()
        waiting = [asyncio.create_task(post(leaves)) for leaves in (True, False)]
        gone.set()
        service.refuse_waiting()
        go.set()
        return await asyncio.gather(first, *waiting), len(runs)

    assert asyncio.run(asyncio.wait_for(scenario(), 120)) == ([200, 499, 503], 1)


@contextlib.contextmanager
def served(**config):
    """A server of `Connection`s that answers everything with 200; its address."""

    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, http=connections.Connection, ws="none", lifespan="off", **config))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            server.should_exit = True
            thread.join()


@pytest.mark.parametrize("sent", [b"", b"POST /v1/predict HTTP/1.1\r\nX-Slow: "])
def test_connections_without_a_request_lock_nobody_out(sent):
    with served(limit_concurrency=4) as address, contextlib.ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(address, timeout=60)) for _ in range(6)]
        for one in idle:
            with contextlib.suppress(OSError):  # it was closed already
                one.sendall(sent)
        client = http.client.HTTPConnection(*address, timeout=60)
        for _ in range(3):
            client.request("GET", "/")
            assert client.getresponse().read() == b""
        client.close()
        with contextlib.suppress(ConnectionResetError):
            assert idle[0].recv(1) == b"", "the oldest had to go"


def test_a_connection_on_which_no_request_arrives_is_closed(monkeypatch):
    monkeypatch.setattr(connections, "HEAD_S", 0.05)
    with served() as address, socket.create_connection(address, timeout=60) as idle:
        assert idle.recv(1) == b""
        client = http.client.HTTPConnection(*address, timeout=60)
        client.request("GET", "/")
        assert client.getresponse().status == 200
        client.close()


def test_an_address_has_its_own_rate():
    now = [0.0]
    limit = RateLimit(2, lambda: now[0])
    assert [limit.wait_s("a") > 0 for _ in range(3)] == [False, False, True]
    assert not limit.wait_s("b")
    now[0] = 0.5
    assert [limit.wait_s("a") > 0 for _ in range(2)] == [False, True]
    with TestClient(FaceService(FacePipeline, Limits(rate=1e-3)).app) as client:
        statuses = [client.post("/v1/predict", content=PHOTO.read_bytes()).status_code for _ in range(2)]
    assert statuses == [200, 429]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="SIGTERM is POSIX's")
def test_a_stop_waits_for_the_request_in_flight():
    process = subprocess.Popen(
        [sys.executable, "-m", "kpedge", "serve", "--port", "0"], stderr=subprocess.PIPE, text=True
    )
    try:
        address = re.search(r"http://([\d.:]+)/", process.stderr.readline())[1]
        data = PHOTO.read_bytes()
        connection = http.client.HTTPConnection(address, timeout=60)
        connection.putrequest("POST", "/v1/predict")
        connection.putheader("Content-Length", str(len(data)))
        connection.putheader("Expect", "100-continue")  # its answer says that the request is in flight
        connection.endheaders()
        assert b"100" in connection.sock.recv(100)
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(OSError):  # refused: it has stopped listening
            for _ in range(1000):
                socket.create_connection(address.split(":"), timeout=1).close()
                threading.Event().wait(0.05)
        connection.send(data)
        assert len(json.load(connection.getresponse())["faces"]) == 1
        connection.close()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.stderr.close()
        process.wait()
