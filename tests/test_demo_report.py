"""The page of `kpedge demo`, read as HTML."""

import html
import itertools
import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import pytest
from test_cli import COMMANDS

from kpedge.cli.main import main
from kpedge.demo.report import page, percent

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Reader(HTMLParser):
    """Tags with their attributes, in order; complains about tags that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self._open = [], []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def demo(small_demo):
    return small_demo[0]


@pytest.fixture(scope="module")
def text(demo):
    return (demo / "index.html").read_text()


@pytest.fixture
def document(demo):
    return json.loads((demo / "report.json").read_text())


def test_all_that_is_shown_is_in_the_file(text):
    read = Reader(text)
    shown = [attributes["src"] for tag in ("img", "video") for attributes in read.all(tag)]
    assert len(shown) >= 8
    assert all(re.match(r"data:(image/(jpeg|png)|video/webm);base64,", source) for source in shown)
    assert read.all("link") == read.all("script") == []
    assert "@import" not in text
    assert "url(" not in text


def test_it_is_accessible(text):
    read = Reader(text)
    assert read.all("html") == [{"lang": "en"}]
    assert len(read.all("h1")) == 1
    levels = [int(tag[1]) for tag, _ in read.tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all(len(image["alt"]) > 20 and image["width"] and image["height"] for image in read.all("img"))
    assert len(read.all("table")) == len(read.all("caption")) >= 5
    assert all(attributes["scope"] == "col" for attributes in read.all("th"))
    assert [attributes.get("aria-label") for attributes in read.all("video")]
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_links_lead_to_its_sections_and_files(text, demo):
    read = Reader(text)
    ids = {attributes.get("id") for _, attributes in read.tags}
    targets = {attributes["href"] for attributes in read.all("a")}
    assert {"models/demo.onnx", "video/faces.mp4"} <= targets
    for target in targets:
        assert target[1:] in ids if target.startswith("#") else (demo / target).is_file(), target


def test_its_figures_are_those_of_the_report(document, text):
    trained, released = document["accuracy"]["synthetic"]
    assert trained["worst_face"] >= trained["nme_box"] > 0
    for expected in (
        percent(trained["nme_box"]),
        percent(trained["worst_face"], 1),
        percent(released["worst_face"], 1),
        percent(document["video"]["error"]),
        percent(document["video"]["error_p95"]),
        f"{document['latency']['rows'][2]['median_ms']:.3f}",
        document["machine"]["cpu"],
        document["machine"]["versions"]["torch"],
        *(step["title"] for step in document["steps"]),
    ):
        assert html.escape(expected) in text
    assert "Errors on synthetic faces are not errors on real ones" in text


def test_the_next_commands_are_commands(demo, text, capsys, tmp_path, monkeypatch):
    lines = [html.unescape(line) for line in re.findall(r"<dd><code>(kpedge [^<]+)</code></dd>", text)]
    assert len(lines) >= 6
    for line in lines:
        words = shlex.split(line)[1:]
        path = next(name for name in COMMANDS if tuple(words[: len(name)]) == name)
        known = {option for parameter in COMMANDS[path].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, line
        for word in words:
            assert not word.startswith(str(demo)) or (demo.parent / word).exists(), line
    monkeypatch.chdir(tmp_path)
    for start in ("kpedge verify ", "kpedge data check "):
        line = next(line for line in lines if line.startswith(start))
        assert main(shlex.split(line)[1:]) == 0, capsys.readouterr().err
    assert (tmp_path / "preview.png").is_file()


def test_the_next_commands_name_the_folder_that_was_given(demo, document):
    lines = re.findall(r"<dd><code>(kpedge [^<]+)</code></dd>", page(demo, Path("a look; it's"), document))
    named = [word for line in lines for word in shlex.split(html.unescape(line)) if word.startswith("a look")]
    assert {"a look; it's/video/scene.mp4", "a look; it's/models/demo.onnx"} <= set(named)


def test_without_a_video_for_browsers_there_are_stills(demo, document):
    document["video"]["files"] = ["faces.mp4"]
    shown = page(demo, demo, document)
    assert "<video " not in shown
    assert "stills are below" in shown
    Reader(shown)


def test_missing_figures_are_dashes(demo, document):
    document["video"] |= {"error": None, "error_p95": None, "tracked": 0}
    document["machine"]["load_1min"] = None
    shown = page(demo, demo, document)
    assert "load was not known" in shown
    assert "<dd>–</dd>" in shown


def test_words_are_escaped(demo, document):
    document["machine"]["cpu"] = "<script>alert(1)</script> & Sons"
    shown = page(demo, demo, document)
    assert "<script>alert" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; Sons" in shown
