"""The preview in a real browser."""

import re
import threading

import numpy as np
import pytest
from real_browser import PATIENCE, needs_chromium, until
from test_server import live_frame, new_controls

from kpedge.core.drawing import part_colours
from kpedge.core.keypoints import FACES5
from kpedge.runtime.overlay import Layers
from kpedge.runtime.server.address import Address
from kpedge.runtime.server.server import ServeSink

pytestmark = needs_chromium
GROUND = (140, 90, 40)
"""Red-green-blue of the frames."""


class Camera:
    """A server, and a pipeline that feeds it until it is closed."""

    def __init__(self, port=0, token=None):
        self.controls = new_controls()
        self.sink = ServeSink(Address(port=port), self.controls, FACES5, token=token)
        self.port = int(re.search(r":(\d+)/", self.sink.url)[1])
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._feed)
        self._thread.start()

    def _feed(self):
        number = 0
        while not self._closing.wait(0.03):
            if not self.controls.paused.is_set():
                self.sink.show(live_frame(number))
                number += 1

    def close(self):
        self._closing.set()
        self._thread.join()
        self.sink.close()


@pytest.fixture
def camera():
    camera = Camera()
    yield camera
    camera.close()


@pytest.fixture
def page(chromium):
    context = chromium.new_context(viewport={"width": 1280, "height": 720})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.problems = []
    page.on("console", lambda message: page.problems.append(message.text) if message.type != "log" else None)
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    yield page
    context.close()


def visit(page, camera):
    page.goto(camera.sink.url)
    page.wait_for_selector("body[data-link=live]")
    until(page, lambda: page.evaluate("document.getElementById('image').naturalWidth"))


def pixel(page, x, y):
    """Red, green and blue of the shown image at a place given in pixels of the frame."""
    script = """([x, y]) => {
        const copy = new OffscreenCanvas(320, 240).getContext("2d");
        copy.drawImage(document.getElementById("image"), 0, 0);
        return [...copy.getImageData(Math.round(x), Math.round(y), 1, 1).data];
    }"""
    return np.array(page.evaluate(script, [x, y])[:3])


def close_to(colour, wanted):
    return np.abs(colour - np.array(wanted)).max() <= 12


def frames(page):
    return int(page.get_attribute("body", "data-frame"))


def test_the_page_shows_image_points_and_figures(page, camera):
    visit(page, camera)
    assert close_to(pixel(page, 20, 200), GROUND)
    x, y = live_frame().faces[0].keypoints[2]
    blue, green, red = part_colours(FACES5)[FACES5.part_of(2)]
    assert np.abs(pixel(page, x, y) - (red, green, blue)).max() < 40  # as JPEG has it
    until(page, lambda: page.inner_text("#rate") == "30.0")
    assert page.inner_text("#faces") == "1"
    assert page.inner_text("#latency") == "6.10"
    assert page.locator("#steps td").all_inner_texts() == ["decode", "2.00 ms", "keypoints", "4.10 ms"]
    until(page, lambda: page.inner_text("#cpu") != "–")
    assert page.inner_text("#source") == "camera 0"
    assert page.title() == "camera 0 · kpedge"
    assert page.inner_text("#link") == "Live"
    assert page.problems == []


def test_frames_arrive_until_paused_and_a_page_opened_then_shows_the_last(page, camera):
    visit(page, camera)
    first = frames(page)
    until(page, lambda: frames(page) > first + 5)
    page.click("#pause")
    until(page, camera.controls.paused.is_set)
    page.wait_for_selector("body[data-link=paused]")
    assert page.inner_text("#pause span") == "Resume"
    page.reload()
    page.wait_for_selector("body[data-link=paused]")
    until(page, lambda: close_to(pixel(page, 20, 200), GROUND))
    page.keyboard.press("Space")
    until(page, lambda: not camera.controls.paused.is_set())
    page.wait_for_selector("body[data-link=live]")
    assert page.problems == []


def test_slider_layers_and_snapshot(page, camera):
    visit(page, camera)
    page.get_by_label("Face threshold").fill("0.8")
    until(page, lambda: camera.controls.threshold == 0.8)
    page.keyboard.press("]")
    until(page, lambda: camera.controls.threshold == 0.85)
    camera.controls.threshold = 0.25  # somebody else does
    until(page, lambda: page.inner_text("#threshold-value") == "0.25")
    assert page.input_value("#threshold") == "0.25"
    x, y = live_frame().faces[0].keypoints[2]
    page.get_by_role("button", name="Points").click()
    until(page, lambda: camera.controls.layers == Layers(points=False))
    until(page, lambda: close_to(pixel(page, x, y), GROUND))
    page.keyboard.press("p")
    until(page, lambda: not close_to(pixel(page, x, y), GROUND))
    page.keyboard.press("m")
    until(page, lambda: camera.controls.layers == Layers(mirror=True))
    camera.controls.layers = Layers(boxes=False)  # somebody else, at the window
    page.wait_for_selector("[data-layer=boxes][aria-pressed=false]")
    page.click("#snapshot")
    until(page, camera.controls.snapshot.is_set)
    until(page, lambda: page.inner_text("#snapshot span") == "Saving…")
    camera.controls.snapshot.clear()  # whoever saves it
    until(page, lambda: page.inner_text("#snapshot span") == "Snapshot")
    assert page.problems == []


def test_the_page_finds_a_server_that_was_started_again(page, camera):
    visit(page, camera)
    camera.close()
    page.wait_for_selector("body[data-link=lost]")
    assert page.is_disabled("#pause")
    again = Camera(camera.port)
    try:
        page.wait_for_selector("body[data-link=live]")
        assert page.is_enabled("#pause")
        page.click("#pause")
        until(page, again.controls.paused.is_set)
    finally:
        again.close()


def test_the_token_leaves_the_address(page):
    camera = Camera(token="a-token-of-the-test")
    try:
        visit(page, camera)
        assert page.url == f"http://127.0.0.1:{camera.port}/"
        page.click("#pause")
        until(page, camera.controls.paused.is_set)
        page.reload()  # the cookie is enough
        page.wait_for_selector("body[data-link=paused]")
        assert page.problems == []
    finally:
        camera.close()


@pytest.mark.parametrize("width", [360, 768, 1024])
def test_a_narrow_page_fits_its_width(page, camera, width):
    page.set_viewport_size({"width": width, "height": 740})
    visit(page, camera)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator(".frame").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    for name in ("Pause", "Snapshot", "Boxes", "Points", "Mirror"):
        button = page.get_by_role("button", name=name).bounding_box()
        assert button["x"] + button["width"] <= width
        assert button["height"] >= 36
