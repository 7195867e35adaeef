"""The preview in a real browser."""

import re
import threading
from dataclasses import replace

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
    page.wait_for_selector("#canvas[data-picture]")


def pixel(page, x, y):
    """Red, green and blue that the canvas shows at a place given in pixels of the frame."""
    script = """([x, y]) => {
        const canvas = document.getElementById("canvas");
        const zoom = canvas.width / 320;
        const place = [(x + 0.5) * zoom, (y + 0.5) * zoom].map(Math.floor);
        const copy = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
        copy.drawImage(canvas, ...place, 1, 1, 0, 0, 1, 1);
        return [...copy.getImageData(0, 0, 1, 1).data];
    }"""
    return np.array(page.evaluate(script, [x, y])[:3])


def close_to(colour, wanted):
    return np.abs(colour - np.array(wanted)).max() <= 12


def test_the_page_shows_picture_points_and_figures(page, camera):
    visit(page, camera)
    assert close_to(pixel(page, 20, 200), GROUND)
    colours = part_colours(FACES5)
    for index, (x, y) in enumerate(live_frame().faces[0].keypoints):
        blue, green, red = colours[FACES5.part_of(index)]
        assert close_to(pixel(page, x, y), (red, green, blue))
    assert close_to(pixel(page, 71.5, 50), (255, 255, 255)) or close_to(pixel(page, 80, 50), (255, 255, 255))
    page.wait_for_selector("#steps li:nth-child(3)")
    until(page, lambda: page.inner_text("#rate") == "30.0")
    assert page.inner_text("#faces") == "1"
    assert page.inner_text("#latency") == "6.10"
    assert page.locator("#steps li").all_inner_texts()[1].split() == ["keypoints", "4.10", "ms"]
    until(page, lambda: page.inner_text("#cpu") != "–")
    assert page.inner_text("#source") == "camera 0"
    assert page.title() == "camera 0 · kpedge"
    assert page.inner_text("#link") == "Live"
    assert page.locator("#legend span").all_inner_texts() == list(FACES5.parts)
    assert page.problems == []


def test_a_step_that_few_frames_take_keeps_its_row(page, camera):
    visit(page, camera)
    camera.controls.paused.set()
    page.wait_for_selector("body[data-link=paused]")
    for steps in ({"decode": 0.002, "detect": 0.008, "keypoints": 0.0041}, {"decode": 0.002, "keypoints": 0.0041}):
        for number in range(3):
            page.wait_for_timeout(150)  # the figures are written ten times a second
            camera.sink.show(replace(live_frame(number), steps=steps))
    until(page, lambda: len(page.locator("#steps li").all()) == 4)
    rows = [row.split()[0] for row in page.locator("#steps li").all_inner_texts()]
    assert rows == ["decode", "detect", "keypoints", "total"]
    assert page.problems == []


def test_frames_go_on_until_paused(page, camera):
    visit(page, camera)
    shown = page.get_attribute("#canvas", "data-picture")
    until(page, lambda: int(page.get_attribute("#canvas", "data-picture")) > int(shown) + 5)
    page.click("#pause")
    until(page, camera.controls.paused.is_set)
    page.wait_for_selector("body[data-link=paused]")
    assert page.inner_text("#pause span") == "Resume"
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Space")
    until(page, lambda: not camera.controls.paused.is_set())
    page.wait_for_selector("body[data-link=live]")
    assert page.problems == []


def test_a_page_opened_while_paused_shows_the_last_frame(page, camera):
    until(page, lambda: camera.sink.hub.newest > 2)
    camera.controls.paused.set()
    page.goto(camera.sink.url)
    page.wait_for_selector("body[data-link=paused]")
    page.wait_for_selector("#canvas[data-picture]")
    assert close_to(pixel(page, 20, 200), GROUND)
    page.reload()
    page.wait_for_selector("#canvas[data-picture]")
    assert page.problems == []


def test_the_slider_and_keys_set_the_threshold(page, camera):
    visit(page, camera)
    page.get_by_label("Face threshold").fill("0.8")
    until(page, lambda: camera.controls.threshold == 0.8)
    assert page.inner_text("#threshold-value") == "0.80"
    page.keyboard.press("]")
    until(page, lambda: camera.controls.threshold == 0.85)
    camera.controls.threshold = 0.25  # somebody else does
    until(page, lambda: page.inner_text("#threshold-value") == "0.25")
    assert page.input_value("#threshold") == "0.25"
    assert page.problems == []


def test_layers_are_switched(page, camera):
    visit(page, camera)
    x, y = live_frame().faces[0].keypoints[2]
    point = pixel(page, x, y)
    assert not close_to(point, GROUND)
    button = page.get_by_role("button", name="Points")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    until(page, lambda: close_to(pixel(page, x, y), GROUND))
    until(page, lambda: camera.controls.layers == Layers(points=False))
    page.keyboard.press("p")
    until(page, lambda: close_to(pixel(page, x, y), point))
    page.keyboard.press("m")
    until(page, lambda: close_to(pixel(page, 319 - x, y), point))
    assert close_to(pixel(page, x, y), GROUND)
    until(page, lambda: camera.controls.layers == Layers(mirror=True))
    page.keyboard.press("o")  # the head is upright: its axis upwards starts at the nose
    until(page, lambda: close_to(pixel(page, 319 - x, y - 20), (90, 230, 90)))
    camera.controls.layers = Layers(boxes=False)  # somebody else, at the window
    page.wait_for_selector("[data-layer=boxes][aria-pressed=false]")
    assert page.problems == []


def test_a_snapshot_is_asked_for(page, camera):
    visit(page, camera)
    page.click("#snapshot")
    until(page, camera.controls.snapshot.is_set)
    camera.controls.snapshot.clear()  # whoever saves it
    until(page, lambda: page.inner_text("#toast") == "Snapshot saved")
    assert page.inner_text("#snapshot span") == "Snapshot"
    assert page.problems == []


def test_the_page_finds_a_server_that_was_started_again(page, camera):
    visit(page, camera)
    camera.close()
    page.wait_for_selector("body[data-link=lost]")
    assert "trying again" in page.inner_text("#notice")
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
    box = page.locator("#canvas").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    assert box["width"] / box["height"] == pytest.approx(4 / 3, rel=0.02)
    for name in ("Pause", "Snapshot", "Boxes", "Points", "Mirror"):
        button = page.get_by_role("button", name=name).bounding_box()
        assert button["x"] + button["width"] <= width
        assert button["height"] >= 36
