"""Frame sets: from photos with all their faces to what the detector is trained on."""

import json
import shutil

import cv2
import numpy as np
import pytest
from conftest import make_photos

from kpedge.cli.main import main
from kpedge.core.boxes import HEAD, box_of_points, to_convention
from kpedge.core.errors import DataError, UsageError
from kpedge.core.images import read_image
from kpedge.core.keypoints import FACES21, FACES21_MEAN
from kpedge.data.formats.label import format_row, read_labels
from kpedge.data.frames import open_frames
from kpedge.data.preparation import FrameOptions, prepare

FIVE = [16, 17, 18, 19, 20]
ALL_TRAIN = {"validation": 0.0, "test": 0.0}


@pytest.fixture
def folder(tmp_path):
    return make_photos(tmp_path / "photos", 12, faces=2)


@pytest.fixture
def heads(tmp_path):
    """Six pictures in `images/` with a light rectangle for each box of `boxes.csv`."""
    root = tmp_path / "heads"
    (root / "images").mkdir(parents=True)
    lines = ["image,x1,y1,x2,y2,label"]
    for number in range(6):
        image = np.full((900, 1200, 3), 80, np.uint8)
        for place in range(number % 3 + 1):
            x, y, width, height = 60 + 380 * place, 80 + 40 * number, 200 + 10 * number, 260
            image[y : y + height, x : x + width] = 255
            # The rectangle's edges, which lie between pixels.
            lines.append(f"{number}.png,{x - 0.5},{y - 0.5},{x + width - 0.5},{y + height - 0.5},with_mask")
        cv2.imwrite(str(root / "images" / f"{number}.png"), image)
    (root / "boxes.csv").write_text("\n".join(lines) + "\n")
    return root


def faces_by_photo(frames):
    """Photo -> rows of its faces."""
    return {photo: frames.faces(number) for number, photo in enumerate(frames.info["photos"])}


def spot(image, place, reach):
    """The centre of brightness, x y, around a place in a dark picture."""
    x, y = np.round(place).astype(int)
    part = image[y - reach : y + reach + 1, x - reach : x + reach + 1].astype(float).sum(axis=2)
    rows, columns = np.mgrid[y - reach : y + reach + 1, x - reach : x + reach + 1]
    return np.array([(columns * part).sum(), (rows * part).sum()]) / part.sum()


@pytest.mark.parametrize("shape", [(1200, 1600), (667, 1001), (1500, 500)])
def test_labels_of_a_large_photo_lie_on_the_right_pixels_of_its_frame(tmp_path, shape):
    height, width = shape
    points = FACES21_MEAN * 300 + (width / 2 + 0.3, height / 2 - 0.4)
    image = np.zeros((height, width, 3), np.uint8)
    for x, y in points[FIVE]:
        centre = (round(x * 256), round(y * 256))
        cv2.circle(image, centre, 9 * 256, (255, 255, 255), -1, cv2.LINE_AA, 8)
    cv2.imwrite(str(tmp_path / "large.png"), image)
    box = box_of_points(points)
    (tmp_path / "label.txt").write_text(format_row("large.png", box, points))
    prepare(tmp_path, tmp_path / "set", FrameOptions(**ALL_TRAIN))
    frames = open_frames(tmp_path / "set")
    kept = frames.image(0)
    assert max(kept.shape) == 640
    for place in frames.points[0]:
        assert np.abs(spot(kept, place, 6) - place).max() < 0.15
    zoom = 640 / max(shape)
    assert frames.boxes[0][2] - frames.boxes[0][0] == pytest.approx(zoom * (box[2] - box[0]), rel=2e-3)
    assert np.allclose((frames.points[0].mean(axis=0) + 0.5) / zoom - 0.5, points[FIVE].mean(axis=0), atol=0.7)


def test_a_small_photo_is_kept_to_the_last_bit_with_its_labels_as_they_stand(folder, tmp_path):
    prepare(folder, tmp_path / "set", FrameOptions())
    frames = open_frames(tmp_path / "set")
    labels = read_labels(folder, FACES21).by_photo()
    assert sorted(frames.info["photos"]) == sorted(labels)
    for number, photo in enumerate(frames.info["photos"]):
        assert (frames.image(number) == read_image(folder / photo)).all()
        rows = frames.faces(number)
        assert np.allclose(frames.boxes[rows], [row.box for row in labels[photo]])
        assert np.allclose(frames.points[rows], [row.keypoints[FIVE] for row in labels[photo]])
    assert (frames.boxes == frames.labelled).all()
    assert not frames.ignore.any()
    with pytest.raises(UsageError, match="no split is called 'holdout'"):
        frames.frames("holdout")


def test_boxes_of_heads_follow_the_frame_and_become_ours(heads, tmp_path):
    prepare(heads, tmp_path / "set", FrameOptions(**ALL_TRAIN))
    frames = open_frames(tmp_path / "set")
    assert len(frames) == 6
    assert len(frames.boxes) == 12
    assert frames.info["settings"]["boxes"] == HEAD
    for number in range(len(frames)):
        light = frames.image(number).min(axis=2) > 172  # half of what lies on an edge pixel
        for x1, y1, x2, y2 in frames.labelled[frames.faces(number)]:
            around = light[round(y1) - 4 : round(y2) + 5, round(x1) - 4 : round(x2) + 5]
            assert around.sum() == pytest.approx((x2 - x1) * (y2 - y1), rel=0.02)
            assert np.abs(np.argwhere(around).min(axis=0) - 4.5).max() <= 1, "the first light pixel is at the edge"
    assert np.allclose(frames.boxes, to_convention(frames.labelled, HEAD))
    assert np.isnan(frames.points).all()
    prepare(heads, tmp_path / "ours", FrameOptions(**ALL_TRAIN, boxes="face"))
    assert (open_frames(tmp_path / "ours").boxes == frames.labelled).all()


def test_faces_that_nobody_labelled_are_to_be_ignored(heads, tmp_path):
    (heads / "unlabelled_faces.csv").write_text("image,x1,y1,x2,y2,score\nimages/2.png,900,600,980,690,0.98\n")
    report = prepare(heads, tmp_path / "set", FrameOptions(**ALL_TRAIN))
    frames = open_frames(tmp_path / "set")
    assert report.counts["train"] == {"photos": 6, "faces": 12}, "they are not counted"
    rows = faces_by_photo(frames)["images/2.png"]
    assert frames.ignore[rows].tolist() == [False, False, False, True]
    assert frames.ignore.sum() == 1
    # The list's boxes are ours already, so they are not mapped as those of heads; the photo is 1200 wide.
    expected = (np.array([900, 600, 980, 690]) + 0.5) * 640 / 1200 - 0.5
    assert np.allclose(frames.boxes[rows][3], expected)


def test_splits_are_by_photo_and_a_photos_copies_are_written_once(folder, tmp_path):
    text = (folder / "label.txt").read_text()
    for number in range(5):
        shutil.copy(folder / f"{number:03}.png", folder / f"copy{number:03}.png")
    copies = [f"copy{line}" for line in text.splitlines() if int(line[:3]) < 5]
    (folder / "label.txt").write_text(text + "\n".join(copies) + "\n")
    report = prepare(folder, tmp_path / "set", FrameOptions(validation=0.25, test=0.25))
    frames = open_frames(tmp_path / "set")
    assert frames.info["photos"] == [f"{number:03}.png" for number in range(12)]
    assert len(frames.boxes) == 24
    sizes = {split: len(frames.frames(split)) for split in ("train", "validation", "test")}
    assert sizes == {"train": 7, "validation": 2, "test": 3}
    assert report.counts == {split: {"photos": count, "faces": 2 * count} for split, count in sizes.items()}
    together = np.concatenate([frames.frames(split) for split in sizes])
    assert sorted(together.tolist()) == list(range(12))
    # The same split as that of the set for keypoints: what one model is tested on, the other has not seen.
    prepare(folder, tmp_path / "crops")
    prepare(folder, tmp_path / "frames", FrameOptions())
    tested = {line.split()[0].removeprefix("copy") for line in (tmp_path / "crops/test.txt").read_text().splitlines()}
    frames = open_frames(tmp_path / "frames")
    assert {frames.info["photos"][number] for number in frames.frames("test")} == tested


def test_photos_without_a_face_are_frames_without_one(tmp_path):
    root = tmp_path / "rooms"
    root.mkdir()
    for number in range(3):
        cv2.imwrite(str(root / f"{number}.png"), np.full((20, 30, 3), 40 * number, np.uint8))
    prepare(root, tmp_path / "set", FrameOptions(**ALL_TRAIN), label_format="background")
    frames = open_frames(tmp_path / "set")
    assert (len(frames), frames.boxes.shape, frames.points.shape) == (3, (0, 4), (0, 5, 2))
    assert frames.faces(2) == slice(0, 0)
    assert frames.image(1)[0, 0, 0] == 40


def file(name, change):
    """Damages one file of a set."""
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def column(name, change):
    """Damages one column of the table, or removes it."""

    def damage(folder):
        with np.load(folder / "frames.npz") as table:
            columns = dict(table)
        columns[name] = change(columns[name])
        np.savez(folder / "frames.npz", **{key: value for key, value in columns.items() if value is not None})

    return damage


COLUMNS = ("split", "offset", "height", "width", "frame", "boxes", "points", "labelled", "ignore")
DAMAGES = {
    "pixels cut off": file("pixels.bin", lambda data: data[:-1]),
    "no pixels": file("pixels.bin", lambda data: b""),
    "table cut off": file("frames.npz", lambda data: data[:-200]),
    "no table": lambda folder: (folder / "frames.npz").unlink(),
    "another format": file("set.json", lambda data: json.dumps(json.loads(data) | {"format": 99}).encode()),
    "no counts": file("set.json", lambda data: data.replace(b'"counts"', b'"x"')),
    **{f"{name} shorter": column(name, lambda values: values[:-1]) for name in COLUMNS},
    **{f"no {name}": column(name, lambda values: None) for name in COLUMNS},
    **{f"{name} is one": column(name, lambda values: values[0]) for name in ("split", "frame")},
    **{f"{name} beyond": column(name, lambda values: values + 1) for name in ("frame", "offset")},
    **{
        f"{name} flat": column(name, lambda values: values.reshape(len(values), -1)[:, :2])
        for name in ("boxes", "points")
    },
    "frames backwards": column("frame", lambda values: values[::-1]),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Photos, and a frame set of them."""
    root = tmp_path_factory.mktemp("sound")
    prepare(make_photos(root / "photos", 4, faces=2), root / "set", FrameOptions())
    return root


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_set_says_so_in_one_line(sound, tmp_path, damage):
    out = tmp_path / "set"
    shutil.copytree(sound / "set", out)
    DAMAGES[damage](out)
    for attempt in (lambda: open_frames(out), lambda: prepare(sound / "photos", out, FrameOptions())):
        with pytest.raises(DataError, match="the frame set ") as raised:
            attempt()
        assert "\n" not in str(raised.value)
        assert str(out) in str(raised.value)
        assert raised.value.advice == "prepare it again with --force"


@pytest.mark.slow
def test_frames_on_the_command_line(heads, tmp_path, capsys):
    arguments = ["data", "prepare", str(heads), "--out", str(tmp_path / "set"), "--frames", "--test", "0"]
    assert main([*arguments, "--name", "masks", "--terms", "ours"]) == 0
    told = capsys.readouterr().err
    assert "prepared" in told
    assert "of 5 photos" in told
    assert "negatives" not in told
    info = open_frames(tmp_path / "set").info
    assert (info["name"], info["terms"], info["settings"]["boxes"]) == ("masks", "ours", HEAD)
    assert main([*arguments, "--name", "masks", "--terms", "ours"]) == 0
    assert "up to date" in capsys.readouterr().err
    assert main([*arguments, "--boxes", "face"]) == 1
    assert "--force" in capsys.readouterr().err
    assert main([*arguments, "--boxes", "face", "--force"]) == 0
    assert open_frames(tmp_path / "set").info["settings"]["boxes"] == "face"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--frames", "--negatives", "2"], "--negatives"),
        (["--boxes", "head"], "--frames"),
        (["--frames", "--boxes", "ears"], "--boxes must be one of face, head, points, not 'ears'"),
    ],
)
def test_wrong_combinations_are_a_wrong_command_line(heads, tmp_path, capsys, wrong, words):
    assert main(["data", "prepare", str(heads), "--out", str(tmp_path / "set"), *wrong]) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "set").exists()
