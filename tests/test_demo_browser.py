"""The page of `kpedge demo` in a real browser, opened as a file that somebody was sent."""

import re
import shutil

import pytest
from real_browser import PATIENCE, needs_chromium, until

pytestmark = needs_chromium


@pytest.fixture
def opened(chromium, small_demo, tmp_path):
    """Opens the page, and gives it with what it asked for and complained about."""
    contexts = []
    alone = tmp_path / "mailed.html"
    shutil.copy(small_demo[0] / "index.html", alone)

    def open_page(width=1280, height=800, **settings):
        context = chromium.new_context(viewport={"width": width, "height": height}, **settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.asked, page.problems = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda message: page.problems.append(message.text))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.goto(alone.as_uri())
        page.wait_for_load_state("load")
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize(("width", "height", "scheme"), [(390, 844, "dark"), (1280, 800, "light")])
def test_it_opens_by_itself(opened, width, height, scheme):
    page = opened(width, height, color_scheme=scheme)
    until(page, lambda: page.evaluate("[...document.images].every(one => one.complete && one.naturalWidth > 0)"))
    until(page, lambda: page.evaluate("document.querySelector('video').readyState") >= 2)
    assert page.evaluate("document.querySelector('video').videoWidth") == 640
    assert [url for url in page.asked if not url.startswith("data:")] == [page.url]
    assert page.problems == []
    assert page.evaluate("document.documentElement.scrollWidth") == width, "nothing to scroll sideways"
    assert page.evaluate(
        "[...document.querySelectorAll('p, li, h1, h2, dd')].every(one => one.scrollWidth <= innerWidth)"
    )
    ground, ink = page.evaluate(
        "[getComputedStyle(document.documentElement).backgroundColor, getComputedStyle(document.body).color]"
    )

    def brightness(colour):
        return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3

    assert (brightness(ground) < 60 < 180 < brightness(ink)) == (scheme == "dark")
    assert (brightness(ink) < 60 < 180 < brightness(ground)) == (scheme == "light")
    assert page.evaluate("document.querySelector('video').controls")
    assert page.evaluate(
        "[...document.querySelectorAll('figure')].every(one => one.getBoundingClientRect().right <= innerWidth)"
    )
