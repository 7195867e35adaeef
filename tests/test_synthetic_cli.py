"""`kpedge data synth`."""

import json

import pytest

from kpedge.cli.main import main
from kpedge.core.errors import DataError
from kpedge.core.images import read_image
from kpedge.core.keypoints import FACES21
from kpedge.core.model_zoo import RENDERED_TERMS
from kpedge.data.formats import read_format
from kpedge.data.packed import open_set
from kpedge.data.source import NOT_STATED, terms_of
from kpedge.synthetic import render_photo
from kpedge.synthetic.preview import synthetic_preview


def run(arguments, capsys):
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_set_and_sheet(tmp_path, capsys):
    out, preview = tmp_path / "set", tmp_path / "faces.png"
    settings = ["--count", 4, "--seed", 3, "--background", 1, "--faces", 6]
    code, result, said = run(["data", "synth", "--out", out, *settings, "--preview", preview], capsys)
    assert code == 0
    assert result.strip() == str(out)
    assert "in 4 photos" in said
    assert "and 1 without a face" in said
    assert "preview:" in said
    assert read_image(preview).shape[1] > read_image(preview).shape[0]
    assert json.loads((out / "synthetic.json").read_text())["seed"] == 3


def test_it_is_a_data_set_like_any_other(tmp_path, capsys):
    out = tmp_path / "set"
    assert run(["data", "synth", "--out", out, "--count", 12, "--background", 2], capsys)[0] == 0
    assert run(["data", "check", out, "--strict"], capsys)[0] == 0
    assert run(["data", "prepare", out, "--out", tmp_path / "prepared"], capsys)[0] == 0
    prepared = open_set(tmp_path / "prepared")
    assert len(prepared.boxes) >= 12
    assert prepared.info["terms"] == RENDERED_TERMS, "nobody has to say whose the photos are"
    assert terms_of(out / "background", NOT_STATED) == RENDERED_TERMS
    assert terms_of(out, "mine") == "mine"
    assert terms_of(tmp_path, NOT_STATED) == NOT_STATED
    assert len(read_format(out / "background", FACES21, "background").background) == 2


@pytest.mark.slow
def test_a_sheet_shows_no_photo_that_the_set_does_not_have():
    assert synthetic_preview(3, 40, photos=2, columns=2).shape == synthetic_preview(3, 2, columns=2).shape
    empty = next(seed for seed in range(60) if not render_photo(seed, 0, frame=True).faces)
    with pytest.raises(DataError, match="none of the 1 frames shows a face"):
        synthetic_preview(empty, 40, photos=1, frames=True)
