"""The documentation: what is made from the code is up to date, and the site builds without a broken link."""

import sys

import pytest
from conftest import ROOT

DOCS = ROOT / "docs"


@pytest.fixture
def figures(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    import figures

    yield figures
    sys.modules.pop("figures", None)


def test_the_diagram_shows_the_packages_of_today(figures):
    assert (DOCS / "architecture.svg").read_text() == figures.package_diagram(), "run: python docs/figures.py"
