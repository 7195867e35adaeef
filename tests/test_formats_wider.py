"""WIDER FACE's lists of boxes."""

import cv2
import numpy as np
import pytest

from kpedge.core.boxes import HEAD
from kpedge.core.errors import DataError
from kpedge.data.check import check
from kpedge.data.convert import convert
from kpedge.data.formats import matching_formats, read_format
from kpedge.data.frames import open_frames
from kpedge.data.preparation import FrameOptions, prepare

ATTRIBUTES = "0 0 0 0 0 0 "
TRAIN = f"""0--Parade/0_Parade_a b_1.jpg
3
10 20 30 40 {ATTRIBUTES}
1 2 9 9 2 0 0 1 2 0
70 30 0 6 {ATTRIBUTES}
0--Parade/none.jpg
0
0 0 0 0 {ATTRIBUTES}
1--Handshaking/two.jpg
2
5 6 20 30 1 0 0 0 0 0
50 6 21.5 30 {ATTRIBUTES}
"""
VALIDATION = f"0--Parade/0_Parade_a b_1.jpg\n1\n40 40 20 20 {ATTRIBUTES}\n"


@pytest.fixture
def wider(tmp_path):
    root = tmp_path / "wider"
    names = ("train/images/0--Parade/0_Parade_a b_1", "train/images/0--Parade/none")
    names += ("train/images/1--Handshaking/two", "val/images/0--Parade/0_Parade_a b_1")
    for seed, name in enumerate(names):
        path = root / f"WIDER_{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 255, (90, 120, 3), np.uint8))
    split = root / "wider_face_split"
    split.mkdir()
    (split / "wider_face_train_bbx_gt.txt").write_text(TRAIN)
    (split / "wider_face_val_bbx_gt.txt").write_text(VALIDATION)
    (split / "wider_face_test_filelist.txt").write_text("0--Parade/unknown.jpg\n")
    return root


def test_boxes_are_those_of_heads_and_what_does_not_count_is_neither_face_nor_background(wider):
    assert matching_formats(wider)[0] == "wider"
    labels = read_format(wider)
    assert (labels.format, labels.boxes_only, labels.convention, labels.problems) == ("wider", True, HEAD, ())
    train, hands = "WIDER_train/images/0--Parade/0_Parade_a b_1.jpg", "WIDER_train/images/1--Handshaking/two.jpg"
    held_out = "WIDER_val/images/0--Parade/0_Parade_a b_1.jpg"
    assert [row.photo for row in labels.rows] == [train, hands, hands, held_out]
    assert labels.rows[0].box.tolist() == [9.5, 19.5, 39.5, 59.5]
    assert labels.rows[2].box.tolist() == [49.5, 5.5, 71, 35.5]
    assert labels.rows[0].where == "wider_face_split/wider_face_train_bbx_gt.txt:3"
    ignored = {photo: [box.tolist() for box in boxes] for photo, boxes in labels.ignored.items()}
    assert ignored == {train: [[0.5, 1.5, 9.5, 10.5], [69.5, 29.5, 70.5, 35.5]]}, "invalid; without a width"
    assert labels.test == (held_out,)
    assert labels.background == ()
    assert labels.remarks == ("1 photo without a box is not used",)
    assert labels.dropped == {"attributes": 2, "photos without a box": 1}


def test_the_folder_of_the_lists_and_a_list_alone_are_understood(wider):
    split = wider / "wider_face_split"
    assert len(read_format(split).rows) == 4
    alone = read_format(split / "wider_face_val_bbx_gt.txt")
    assert [row.photo for row in alone.rows] == ["WIDER_val/images/0--Parade/0_Parade_a b_1.jpg"]
    (split / "wider_face_val_bbx_gt.txt").rename(wider / "mine.txt")
    assert matching_formats(wider / "mine.txt")[0] == "wider"


def test_it_becomes_a_frame_set_and_other_formats(wider, tmp_path):
    assert check(wider)[0].problems == ()
    prepare(wider, tmp_path / "set", FrameOptions(validation=0))
    frames = open_frames(tmp_path / "set")
    assert frames.info["settings"]["boxes"] == "head"
    assert sorted(frames.ignore.tolist()) == [False] * 4 + [True] * 2
    assert len(frames.frames("test")) == 1
    report = convert(wider, tmp_path / "voc", "voc")
    assert (report.faces, report.dropped) == (4, {"attributes": 2, "photos without a box": 1})
    back = read_format(tmp_path / "voc")
    assert np.allclose(back.rows[0].box, [9.5, 19.5, 39.5, 59.5])
    assert len(back.test) == 1
    assert sum(map(len, back.ignored.values())) == 2


def test_broken_lines_are_named(wider):
    path = wider / "wider_face_split" / "wider_face_train_bbx_gt.txt"
    path.write_bytes(
        b"\xef\xbb\xbf7 8 9 9\r\n0--Parade/none.jpg\r\n3\r\n1 2 x 4\r\n1 2 3\r\n1 2 -3 4 0 0 0 0 0 0\r\n"
        b"1--Handshaking/two.jpg\r\n5 6 20 30 0 0 0 0 0 0\r\n1--Handshaking\\two.jpg\r\n2\r\n1e9 1 4 4\r\n"
    )
    labels = read_format(wider)
    problems = sorted(labels.problems, key=lambda problem: int(problem.where.rpartition(":")[2]))
    assert [(p.kind, p.where.rpartition(":")[2]) for p in problems] == [
        ("no photo", "1"),
        ("not a number", "4"),
        ("columns", "5"),
        ("box without area", "6"),
        ("count", "7"),
        ("count", "9"),
        ("box out of range", "11"),
    ]
    assert "two.jpg should have 2 faces; rows that follow: 1" in str(problems[5])
    assert all(problem.photo for problem in problems[1:]), "such photos give no negatives"
    assert [row.line for row in labels.rows] == [8, 3], "what can be read is"
    path.write_text("")
    path.with_name("wider_face_val_bbx_gt.txt").write_text("\n")
    with pytest.raises(DataError, match="the label file is empty"):
        read_format(wider)
    with pytest.raises(DataError, match="no labels of the format wider"):
        read_format(wider / "WIDER_val", None, "wider")
