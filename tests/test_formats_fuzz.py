"""No label file, however broken, ends a reader with anything but a clear error or named problems."""

import contextlib
import json
import re

import numpy as np
import pytest
from conftest import ROOT, noise_photo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kpedge.core.errors import DataError, UsageError
from kpedge.core.keypoints import FACES5
from kpedge.data.convert import convert
from kpedge.data.formats import FORMATS, READ_ONLY, matching_formats, read_format
from kpedge.data.formats.kaggle_csv import COLUMNS
from kpedge.data.formats.label import format_row
from kpedge.data.labels import Labels

FILES = {
    "wider": "wider_face_split/wider_face_train_bbx_gt.txt",
    "retinaface": "label.txt",
    "celeba": "list_landmarks_celeba.txt",
    "labelme": "0.json",
    "kaggle-csv": "training.csv",
}
"""Format that kpedge does not write -> its label file."""
NAMES = [name for name in FORMATS if name != "background"]


def five(number):
    return [(9 + number, 10), (40, 11 + number), (25, 20), (12, 33), (38.5, 34)]


def content(name):
    """Two faces in a format that kpedge does not write."""
    if name == "kaggle-csv":
        header = [*(f"{column}_{axis}" for column in COLUMNS for axis in "xy"), "Image"]
        rows = [[*(str(9 + k + n) for k in range(30)), " ".join(["7"] * 96 * 96)] for n in range(2)]
        return "\n".join(map(",".join, [header, *rows]))
    if name == "wider":
        return "0--Parade/a b.jpg\n2\n1 2 30 40 0 0 0 0 0 0 \n5 6 7 8 0 0 0 0 0 0 \n"
    if name == "retinaface":
        points = [" ".join(f"{x} {y} 0.0" for x, y in five(n)) for n in range(2)]
        return f"# 0.png\n1 2 30 40 {points[0]} 0.8\n# 1.png\n1 2 30 40 {points[1]} 0.9\n"
    if name == "celeba":
        header = (
            "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
        )
        rows = [f"{n}.png " + " ".join(f"{x} {y}" for x, y in five(n)) for n in range(2)]
        return "\n".join(["2", header, *rows])
    face = {"label": "face", "points": [[1, 2], [50, 55.5]], "group_id": 4, "shape_type": "rectangle"}
    points = [
        {"label": f"p{k}", "points": [[x, y]], "group_id": 4, "shape_type": "point"} for k, (x, y) in enumerate(five(0))
    ]
    return json.dumps({"shapes": [face, *points], "imagePath": "0.png", "imageHeight": 60, "imageWidth": 80})


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return make_folders(tmp_path_factory.mktemp("fuzz"))


def make_folders(root):
    """A folder of each format, as kpedge writes it where it does, the label file that is changed, and its content."""
    found = {}
    for name in NAMES:
        if name in READ_ONLY:
            path = root / name / FILES[name]
            path.parent.mkdir(parents=True)
            path.write_text(content(name))
        else:
            scheme = FORMATS[name].scheme or FACES5
            source = root / f"source {name}"
            lines = []
            for number in range(2):
                noise_photo(source / f"{number}.png", number, size=(80, 60))
                points = np.random.default_rng(number).uniform(5, 55, (len(scheme), 2)).round(2)
                points = np.array(five(number), dtype=float) if scheme == FACES5 else points
                lines.append(format_row(f"{number}.png", np.array([4.0, 5, 60, 55]), points))
            (source / "label.txt").write_text("\n".join(lines))
            convert(source, root / name, name)
        path = FORMATS[name].find(root / name)[0]
        found[name] = root / name, path, path.read_bytes()
    return found


def same_or_told(folder, path, name, data):
    """Read what a file has become: labels of finite numbers, or an error of our own with an exit code."""
    path.write_bytes(data)
    try:
        labels = read_format(folder, None, name)
    except (DataError, UsageError):  # anything else fails the test
        return None
    assert isinstance(labels, Labels)
    for row in labels.rows:
        assert np.isfinite(row.box).all()
        assert (row.box[2:] > row.box[:2]).all()
        known = np.isfinite(row.keypoints)
        assert (known.all(axis=1) == known.any(axis=1)).all(), "half a point"
        assert np.abs(row.keypoints[known]).max(initial=0) <= 1e6
        assert "\0" not in row.photo
    return labels


@pytest.mark.parametrize("name", NAMES)
def test_a_file_as_it_was_written_is_read_and_guessed(folders, name):
    folder, path, data = folders[name]
    labels = same_or_told(folder, path, name, data)
    assert (len(labels.rows), labels.problems) == (1 if name == "labelme" else 2, ())
    assert matching_formats(folder)[0] == name


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_cut_anywhere(folders, name):
    folder, path, data = folders[name]
    for cut in np.unique(np.linspace(0, len(data) - 1, 25).astype(int)):
        labels = same_or_told(folder, path, name, data[:cut])
        assert labels is None or len(labels.rows) <= 2
        with contextlib.suppress(DataError):
            assert matching_formats(folder)[0] in FORMATS


NUMBER = re.compile(r"(?<![\w.#-])-?\d+(?:\.\d+)?(?![\w.])")
BREAKS = {
    "not a number": lambda row, numbers: row[: numbers[2].start()] + "x" + row[numbers[2].end() :],
    "infinite": lambda row, numbers: row[: numbers[2].start()] + "inf" + row[numbers[2].end() :],
    "few columns": lambda row, numbers: row[: numbers[2].start()] + row[numbers[-1].end() :],
}


@pytest.mark.parametrize("broken", BREAKS)
@pytest.mark.parametrize("name", NAMES)
def test_a_broken_row_is_named_and_the_others_are_kept(folders, name, broken):
    """In formats with a row for each face."""
    folder, path, data = folders[name]
    if path.suffix in (".json", ".xml", ".pts"):
        return
    *rows, last = data.decode().splitlines()
    rows.append(BREAKS[broken](last, list(NUMBER.finditer(last))))
    labels = same_or_told(folder, path, name, "\n".join(rows).encode())
    assert len(labels.rows) == 1
    assert [problem.where for problem in labels.problems] == [f"{path.relative_to(folder)}:{len(rows)}"]
    assert labels.problems[0].kind in ("columns", "not a number")


cell = st.one_of(
    st.sampled_from(
        ["nan", "inf", "-1e400", "1e7", "", "0", "-0", "x", "null", "true", "[]", "{}", '"', ",", "\\", "\0", "\r"]
    ),
    st.floats().map(str),
    st.text(max_size=4),
)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_with_changed_numbers_and_letters(folders, name, data):
    folder, path, content = folders[name]
    text = content[:4000].decode() if name == "kaggle-csv" else content.decode()
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        stop = start + data.draw(st.integers(0, 12))
        text = text[:start] + data.draw(cell) + text[stop:]
    same_or_told(folder, path, name, text.encode("utf-8", "surrogatepass"))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["id", "name", "x"]), inner, max_size=2)
    ),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_coco_file_with_values_of_other_types(folders, data):
    folder, path, content = folders["coco"]
    document = json.loads(content)
    for _ in range(data.draw(st.integers(1, 3))):
        place = document
        for _ in range(data.draw(st.integers(0, 3))):
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            inner = [key for key in keys if isinstance(place[key], (dict, list)) and place[key]]
            if not inner:
                break
            place = place[data.draw(st.sampled_from(inner))]
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if data.draw(st.booleans()) or not isinstance(place, dict):
            place[key] = data.draw(values)
        else:
            del place[key]
    same_or_told(folder, path, "coco", json.dumps(document).encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("name", FORMATS)
def test_the_docs_list_every_format(name):
    form = FORMATS[name]
    row = f"| `{name}` | {form.description} | {form.points} | {'yes' if form.write else 'no'} |"
    assert row in (ROOT / "docs" / "data-formats.md").read_text()
