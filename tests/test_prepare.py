import math

import numpy as np
import pytest
from conftest import COUNT, make_photos
from hypothesis import given
from hypothesis import strategies as st

from kpedge.cli.main import main
from kpedge.core.boxes import POINTS
from kpedge.core.errors import DataError, OutputError, StaleSetError, UsageError
from kpedge.core.geometry import CropRule, crop, crop_transform, pixels_to_fractions, transform_points
from kpedge.core.images import read_image, write_image
from kpedge.data import storage
from kpedge.data.frames import open_frames
from kpedge.data.packed import open_set
from kpedge.data.preparation import FrameOptions, PrepareOptions, prepare
from kpedge.data.sampling import CropSampler, labelled_fractions
from kpedge.data.split import split_photos


def faces_of(prepared):
    return np.flatnonzero(prepared.face == 1)


@pytest.fixture
def folder(tmp_path):
    return make_photos(tmp_path / "photos", 12, faces=2)


def test_crops_from_the_set_are_those_from_the_photos_to_the_last_bit(prepared, photos):
    sampler = CropSampler(prepared, 112, "bgr", CropRule())
    crops, points = sampler.batch(np.arange(len(prepared)))
    for index in range(len(prepared)):
        photo = read_image(photos / prepared.photos[prepared.photo[index]])
        way = crop_transform(prepared.boxes[index], 112, CropRule())
        assert (crops[index] == crop(photo, way, 112)).all()
        expected = pixels_to_fractions(transform_points(way, prepared.keypoints[index]), 112)
        assert np.allclose(points[index], expected, atol=1e-6, equal_nan=True)
    faces = faces_of(prepared)
    assert np.allclose(points[faces], labelled_fractions(prepared, faces, CropRule()), atol=1e-6)


@pytest.mark.skipif(math.isinf(storage.LARGE), reason="this system takes no advice about memory maps")
def test_a_set_larger_than_memory_is_read_image_by_image(prepared, monkeypatch):
    regions = [prepared.region(row).copy() for row in range(len(prepared))]
    monkeypatch.setattr(storage, "LARGE", 1)
    large = open_set(prepared.path)
    assert storage._large_map(large.pixels) is not None
    for row, region in enumerate(regions):
        assert (large.region(row) == region).all()


def test_the_set_says_what_it_holds(prepared):
    info = prepared.info
    assert info["terms"] == "made by the tests"
    assert sum(part["faces"] for part in info["counts"].values()) == len(faces_of(prepared)) == COUNT
    assert sum(part["negatives"] for part in info["counts"].values()) == len(prepared) - COUNT
    for split, part in info["counts"].items():
        faces, negatives = prepared.indices(split), prepared.negatives(split)
        assert (len(faces), len(negatives)) == (part["faces"], part["negatives"])
        assert np.isfinite(prepared.keypoints[faces]).all()
        assert np.isnan(prepared.keypoints[negatives]).all()
        assert set(prepared.photo[negatives]) <= set(prepared.photo[faces]), "a photo stands on one side"
    assert (np.diff(prepared.face.astype(int)) <= 0).all(), "faces come first"
    for rows in (prepared.indices, prepared.negatives):
        with pytest.raises(UsageError, match="no split"):
            rows("holdout")


def test_a_set_of_an_older_format_says_what_to_do(folder, tmp_path):
    prepare(folder, tmp_path / "set")
    file = tmp_path / "set" / "set.json"
    file.write_text(file.read_text().replace('"format": 2', '"format": 1'))
    for attempt in (lambda: open_set(tmp_path / "set"), lambda: prepare(folder, tmp_path / "set")):
        with pytest.raises(DataError, match="another format") as raised:
            attempt()
        assert raised.value.advice == "prepare it again with --force"
    assert prepare(folder, tmp_path / "set", force=True).written
    assert open_set(tmp_path / "set").info["format"] == 2


def test_the_crops_side_is_a_flag_and_advice_names_the_photos(folder, tmp_path, capsys):
    assert main(["data", "prepare", str(folder), "--out", str(tmp_path / "set"), "--crop-size", "64"]) == 0
    assert open_set(tmp_path / "set").info["settings"]["size"] == 64
    assert main(["data", "prepare", str(folder), "--out", str(tmp_path / "b"), "--crop-size", "64", "--frames"]) == 2
    capsys.readouterr()
    assert main(["data", "preview", str(folder), "--out", str(tmp_path / "a.png")]) == 1
    assert f"kpedge data prepare {folder} --out data/{folder.name}" in capsys.readouterr().err


def test_near_duplicates_stay_together(folder, tmp_path):
    text = (folder / "label.txt").read_text()
    before = prepare(folder, tmp_path / "before", PrepareOptions(validation=0.3, test=0.3, negatives=0))
    for number in range(6):
        image = read_image(folder / f"{number:03}.png")
        write_image(folder / f"copy{number:03}.jpg", image if number % 2 else np.ascontiguousarray(image[:, ::-1]))
    rows = [line for line in text.splitlines() if int(line[:3]) < 6]
    copies = [f"copy{row}".replace(".png", ".jpg") for row in rows]
    (folder / "label.txt").write_text(text + "\n".join(copies) + "\n")
    report = prepare(folder, tmp_path / "set", PrepareOptions(validation=0.3, test=0.3, negatives=0), trust=True)
    prepared = open_set(tmp_path / "set")
    splits = {}
    for photo, split in zip(prepared.photo, prepared.split, strict=True):
        splits.setdefault(prepared.photos[photo].removeprefix("copy")[:3], set()).add(int(split))
    assert all(len(found) == 1 for found in splits.values())
    assert any("6 photos" in remark for remark in report.remarks)
    assert not before.remarks


def test_photos_that_are_all_alike_are_split_all_the_same(tmp_path):
    folder = make_photos(tmp_path / "photos", 1)
    image, row = read_image(folder / "000.png"), (folder / "label.txt").read_text().split(None, 1)[1]
    for number in range(8):
        write_image(folder / f"{number}.jpg", np.clip(image.astype(int) + number, 0, 255).astype(np.uint8))
    (folder / "label.txt").write_text("".join(f"{number}.jpg {row.strip()}\n" for number in range(8)))
    report = prepare(folder, tmp_path / "set", PrepareOptions(validation=0.3, test=0.3, negatives=0))
    assert all(counts["faces"] for counts in report.counts.values())
    assert any("say little" in remark for remark in report.remarks)


hashes = st.dictionaries(
    st.text(min_size=1, max_size=5), st.text("abcdef", min_size=4, max_size=4), min_size=4, max_size=40
)


@given(hashes, st.integers(0, 5), st.randoms())
def test_the_split_depends_on_seed_and_content_alone(content, seed, random):
    if len(set(content.values())) < 4:
        return
    first = split_photos(content, seed=seed, validation=0.2, test=0.2)
    items = list(content.items())
    random.shuffle(items)
    renamed = {f"{name}x": digest for name, digest in items}
    again = split_photos(renamed, seed=seed, validation=0.2, test=0.2)
    assert {f"{name}x": split for name, split in first.items()} == again


def test_a_test_list_is_honoured(folder, tmp_path):
    (folder / "test_images.txt").write_text("003.png\n007.png\n")
    prepare(folder, tmp_path / "set")
    prepared = open_set(tmp_path / "set")
    assert {prepared.photos[i] for i in prepared.photo[prepared.indices("test")]} == {"003.png", "007.png"}
    (folder / "test_images.txt").write_text("nowhere.png\n")
    with pytest.raises(DataError, match=r"test_images.txt:1: nowhere.png neither exists in .* nor is labelled"):
        prepare(folder, tmp_path / "other")


def test_a_listed_photo_without_a_readable_row_is_named_and_left_out(tmp_path):
    folder = make_photos(tmp_path / "photos", 8)
    rows = (folder / "label.txt").read_text().splitlines()
    (folder / "label.txt").write_text("\n".join([f"{rows[0]}x", *rows[1:]]))
    (folder / "test_images.txt").write_text("./001.png\n000.png\n001.png\n")
    report = prepare(folder, tmp_path / "set")
    assert [str(problem) for problem in report.problems] == [
        "label.txt:1: column 47 is '" + rows[0].split()[-1] + "x', not a number",
        "test_images.txt:2: 000.png has no readable row",
    ]
    assert report.counts["test"] == {"photos": 1, "faces": 1, "negatives": 3}


def test_a_link_to_a_set_stays_a_link(folder, tmp_path):
    prepare(folder, tmp_path / "set")
    (tmp_path / "link").symlink_to(tmp_path / "set")
    prepare(folder, tmp_path / "link", PrepareOptions(seed=5), force=True)
    assert (tmp_path / "link").is_symlink()
    assert open_set(tmp_path / "set").info["settings"]["seed"] == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "photos", "set"]


# Crops and frames alike

KINDS = pytest.mark.parametrize(("options", "opened"), [(PrepareOptions, open_set), (FrameOptions, open_frames)])


@KINDS
def test_a_second_run_does_nothing_and_a_stale_set_says_so(folder, tmp_path, options, opened):
    out = tmp_path / "set"
    assert prepare(folder, out, options()).written
    before = {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in out.iterdir()}
    again = prepare(folder, out, options())
    assert not again.written
    assert again.counts == opened(out).info["counts"]
    assert {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in out.iterdir()} == before
    for other in (options(seed=1), options(boxes=POINTS), options(terms="mine")):
        with pytest.raises(StaleSetError, match="other photos, labels or settings"):
            prepare(folder, out, other)
    (folder / "unlabelled_faces.csv").write_text("image,x1,y1,x2,y2,score\n000.png,1,1,9,9,1\n")
    with pytest.raises(StaleSetError):
        prepare(folder, out, options())
    assert prepare(folder, out, options(), force=True).written
    with (folder / "label.txt").open("a") as file:
        file.write("000.png 1 2 3\n")
    with pytest.raises(StaleSetError):
        prepare(folder, out, options())


@KINDS
def test_what_is_broken_is_named_and_left_out_or_stops_a_strict_run(folder, tmp_path, options, opened):
    (folder / "000.png").unlink()
    (folder / "001.png").write_bytes((folder / "001.png").read_bytes()[:300])
    (folder / "002.png").write_bytes(b"")
    with (folder / "label.txt").open("a") as file:
        file.write("003.png 900 900 950 950 " + "920 " * 42 + "\n")
        file.write("003.png 1 2\n")
    report = prepare(folder, tmp_path / "set", options())
    kinds = sorted(problem.kind for problem in report.problems)
    assert kinds == ["box outside photo", "columns", "missing photo", "unreadable photo", "unreadable photo"]
    assert sum(part["faces"] for part in report.counts.values()) == 24 - 6
    boxes = opened(tmp_path / "set").boxes
    assert boxes.max() < 400, "a face beyond its photo would be learnt on black"
    assert prepare(folder, tmp_path / "set", options()).problems == report.problems, "a no-op tells the same"
    for out in ("set", "strict"):
        with pytest.raises(DataError, match=r"label.txt:26: 3 columns.*and \d more"):
            prepare(folder, tmp_path / out, options(), strict=True)
    assert not (tmp_path / "strict").exists()
    for photo in folder.glob("*.png"):
        photo.write_bytes(b"no photo")
    with pytest.raises(DataError, match="nothing in it can be used"):
        prepare(folder, tmp_path / "none", options())
    assert not (tmp_path / "none").exists()


@KINDS
def test_nothing_is_left_when_preparing_fails(folder, tmp_path, monkeypatch, options, opened):
    def full(*arguments, **columns):
        raise OSError(28, "No space left")

    monkeypatch.setattr("kpedge.data.storage.np.savez", full)
    with pytest.raises(OutputError, match="No space left"):
        prepare(folder, tmp_path / "set", options())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]


@KINDS
def test_another_folder_is_not_touched(folder, tmp_path, options, opened):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    prepare(folder, tmp_path / "other", (FrameOptions if options is PrepareOptions else PrepareOptions)())
    for name in ("mine", "other"):
        with pytest.raises(OutputError, match="exists and is not a"):
            prepare(folder, tmp_path / name, options(), force=True)
        with pytest.raises(DataError, match="not a") as raised:
            opened(tmp_path / name)
        assert ("--frames" in raised.value.advice) == (options is FrameOptions)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


@pytest.mark.parametrize("damage", ["pixels.bin", "faces.npz", "set.json"])
def test_a_damaged_set_says_so(folder, tmp_path, damage):
    prepare(folder, tmp_path / "set")
    path = tmp_path / "set" / damage
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"damaged|cannot be read"):
        open_set(tmp_path / "set")
