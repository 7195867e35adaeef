"""Photos that leak from one split into another."""

import cv2
import numpy as np
import pytest
from conftest import make_photos, rendered

from kpedge.core.geometry import Image
from kpedge.core.images import read_image
from kpedge.core.keypoints import FACES21
from kpedge.data.check import check
from kpedge.data.formats.label import read_labels
from kpedge.data.leaks import find_pairs, near_duplicates, splits_of, thumbnail


def shrunk(image: Image) -> Image:
    return cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def compressed(image: Image) -> Image:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_COLOR)


def brighter(image: Image) -> Image:
    return cv2.convertScaleAbs(image, alpha=1.1, beta=10)


def noisy(image: Image) -> Image:
    noise = np.random.default_rng(0).normal(0, 8, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def mirrored(image: Image) -> Image:
    return np.ascontiguousarray(image[:, ::-1])


@pytest.fixture(scope="module")
def images():
    """Twenty different photos."""
    return {f"{number:02}.jpg": rendered(number).image for number in range(20)}


@pytest.mark.parametrize("change", [shrunk, compressed, brighter, noisy, mirrored], ids=lambda change: change.__name__)
def test_a_changed_copy_is_found_and_no_other_photo(images, change):
    thumbnails = {name: thumbnail(image) for name, image in images.items()}
    thumbnails |= {f"copy-{name}": thumbnail(change(image)) for name, image in list(images.items())[:8]}
    expected = {(name, f"copy-{name}", change is mirrored) for name in list(images)[:8]}
    assert set(near_duplicates(thumbnails)) == expected


def test_plain_images_are_no_duplicates():
    plain = {str(level): thumbnail(np.full((50, 60, 3), level, np.uint8)) for level in (0, 128, 255)}
    assert near_duplicates(plain) == []


def test_check_names_what_leaks_into_the_test_split(tmp_path):
    folder = make_photos(tmp_path / "photos", 6)
    rows = (folder / "label.txt").read_text().splitlines()
    cv2.imwrite(str(folder / "copy.jpg"), compressed(read_image(folder / "000.png")))
    rows.append(rows[0].replace("000.png", "copy.jpg"))
    (folder / "label.txt").write_text("\n".join(rows) + "\n")
    report, _ = check(folder, FACES21)
    assert [finding for finding in report.findings if finding.kind == "leak"] == [], "there are no splits"
    assert report.notes["pairs of photos that show nearly the same"] == 1
    (tmp_path / "test.txt").write_text("000.png\n001.png\n")
    report, _ = check(folder, FACES21, test_list=tmp_path / "test.txt")
    (finding,) = (finding for finding in report.findings if finding.kind == "leak")
    assert "1 of 2 photos" in finding.message
    assert "000.png" in finding.message
    assert "copy.jpg" in finding.message
    assert [remark.where for remark in report.remarks if remark.kind == "leak"] == ["000.png"]


def test_a_photo_in_two_lists_leaks(tmp_path):
    folder = make_photos(tmp_path / "photos", 4)
    rows = (folder / "label.txt").read_text().splitlines()
    (folder / "label.txt").unlink()
    for split, chosen in (("train", rows[:3]), ("test", rows[2:])):
        (folder / split).mkdir()
        (folder / split / "label.txt").write_text("\n".join(chosen) + "\n")
        for row in chosen:
            name = row.split()[0]
            (folder / split / name).write_bytes((folder / name).read_bytes())
    labels = read_labels(folder)
    splits = splits_of(labels)
    assert splits["train/000.png"] == ("train",)
    assert splits["test/003.png"] == ("test",)
    thumbnails = {photo: thumbnail(read_image(folder / photo)) for photo in splits}
    (pair,) = find_pairs(thumbnails, splits)
    assert ({pair.photo, pair.other}, pair.leaks) == ({"train/002.png", "test/002.png"}, True)
    (same,) = find_pairs({}, {"a.jpg": ("test", "train")})
    assert (same.kind, same.leaks) == ("same photo", True)
