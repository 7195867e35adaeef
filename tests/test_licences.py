"""What the package says about its licences is true of what it carries."""

import json
import re

import pytest
from conftest import ROOT

WEIGHTS = (ROOT / "LICENSE-weights.txt").read_text()


def test_the_metadata_names_both_licences_and_their_files():
    project = (ROOT / "pyproject.toml").read_text()
    assert re.search(r'^license = "Apache-2.0 AND LicenseRef-kpedge-weights"$', project, re.MULTILINE)
    files = re.findall(r'"([^"]+)"', re.search(r"^license-files = \[(.*)\]$", project, re.MULTILINE)[1])
    assert set(files) >= {"LICENSE", "NOTICE", "LICENSE-weights.txt"}
    assert all((ROOT / name).is_file() for name in files)
    assert "LICENSE-weights.txt" in (ROOT / "NOTICE").read_text()


@pytest.mark.parametrize("path", sorted((ROOT / "export").glob("*.json")), ids=lambda path: path.stem)
def test_every_training_set_of_a_released_model_is_named_with_its_terms(path):
    card = json.loads(path.read_text())
    training = card.get("card", card)["training"]
    for one in [*training["sets"], *(training.get("start") or {}).get("sets", ())]:
        (line,) = (line for line in WEIGHTS.splitlines() if line.strip().startswith(f"{one['name']} "))
        assert one["terms"] in line
        assert path.stem in line
        assert f"{one['name']}" in (ROOT / "docs" / "licences.md").read_text()
