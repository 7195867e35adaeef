import posixpath

import numpy as np
import pytest
from conftest import noise_photo
from hypothesis import given
from hypothesis import strategies as st

from kpedge.core.errors import DataError
from kpedge.core.keypoints import FACES21
from kpedge.data.formats.label import format_row, parse_row, read_labels
from kpedge.data.formats.reader import PhotoFinder
from kpedge.data.labels import read_boxes, read_photo_list

NUMBERS = " ".join(["10 20 110 120", *(f"{i}.5 {i}" for i in range(21))])
names = st.from_regex(r"\A[a-zA-Z_äß][\w./-]{0,20}\.jpg\Z")
values = st.floats(-9999, 9999).map(lambda v: round(v, 6))


@given(names, st.lists(values, min_size=42, max_size=42), values, values, st.floats(0.01, 999), st.floats(0.01, 999))
def test_a_written_row_is_read_back(name, points, x, y, width, height):
    box, keypoints = np.array([x, y, x + width, y + height]), np.array(points).reshape(21, 2)
    read_name, read_box, read_points = parse_row(format_row(name, box, keypoints), FACES21)
    assert read_name == name
    assert np.allclose(read_box, box, atol=1e-6)
    assert np.allclose(read_points, keypoints, atol=1e-6)


cells = st.one_of(
    st.floats().map(str), st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1, max_size=9)
)


@given(st.lists(st.tuples(st.integers(0, 46), cells), max_size=4), st.integers(-2, 48))
def test_a_row_with_changed_cells_is_read_exactly_or_refused_with_a_reason(changes, extra):
    row = f"a.jpg {NUMBERS}".split()
    for index, cell in changes:
        row[index] = cell
    row = row[: 47 + extra] + ["7"] * extra
    try:
        name, box, points = parse_row(" ".join(row), FACES21)
    except DataError as error:
        assert extra or changes, f"an unchanged row was refused: {error}"  # noqa: PT017
    else:
        assert np.isfinite(points).all()
        assert (box[2:] > box[:2]).all()
        assert [*box, *points.ravel()] == [float(cell) for cell in row[-46:]]
        assert name == posixpath.normpath(" ".join(row[:-46]))
        for cell in row[1:-46]:  # what was taken for a part of the name is no number
            with pytest.raises(ValueError, match="could not convert"):
                float(cell)


def test_two_rows_without_a_line_break_are_not_a_row_with_a_long_name():
    with pytest.raises(DataError, match="94 columns"):
        parse_row(f"a.jpg {NUMBERS} b.jpg {NUMBERS}", FACES21)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (f"a.jpg {NUMBERS} 7", "48 columns, expected 47"),
        (f"a.jpg {NUMBERS.rpartition(' ')[0]}", "46 columns, expected 47"),
        ("a.jpg", "1 column, expected 47"),
        (f"a.jpg {NUMBERS.replace('20.5', 'x')}", "column 46 is 'x', not a number"),
        (f"a.jpg {NUMBERS.replace('20.5', 'nan')}", "column 46 is 'nan', not a finite number"),
        (f"a.jpg {NUMBERS.replace('10 20 110 120', '10 20 10 120')}", "box 10,20,10,120 has no area"),
    ],
)
def test_a_broken_row_says_what_is_wrong(row, words):
    with pytest.raises(DataError, match=words.replace("(", r"\(")):
        parse_row(row, FACES21)


def test_a_name_may_contain_blanks():
    assert parse_row(f"my face 3.jpg {NUMBERS}", FACES21)[0] == "my face 3.jpg"


def test_broken_rows_are_named_with_file_and_line_and_the_rest_is_kept(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "label.txt").write_bytes(
        f"\ufeffa.jpg {NUMBERS}\r\n\r\nb.jpg 1 2\r\n\ufeffc.jpg {NUMBERS}\r\n".encode()
    )
    labels = read_labels(tmp_path, FACES21)
    assert [row.photo for row in labels.rows] == ["b/a.jpg", "b/c.jpg"]
    assert [row.where for row in labels.rows] == ["b/label.txt:1", "b/label.txt:4"]
    assert [(p.kind, p.where) for p in labels.problems] == [("columns", "b/label.txt:3")]
    assert read_labels(tmp_path / "b" / "label.txt", FACES21).rows[0].photo == "a.jpg"


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "is empty"), (b"\n\n", "is empty"), (b"\xff\xfe\x00", "not a text file"), (None, "no label.txt")],
)
def test_a_folder_without_labels_says_so(tmp_path, content, words):
    if content is not None:
        (tmp_path / "label.txt").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_labels(tmp_path, FACES21)
    with pytest.raises(DataError, match="no such folder"):
        read_labels(tmp_path / "nowhere", FACES21)


def test_boxes_are_read_from_labels_and_from_short_rows(tmp_path):
    file = tmp_path / "boxes.txt"
    file.write_text(f"a.jpg {NUMBERS}\nmy photo.jpg 1 2 3 4\na.jpg 5 6 7 8\n")
    boxes = read_boxes(file)
    assert [box.tolist() for box in boxes[tmp_path / "a.jpg"]] == [[10, 20, 110, 120], [5, 6, 7, 8]]
    assert boxes[tmp_path / "my photo.jpg"][0].tolist() == [1, 2, 3, 4]
    file.write_text("a.jpg 1 2 3 4\nb.jpg 1 2 3\n")
    with pytest.raises(DataError, match=r"boxes.txt:2"):
        read_boxes(file)
    file.write_text("photo 3 1 2 30 40\n")
    with pytest.raises(DataError, match="5 numbers after the name"):
        read_boxes(file)
    file.write_text("")
    with pytest.raises(DataError, match="is empty"):
        read_boxes(file)


def test_a_photo_list_has_a_path_a_line(tmp_path):
    (tmp_path / "label.txt").write_text(f"I/a.jpg {NUMBERS}\nII/b.jpg {NUMBERS}\n")
    labels = read_labels(tmp_path, FACES21)
    (tmp_path / "list.txt").write_text("I/a.jpg\n\n ./II/b.jpg \nI/a.jpg\n")
    assert read_photo_list(tmp_path / "list.txt", labels) == (["I/a.jpg", "II/b.jpg"], [])
    with pytest.raises(DataError, match="no such file"):
        read_photo_list(tmp_path / "none.txt", labels)


def test_a_photo_of_a_folder_that_exists_is_not_looked_for_in_another(tmp_path):
    noise_photo(tmp_path / "b" / "x.png")
    (tmp_path / "a").mkdir()
    assert PhotoFinder(tmp_path)("a/x.png") == "a/x.png", "it is missing; b/x.png is another one"
    assert PhotoFinder(tmp_path)("elsewhere/x.png") == "b/x.png"
    noise_photo(tmp_path / "c" / "x.png")
    assert PhotoFinder(tmp_path)("elsewhere/x.png") == "elsewhere/x.png", "which of both?"
