from itertools import pairwise

import cv2
import numpy as np
import pytest
from conftest import template

from kpedge.core.errors import DataError, StaleSetError, UsageError
from kpedge.core.geometry import CropRule, box_overlaps_image, crop_square, iou
from kpedge.data.formats.label import format_row
from kpedge.data.negatives import LEAVE, MAX_IOU, choose_negatives, overhang, read_unlabelled
from kpedge.data.packed import open_set
from kpedge.data.preparation import PrepareOptions, prepare

RULE = CropRule()
SIZE = (320, 240)
INSIDE = [(0.0, 0.0, 0.0, 0.0)]


def square(box):
    x, y, side = crop_square(box, RULE)
    return np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2])


def make_crowded(folder, count=150, seed=1):
    """Photos of noise with faces anywhere: a fifth of their crops leave the photo."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    rows = []
    for number in range(count):
        width, height = int(rng.integers(160, 400)), int(rng.integers(160, 400))
        cv2.imwrite(str(folder / f"{number}.bmp"), rng.integers(0, 255, (height, width, 3), np.uint8))
        for _ in range(int(rng.integers(1, 4))):
            side = np.exp(rng.uniform(np.log(15), np.log(140)))
            x, y = rng.uniform(0, 1, 2) * (width - side, height - side)
            rows.append(format_row(f"{number}.bmp", np.array([x, y, x + side, y + side]), template() * side + (x, y)))
    (folder / "label.txt").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    return make_crowded(tmp_path_factory.mktemp("crowded") / "photos")


@pytest.fixture(scope="module")
def crowded_set(crowded, tmp_path_factory):
    out = tmp_path_factory.mktemp("crowded") / "set"
    prepare(crowded, out)
    return open_set(out)


def photo_size(prepared, crowded, index):
    height, width = cv2.imread(str(crowded / prepared.photos[prepared.photo[index]])).shape[:2]
    return width, height


def test_negatives_show_no_face(crowded_set):
    for index in np.flatnonzero(crowded_set.face == 0):
        same = (crowded_set.photo == crowded_set.photo[index]) & (crowded_set.face == 1)
        faces = np.array([square(box) for box in crowded_set.boxes[same]])
        assert iou(square(crowded_set.boxes[index])[None], faces).max() < MAX_IOU


def test_padding_does_not_give_the_answer_away(crowded, crowded_set):
    beyond = np.array(
        [overhang(b, RULE, *photo_size(crowded_set, crowded, i)) for i, b in enumerate(crowded_set.boxes)]
    )
    faces, negatives = beyond[crowded_set.face == 1], beyond[crowded_set.face == 0]
    share = (faces > 0).any(axis=1).mean()
    assert 0.1 < share < 0.5
    assert abs((negatives > 0).any(axis=1).mean() - share) < 0.06
    assert np.abs(negatives.mean(axis=0) - faces.mean(axis=0)).max() < 0.01
    padded = [
        1 - (1 - side[:, 0] - side[:, 2]) * (1 - side[:, 1] - side[:, 3]) for side in (faces, negatives)
    ]  # of the crop's area
    above = (padded[0][:, None] > padded[1]).mean() + (padded[0][:, None] == padded[1]).mean() / 2
    assert 0.4 < above < 0.6, "the area under the curve of a threshold on the padding"


def test_the_choice_follows_from_its_arguments():
    faces = [np.array([100.0, 80, 160, 140])]

    def chosen(seed, count=6, unlabelled=()):
        return choose_negatives(np.random.default_rng(seed), SIZE, faces, unlabelled, INSIDE, [], count, RULE)

    assert np.array_equal(chosen(1), chosen(1))
    assert not np.array_equal(chosen(1), chosen(2))
    assert np.array_equal(chosen(1, 3), chosen(1, 6)[:3])
    for box in chosen(3, 200):
        assert overhang(box, RULE, *SIZE) == INSIDE[0]
        assert crop_square(box, RULE)[2] >= 16 - 1e-9


def test_an_unlabelled_face_is_neither_face_nor_background():
    """No crop shows its middle, not even one that is far too large or too small for it; nor is it missed closely."""
    unlabelled = np.array([140.0, 100, 180, 140])
    boxes = choose_negatives(np.random.default_rng(0), SIZE, (), [unlabelled], INSIDE, [], 300, RULE)
    assert len(boxes) == 300
    crops = np.array([square(box) for box in boxes])
    middle = np.array([160, 120])
    assert not ((crops[:, :2] < middle) & (crops[:, 2:] > middle)).all(axis=1).any()
    assert iou(crops, square(unlabelled)[None]).max() < MAX_IOU


def test_a_negative_leaves_the_photo_as_the_drawn_face_does():
    drawn = (0.0, 0.2, 0.1, 0.0)
    for box in choose_negatives(np.random.default_rng(0), SIZE, (), (), [drawn], [], 20, RULE):
        assert np.allclose(overhang(box, RULE, *SIZE), drawn, atol=1e-9)
        assert box_overlaps_image(box, *SIZE)
    wide = (0.2, 0.0, 0.3, 0.0)  # wider than the photo: the side follows
    (box,) = choose_negatives(np.random.default_rng(0), (100, 400), (), (), [wide], [], 1, RULE)
    assert np.allclose(overhang(box, RULE, 100, 400), wide, atol=1e-9)
    assert crop_square(box, RULE)[2] == pytest.approx(200)


def test_an_overhang_without_room_is_owed_to_the_next_photo():
    wide, owed = (0.2, 0.0, 0.3, 0.0), []
    assert choose_negatives(np.random.default_rng(0), SIZE, (), (), [wide], owed, 2, RULE) == []
    assert set(owed) == {wide}
    count = len(owed)
    assert len(choose_negatives(np.random.default_rng(0), (100, 400), (), (), INSIDE, owed, 1, RULE)) == 1
    assert len(owed) == count - 1


def test_a_photo_too_small_for_a_negative_has_none():
    assert choose_negatives(np.random.default_rng(0), (12, 9), (), (), (), [], 3, RULE) == []


def test_without_faces_a_fixed_share_leaves_the_photo():
    boxes = choose_negatives(np.random.default_rng(0), SIZE, (), (), (), [], 2000, RULE)
    beyond = np.array([overhang(box, RULE, *SIZE) for box in boxes])
    assert abs((beyond > 0).any(axis=1).mean() - LEAVE) < 0.03
    assert (beyond > 0).sum(axis=1).max() == 1
    assert beyond.max() <= 0.25


def test_negatives_by_number_and_none(tmp_path):
    crowded = make_crowded(tmp_path / "photos", 12)
    report = prepare(crowded, tmp_path / "none", PrepareOptions(negatives=0))
    assert sum(part["negatives"] for part in report.counts.values()) == 0
    report = prepare(crowded, tmp_path / "one", PrepareOptions(negatives=1))
    assert 10 <= sum(part["negatives"] for part in report.counts.values()) <= 12
    with pytest.raises(StaleSetError):
        prepare(crowded, tmp_path / "one", PrepareOptions(negatives=2))
    with pytest.raises(UsageError, match="--negatives must be at least 0, not -1"):
        PrepareOptions(negatives=-1)


def test_a_photo_with_a_face_that_cannot_be_used_gives_no_negatives(tmp_path):
    folder = make_crowded(tmp_path / "photos", 12)
    with (folder / "label.txt").open("a") as file:
        file.write("3.bmp 1 2 x\n")  # a broken row
        file.write("4.bmp 900 900 950 950 " + "920 " * 42 + "\n")  # a box outside its photo
    prepare(folder, tmp_path / "set")
    prepared = open_set(tmp_path / "set")
    with_negatives = {prepared.photos[photo] for photo in prepared.photo[prepared.face == 0]}
    assert with_negatives == {f"{number}.bmp" for number in range(12)} - {"3.bmp", "4.bmp"}


def test_copies_of_a_photo_know_each_others_faces_and_give_negatives_once(tmp_path):
    folder = make_crowded(tmp_path / "photos", 6)
    rows = (folder / "label.txt").read_text().splitlines()
    photo = next(row.split()[0] for row, after in pairwise(rows) if row.split()[0] in after)
    (folder / "copy.bmp").write_bytes((folder / photo).read_bytes())
    last = max(number for number, row in enumerate(rows) if row.startswith(photo))
    rows[last] = rows[last].replace(photo, "copy.bmp", 1)
    (folder / "label.txt").write_text("\n".join(rows) + "\n")
    prepare(folder, tmp_path / "set", PrepareOptions(negatives=20))
    prepared = open_set(tmp_path / "set")
    both = {index for index, name in enumerate(prepared.photos) if name in (photo, "copy.bmp")}
    mine = np.isin(prepared.photo, list(both))
    assert len(set(prepared.photo[mine & (prepared.face == 0)])) == 1
    faces = np.array([square(box) for box in prepared.boxes[mine & (prepared.face == 1)]])
    negatives = np.array([square(box) for box in prepared.boxes[mine & (prepared.face == 0)]])
    assert iou(negatives, faces).max() < MAX_IOU


def test_the_list_of_unlabelled_faces_is_read_and_makes_a_set_stale(tmp_path):
    folder = make_crowded(tmp_path / "photos", 6)
    prepare(folder, tmp_path / "set")
    assert read_unlabelled(folder) == {}
    file = folder / "unlabelled_faces.csv"
    file.write_text("image,x1,y1,x2,y2,score\n./1.png,10,20,30,45.5,0.6\n1.png,1,2,3,4,0.5\n")
    assert [box.tolist() for box in read_unlabelled(folder)["1.png"]] == [[10, 20, 30, 45.5], [1, 2, 3, 4]]
    with pytest.raises(StaleSetError):
        prepare(folder, tmp_path / "set")
    for row, words in (
        ("1.png,1,2,3", "4 columns"),
        ("1.png,1,2,x,4,0.5", "column 4 is 'x'"),
        ("1.png,1,2,1,4,1", "no"),
    ):
        file.write_text(f"image,x1,y1,x2,y2,score\n{row}\n")
        with pytest.raises(DataError, match=rf"unlabelled_faces.csv:2: .*{words}"):
            read_unlabelled(folder)
