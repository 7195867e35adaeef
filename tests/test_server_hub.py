import asyncio
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from test_server import live_frame, new_controls

from kpedge.core.errors import UsageError
from kpedge.runtime.server import hub as hubs
from kpedge.runtime.server.address import Address, parse_address, reachable_host
from kpedge.runtime.server.hub import Hub, TooManyViewersError
from kpedge.runtime.server.picture import CpuMeter, shrink

PATIENCE = 30


class Encoder:
    """Counts what it encodes, and waits where it is told to."""

    def __init__(self):
        self.numbers = []
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Event()

    def __call__(self, live, *, drawn):
        self.begun.set()
        assert self.go.wait(PATIENCE)
        self.numbers.append(live.frame.number)
        return b"jpeg", (1, 1)


def in_loop(scenario, **options):
    """Run a scenario that takes a hub and its encoder, in the hub's event loop."""
    encoder = Encoder()
    hub = Hub(new_controls(), encode=encoder, **options)

    async def serve():
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        await asyncio.wait_for(scenario(hub, encoder), PATIENCE)

    asyncio.run(hub.run(serve))


def test_a_viewer_takes_the_newest_frame_and_none_is_encoded_before():
    async def scenario(hub, encoder):
        for number in range(50):
            hub.publish(live_frame(number))
        await asyncio.sleep(0)
        assert encoder.numbers == []
        viewer = hub.join()
        assert (await viewer.wait()).number == 50
        for number in range(50, 90):
            hub.publish(live_frame(number))
        assert (await viewer.wait()).number == 90
        assert encoder.numbers == [49, 89]
        hub.leave(viewer)
        for number in range(5):
            hub.publish(live_frame(number))
        await asyncio.sleep(0)
        assert encoder.numbers == [49, 89]

    in_loop(scenario)


def test_a_frame_is_encoded_once_for_twenty_viewers():
    async def scenario(hub, encoder):
        viewers = [hub.join() for _ in range(20)]
        waiting = [asyncio.ensure_future(viewer.wait()) for viewer in viewers]
        await asyncio.sleep(0)
        hub.publish(live_frame(7))
        pictures = await asyncio.gather(*waiting)
        assert len({id(picture) for picture in pictures}) == 1
        assert encoder.numbers == [7]
        late = hub.join()
        assert await late.wait() is pictures[0]

    in_loop(scenario)


def test_publishing_goes_on_while_a_picture_is_encoded_and_a_viewer_is_slow():
    async def scenario(hub, encoder):
        quick, slow = hub.join(), hub.join()
        encoder.go.clear()
        hub.publish(live_frame(0))
        waiting = asyncio.ensure_future(quick.wait())
        while not encoder.begun.is_set():
            await asyncio.sleep(0.001)
        for number in range(1, 201):  # would never end if it waited for the encoder
            hub.publish(live_frame(number))
        encoder.go.set()
        assert (await waiting).number == 1
        assert (await quick.wait()).number == 201
        assert (await slow.wait()).number == 201
        assert encoder.numbers == [0, 200]

    in_loop(scenario)


def test_a_viewer_who_leaves_does_not_take_the_picture_from_the_others():
    async def scenario(hub, encoder):
        stays, goes = hub.join(), hub.join()
        encoder.go.clear()
        hub.publish(live_frame(0))
        waiting = [asyncio.ensure_future(viewer.wait()) for viewer in (goes, stays)]
        while not encoder.begun.is_set():
            await asyncio.sleep(0.001)
        waiting[0].cancel()
        await asyncio.wait([waiting[0]])
        hub.leave(goes)
        encoder.go.set()
        assert (await waiting[1]).number == 1

    in_loop(scenario)


def test_a_browser_that_fetches_no_picture_is_sent_no_more_events():
    async def scenario(hub, encoder):
        viewer = hub.join(name="tab")
        for number in range(hubs.IN_FLIGHT):
            hub.publish(live_frame(number))
            assert (await viewer.wait()).number == number + 1
        hub.publish(live_frame(9))
        assert await viewer.wait() is None
        assert hub.picture(2, "tab").number == 2
        assert (await viewer.wait()).number == hubs.IN_FLIGHT + 1

    in_loop(scenario)


def test_all_viewers_together_have_a_budget():
    async def scenario(hub, encoder):
        viewer = hub.join()
        for number in range(2):
            hub.publish(live_frame(number))
            assert await viewer.wait()
        hub.publish(live_frame(2))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(viewer.wait(), 0.2)
        assert encoder.numbers == [0, 1]

    in_loop(scenario, budget=1e-3)


def test_pictures_are_let_go_of_when_nobody_watches_and_made_again_for_the_next():
    async def scenario(hub, encoder):
        hub.publish(live_frame(5))
        for _ in range(2):
            viewer = hub.join()
            number = (await viewer.wait()).number
            assert hub.picture(number).jpeg == b"jpeg"
            hub.leave(viewer)
            hub.leave(viewer)
            assert hub.picture(number) is None
        assert encoder.numbers == [5, 5]

    in_loop(scenario)


def test_only_the_last_pictures_are_kept():
    async def scenario(hub, encoder):
        viewer = hub.join()
        for number in range(hubs.KEPT + 3):
            hub.publish(live_frame(number))
            await viewer.wait()
        assert hub.picture(3) is None
        assert hub.picture(4).number == 4

    in_loop(scenario, budget=1e9)


def test_there_is_a_limit_of_viewers():
    async def scenario(hub, encoder):
        first = hub.join()
        hub.join()
        with pytest.raises(TooManyViewersError):
            hub.join()
        hub.leave(first)
        hub.join()

    in_loop(scenario, limit=2)


def test_a_picture_that_cannot_be_encoded_is_an_error_once_and_not_the_end():
    async def scenario(hub, encoder):
        viewer = hub.join()
        encoder.numbers = None
        hub.publish(live_frame(0))
        with pytest.raises(AttributeError):
            await viewer.wait()
        encoder.numbers = []
        hub.publish(live_frame(1))
        assert (await viewer.wait()).number == 2

    in_loop(scenario)


def test_the_processor_is_measured_over_whole_intervals():
    times, used = iter([0.0, 0.5, 2.0, 2.4, 3.0]), iter([10.0, 10.4, 11.0, 11.1, 11.2])
    meter = CpuMeter(clock=lambda: next(times), used=lambda: next(used))
    assert [meter.percent() for _ in range(4)] == [None, 50.0, 50.0, 20.0]


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((320, 240), (320, 240)), ((1280, 720), (960, 540)), ((5, 4000), (1, 960)), ((1921, 1081), (960, 540))],
)
def test_large_pictures_are_shrunk(size, wanted):
    image = np.zeros((size[1], size[0], 3), np.uint8)
    assert shrink(image).shape[1::-1] == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("8080", Address("127.0.0.1", 8080)),
        (":8080", Address("127.0.0.1", 8080)),
        ("0", Address("127.0.0.1", 0)),
        ("0.0.0.0:80", Address("0.0.0.0", 80)),
        ("board-1.local:65535", Address("board-1.local", 65535)),
        ("[::1]:8000", Address("::1", 8000)),
    ],
)
def test_addresses(text, wanted):
    assert parse_address(text) == wanted


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the port is missing"),
        ("localhost", "the port is missing"),
        ("localhost:", "the port is missing"),
        ("localhost:http", "'http' is no port"),
        ("localhost:-1", "'-1' is no port"),
        ("localhost:٣", "is no port"),
        ("65536", "a port is from 0 to 65535"),
        ("::1:8000", "stands in brackets"),
        ("[::z]:8000", "is no IPv6 address"),
        ("http://a:80", "stands in brackets"),
        ("a b:80", "'a b' is no host"),
    ],
)
def test_wrong_addresses_are_explained(text, why):
    with pytest.raises(UsageError, match=re.escape(why)) as caught:
        parse_address(text)
    assert "127.0.0.1:8000" in caught.value.advice


def test_loopback_is_known():
    here = ["127.0.0.1", "127.8.8.8", "::1", "localhost"]
    assert [
        host for host in [*here, "0.0.0.0", "::", "10.0.0.1", "localhost.evil.example"] if Address(host).loopback
    ] == here
    assert str(Address("::1", 5)) == "[::1]:5"
    assert reachable_host("::1") == "[::1]"
    assert reachable_host("0.0.0.0") != "0.0.0.0"
