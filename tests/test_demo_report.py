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
from kpedge.core.errors import ImageError
from kpedge.core.model_zoo import released_keypoint_models, resolve_model
from kpedge.demo.html import duration, percent, picture, table, tiles
from kpedge.demo.report import page
from kpedge.demo.settings import FACES_FROM

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


@pytest.fixture(scope="module")
def read(text):
    return Reader(text)


def test_all_that_is_shown_is_in_the_file(read, text):
    shown = [attributes["src"] for tag in ("img", "video") for attributes in read.all(tag)]
    assert len(shown) >= 8
    assert all(re.match(r"data:(image/(jpeg|png)|video/webm);base64,", source) for source in shown)
    assert read.all("link") == [{"rel": "icon", "href": read.all("link")[0]["href"]}]
    assert read.all("link")[0]["href"].startswith("data:")
    assert all("src" not in attributes for attributes in read.all("script"))
    assert "@import" not in text
    assert "url(" not in text


def test_it_is_accessible(read):
    assert read.all("html") == [{"lang": "en"}]
    assert len(read.all("h1")) == 1
    levels = [int(tag[1]) for tag, _ in read.tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all(len(attributes["alt"]) > 20 for attributes in read.all("img"))
    assert all(attributes["width"] and attributes["height"] for attributes in read.all("img"))
    assert len(read.all("table")) == len(read.all("caption")) >= 6
    assert all(attributes["scope"] == "col" for attributes in read.all("th"))
    assert [attributes.get("aria-label") for attributes in read.all("video")]
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attributes in read.all("a"):
        assert not attributes["href"].startswith("#") or attributes["href"][1:] in ids


def test_links_lead_to_files_beside_it(read, demo):
    targets = {attributes["href"] for attributes in read.all("a") if not attributes["href"].startswith("#")}
    assert {"models/demo.onnx", "video/faces.mp4", "benchmark/latency.json", "run/metrics.csv"} <= targets
    for target in targets:
        assert not target.startswith(("/", "http")), target
        assert (demo / target).is_file(), target


def test_its_figures_are_those_of_the_report(demo, text):
    document = json.loads((demo / "report.json").read_text())
    trained = document["accuracy"]["synthetic"][0]
    for figure in (
        percent(trained["nme_box"]),
        percent(document["video"]["error"]),
        percent(document["video"]["jitter"], 3),
        f"{document['latency']['rows'][2]['median_ms']:.3f}",
        document["machine"]["cpu"],
        document["machine"]["versions"]["torch"],
    ):
        assert figure in text
    for step in document["steps"]:
        assert step["title"] in text
    assert "Errors on synthetic faces are not errors on real ones" in text


def test_the_next_commands_are_commands(demo, text, capsys, tmp_path, monkeypatch):
    lines = [line.replace("&#x27;", "'") for line in re.findall(r"<dd><code>(kpedge [^<]+)</code></dd>", text)]
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


def test_the_next_commands_name_the_folder_that_was_given(demo):
    document = json.loads((demo / "report.json").read_text())
    lines = re.findall(r"<dd><code>(kpedge [^<]+)</code></dd>", page(demo, Path("a look; it's"), document))
    own = [word for line in lines for word in shlex.split(html.unescape(line)) if word.startswith("a look")]
    assert set(own) == {
        "a look; it's/video/scene.mp4",
        *("a look; it's/models/demo.onnx", "a look; it's/models/demo.torchscript.pt"),
        *("a look; it's/synthetic", "a look; it's/run/best.pt"),
    }


def test_what_the_pictures_show_is_said(demo, text):
    document = json.loads((demo / "report.json").read_text())
    trained, released = document["accuracy"]["synthetic"]
    assert trained["worst_face"] >= trained["nme_box"] > 0
    worst = f"one leaves: {percent(trained['worst_face'], 1)}. The worst of all for released stage3: "
    assert worst + percent(released["worst_face"], 1) in text
    assert f"{min(12, trained['faces'])} of {trained['faces']} test faces" in text
    assert "Every other one is shown with its points" in text
    assert "Under each: the seed, as kpedge data synth takes it, and the number of the photo." in text


def test_what_the_released_models_have_seen_is_said(demo, text):
    assert "trained on labelled photos and on faces of the same renderer, but not on these" in text
    assert f"(here {FACES_FROM + 1})" in text
    cards = [json.loads(resolve_model(name).with_suffix(".json").read_text()) for name in released_keypoint_models()]
    assert len(cards) == 3
    for card in cards:
        names = [one["name"] for one in card["training"]["sets"]]
        assert len(names) > 1
        assert any("synth" in name for name in names), names


def test_times_are_those_of_the_run(demo):
    document = json.loads((demo / "report.json").read_text())
    next(step for step in document["steps"] if step["title"].startswith("Train"))["seconds"] = 165.4
    rows = document["latency"]["rows"]
    rows[0] |= {"median_ms": 1.0, "p95_ms": 9.0}
    for row in rows[1:]:
        row |= {"median_ms": 1.0, "p95_ms": 1.1}
    document["machine"] |= {"load_1min": 2.93, "cores": 1}
    shown = page(demo, demo, document)
    assert "it was trained for 2 min 45 s" in shown
    assert "reach 9 medians: the machine was busy with other programs, at a load of 2.93 on 1 core before" in shown
    for quiet in ({"load_1min": 0.3}, {"load_1min": None}):
        assert "medians: the machine was busy" not in page(
            demo, demo, {**document, "machine": {**document["machine"], **quiet}}
        )
    rows[0]["p95_ms"] = 1.2
    assert "medians: the machine was busy" not in page(demo, demo, document)


def test_without_a_video_for_browsers_there_are_stills(demo):
    document = json.loads((demo / "report.json").read_text())
    document["video"]["files"] = ["faces.mp4"]
    shown = page(demo, demo, document)
    assert "<video " not in shown
    assert "stills are below" in shown
    Reader(shown)


def test_missing_figures_are_dashes(demo):
    document = json.loads((demo / "report.json").read_text())
    nothing = {"error": None, "error_p95": None, "jitter": None, "followed": 0, "found_after_s": [None, None]}
    document["video"] |= nothing
    document["machine"]["load_1min"] = None
    shown = page(demo, demo, document)
    assert "its load was not known" in shown
    assert "<dd>–</dd>" in shown
    assert "2</dd>" in shown, "faces that were not found"
    Reader(shown)


def test_words_are_escaped(demo):
    document = json.loads((demo / "report.json").read_text())
    document["machine"]["cpu"] = "<script>alert(1)</script> & Sons"
    shown = page(demo, demo, document)
    assert "<script>alert" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; Sons" in shown
    assert tiles([("1 < 2", "a & b")]) == "<div><dt>a &amp; b</dt><dd>1 &lt; 2</dd></div>"


def test_pieces():
    assert (percent(None), percent(0.0123), percent(0.5, 1)) == ("–", "1.23 %", "50.0 %")
    assert (duration(59.4), duration(59.6), duration(125)) == ("59 s", "1 min 0 s", "2 min 5 s")
    made = Reader(table("Of things", ("what", "how many"), [("<b>x</b>", "2")]))
    assert made.all("th") == [{"scope": "col", "class": "text"}, {"scope": "col"}]


def test_a_missing_picture_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.png: no such picture"):
        picture(tmp_path / "gone.png", "alt", "caption")
