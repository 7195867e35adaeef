"""What the package says about its licences is true of what it carries."""

import json
import re

import pytest
from conftest import ROOT, SAMPLE

from kpedge.cli.main import main
from kpedge.core.errors import UsageError
from kpedge.core.model_zoo import is_free, licensed, released

FREE = ["detector-synthetic", "stage3-synthetic"]
WEIGHTS = (ROOT / "LICENSE-weights.txt").read_text()


def test_the_metadata_names_both_licences_and_their_files():
    project = (ROOT / "pyproject.toml").read_text()
    assert re.search(r'^license = "Apache-2.0 AND LicenseRef-kpedge-weights"$', project, re.MULTILINE)
    files = re.findall(r'"([^"]+)"', re.search(r"^license-files = \[(.*)\]$", project, re.MULTILINE)[1])
    assert set(files) >= {"LICENSE", "NOTICE", "LICENSE-weights.txt"}
    assert all((ROOT / name).is_file() for name in files)
    assert "LICENSE-weights.txt" in (ROOT / "NOTICE").read_text()


@pytest.mark.parametrize(
    "path",
    [path for path in sorted((ROOT / "export").glob("*.json")) if path.stem not in FREE],
    ids=lambda path: path.stem,
)
def test_every_training_set_of_a_released_model_is_named_with_its_terms(path):
    card = json.loads(path.read_text())
    training = card.get("card", card)["training"]
    for one in [*training["sets"], *(training.get("start") or {}).get("sets", ())]:
        (line,) = (line for line in WEIGHTS.splitlines() if line.strip().startswith(f"{one['name']} "))
        assert one["terms"] in line
        assert path.stem in line
        assert f"{one['name']}" in (ROOT / "docs" / "licences.md").read_text()


def test_models_for_any_use_saw_rendered_photos_alone():
    assert [name for name in released() if is_free(name)] == FREE
    covered, free = (
        re.search(pattern, WEIGHTS, re.DOTALL)[1] for pattern in ("kpedge: (.*?)\\(", "covered are (.*?):")
    )
    assert all((name in covered) == (name not in FREE) for name in re.findall(r"[\w-]+", covered))
    assert all(name in free for name in FREE)


def test_a_licence_chooses_models_and_refuses_those_without_a_free_counterpart(tmp_path):
    assert licensed("stage3", "any") == "stage3"
    assert [licensed(name, "free") for name in ("stage3", "detector", "stage3-synthetic")] == [
        "stage3-synthetic",
        "detector-synthetic",
        "stage3-synthetic",
    ]
    own = str(tmp_path / "stage3")
    assert licensed(own, "free") == own, "a file of one's own"
    with pytest.raises(UsageError, match="stage3-68"):
        licensed("stage3-68", "free")
    with pytest.raises(UsageError, match="gratis"):
        licensed("stage3", "gratis")


def test_a_command_takes_a_licence(capsys):
    def output(*options):
        assert main(["predict", str(SAMPLE / "eileen_collins.jpg"), "--json", *options]) == 0
        return capsys.readouterr().out

    free = output("--licence", "free")
    assert free == output("--model", "stage3-synthetic", "--detector", "detector-synthetic")
    assert free != output()
    assert main(["webcam", "--model", "stage3-68", "--licence", "free"]) == 2
    assert "stage3-synthetic" in capsys.readouterr().err
