"""What importing somebody else's labels gets wrong, and whether `data check` says so."""

import json

import cv2
import numpy as np
import pytest
from conftest import make_photos, turned_jpeg

from kpedge.cli.main import main
from kpedge.core.errors import ImageError
from kpedge.core.keypoints import FACES21, FACES21_MEAN
from kpedge.core.model_zoo import sample_photo
from kpedge.data.check import check, label_preview
from kpedge.data.convert import convert
from kpedge.data.face_shape import ODD, fit_mean_face
from kpedge.data.formats import read_format
from kpedge.data.formats.label import format_row, read_labels
from kpedge.data.photos import PhotoHead, read_head


@pytest.fixture
def folder(tmp_path):
    return make_photos(tmp_path / "photos", 14)


def rewrite(folder, change, scheme=None):
    """Write a folder's labels anew, with `change(box, points, width, height)` of each."""
    labels = read_labels(folder, FACES21)
    rows = [format_row(row.photo, *change(row.box.copy(), row.keypoints.copy(), 320, 240)) for row in labels.rows]
    (folder / "label.txt").write_text("\n".join(rows) + "\n")
    if scheme:
        (folder / "scheme.toml").write_text(scheme)


def kinds(folder, **options):
    return [finding.kind for finding in check(folder, **options)[0].findings]


def swapped(points):
    return points[FACES21.mirror_order]


def test_labels_that_are_right_are_not_complained_about(folder):
    report, _ = check(folder)
    assert report.findings == ()
    assert report.reading == ()
    assert (report.format, report.scheme, report.points, report.convention) == ("label", "faces21", 21, "face")
    for target in ("coco", "pts", "mtfl", "yolo", "voc", "boxes", "course-lists"):
        convert(folder, folder.parent / target, target)
        assert kinds(folder.parent / target) == [], target


def test_copies_of_rows(folder):
    lines = (folder / "label.txt").read_text().splitlines()
    (folder / "label.txt").write_text("\n".join([*lines, lines[0], lines[3]]) + "\n")
    (finding,) = check(folder)[0].findings
    assert (finding.kind, finding.message[0], finding.certain) == ("copies", "2", False)


def change_order(points):
    return points[np.random.default_rng(3).permutation(21)]


def swap_nose_wings(points):
    return points[[*range(10), 12, 11, 10, *range(13, 21)]]


def swap_brows_and_eyes(points):
    order, brows, eyes = np.arange(21), [0, 1, 2, 3, 4, 5], [6, 16, 7, 8, 17, 9]
    order[brows], order[eyes] = eyes, brows
    return points[order]


def leave_zeros(points):
    points[3:5] = 0
    return points


def rotate(box, points, width, height):
    size = np.array([width, height]) - 1
    return np.concatenate([size - box[2:], size - box[:2]]), size - points


def count_from_below(box, points, _, height):
    points[:, 1] = height - 1 - points[:, 1]
    return np.array([box[0], height - 1 - box[3], box[2], height - 1 - box[1]]), points


def divide(box, points, width, height):
    size = np.array([width, height])
    return (box.reshape(2, 2) / size).ravel(), points / size


def widen(box, points, *_):
    return np.concatenate([points.min(axis=0) - 40, points.max(axis=0) + 40]), points


def only(change):
    """A change of the points alone."""
    return lambda box, points, *_: (box, change(points))


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (only(swapped), "swapped", "the image's here, not the person's"),
        (only(change_order), "order", "scheme.toml"),
        (only(swap_brows_and_eyes), "parts", "in another order"),
        (only(swap_nose_wings), "swapped", "nose_left_wing (10) and nose_right_wing (12)"),
        (only(leave_zeros), "zeros", ""),
        (only(lambda points: np.full_like(points, np.nan)), "no points", ""),
        (rotate, "turned", ""),
        (count_from_below, "flipped", ""),
        (divide, "fractions", "multiply x by its width"),
        (widen, "boxes of another rule", "--boxes points"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_with_labels_is_found(folder, change, kind, words):
    rewrite(folder, change)
    findings = {finding.kind: finding for finding in check(folder)[0].findings}
    assert kind in findings
    assert words in str(findings[kind])


def test_sides_are_told_from_names_that_say_nothing_else(folder):
    names = [point.replace("left", "l").replace("right", "r") + "_x" for point in FACES21.points]
    scheme = f"points = {json.dumps(names)}\n"
    rewrite(folder, lambda box, points, *_: (box, points), scheme)
    assert kinds(folder) == []
    rewrite(folder, lambda box, points, *_: (box, swapped(points)))
    assert kinds(folder) == ["swapped"]


def test_x_and_y_that_have_changed_places(folder):
    rewrite(folder, lambda box, points, *_: (box[[1, 0, 3, 2]], points[:, ::-1]))
    assert kinds(folder), "a transposed face is a mirrored one, turned"


def test_photos_that_were_made_smaller_or_larger_after_labelling(folder):
    for path in folder.glob("*.png"):
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (120, 90)))
    found = kinds(folder)
    assert "beyond photos" in found or "boxes beyond photos" in found
    for path in folder.glob("*.png"):
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (900, 700)))
    assert kinds(folder) == ["upper left"]


def test_boxes_of_x_y_width_height(folder):
    rewrite(folder, lambda box, points, *_: (np.array([*box[:2], *(box[:2] + (box[2:] - box[:2]) / 9)]), points))
    assert "boxes elsewhere" in kinds(folder)
    rows = [line.split()[:5] for line in (folder / "label.txt").read_text().splitlines()]
    (folder / "boxes.csv").write_text("\n".join(f"{name},{x1},{y1},30,40" for name, x1, y1, *_ in rows))
    report, _ = check(folder, label_format="boxes")
    assert [finding.kind for finding in report.findings] == ["width and height"]


def test_one_face_unlike_the_others(folder):
    rows = (folder / "label.txt").read_text().splitlines()
    name, *numbers = rows[5].split()
    points = np.array(numbers[4:], float).reshape(21, 2)
    rows[5] = format_row(name, np.array(numbers[:4], float), points[::-1])
    (folder / "label.txt").write_text("\n".join(rows))
    report, _ = check(folder)
    assert [(remark.kind, remark.where) for remark in report.remarks if remark.kind == "odd face"] == [
        ("odd face", "label.txt:6")
    ]
    assert report.findings == ()


def test_sizes_that_the_file_tells_otherwise(folder, tmp_path):
    convert(folder, tmp_path / "coco", "coco")
    file = tmp_path / "coco" / "annotations.json"
    document = json.loads(file.read_text())
    for image in document["images"]:
        image["width"], image["height"] = 640, 480
    file.write_text(json.dumps(document))
    (finding,) = check(tmp_path / "coco")[0].findings
    assert "14 of 14 photos have another size than labelled: 000.png is 320x240, the labels say 640x480" in str(finding)
    for image in document["images"]:
        image["width"], image["height"] = 240, 320
    file.write_text(json.dumps(document))
    (finding,) = check(tmp_path / "coco")[0].findings
    assert "remove the EXIF tag" in finding.advice


def test_labels_that_count_the_picture_as_a_viewer_turns_it(tmp_path):
    """The sample is stored on its side with a tag that turns it upright; its labels are those of the upright one."""
    sample = sample_photo()
    upright = cv2.imread(str(sample))
    stored = cv2.rotate(upright, cv2.ROTATE_90_COUNTERCLOCKWISE)
    data = turned_jpeg(cv2.imencode(".jpg", stored)[1].tobytes())
    (tmp_path / sample.name).write_bytes(data)
    (tmp_path / "label.txt").write_text((sample.parent / "label.txt").read_text())
    assert read_head(tmp_path / sample.name) == PhotoHead(stored.shape[1], stored.shape[0], 6)
    assert "EXIF" in kinds(tmp_path)
    labels = read_labels(tmp_path, FACES21)
    row = labels.rows[0]
    width = upright.shape[1]

    def turn(points):
        return np.stack([points[:, 1], width - 1 - points[:, 0]], axis=1)

    corners = turn(row.box.reshape(2, 2))
    box = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
    (tmp_path / "label.txt").write_text(format_row(row.photo, box, turn(row.keypoints)))
    assert "EXIF" not in kinds(tmp_path), "now they count the stored picture"


def test_heads_of_pictures_are_read_without_decoding(tmp_path):
    picture = np.zeros((31, 47, 3), np.uint8)
    for ending in ("png", "jpg", "bmp", "webp"):
        path = tmp_path / f"a.{ending}"
        cv2.imwrite(str(path), picture)
        assert read_head(path) == PhotoHead(47, 31), ending
    jpeg = (tmp_path / "a.jpg").read_bytes()
    for name, data in {"empty": b"", "text": b"no picture", "cut": jpeg[:40]}.items():
        (tmp_path / f"{name}.jpg").write_bytes(data)
        with pytest.raises(ImageError):
            read_head(tmp_path / f"{name}.jpg")
    (tmp_path / "odd.jpg").write_bytes(turned_jpeg(jpeg)[:20] + b"\xff" * 8 + turned_jpeg(jpeg)[28:])
    with pytest.raises(ImageError):
        read_head(tmp_path / "nowhere.jpg")


def test_the_mean_face_fits_itself_turned_and_mirrored():
    angle = 0.4
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    faces = np.stack([FACES21_MEAN * 50 + 9, FACES21_MEAN @ turn * 7, FACES21_MEAN[FACES21.mirror_order]])
    few = np.full((1, 21, 2), np.nan)
    few[0, :3] = FACES21_MEAN[:3]
    fits = fit_mean_face(np.concatenate([faces, few]))
    assert np.allclose(fits.residual[:2], 0, atol=1e-6)
    assert np.allclose(fits.roll[:2], [0, angle])
    assert fits.mirrored[2] < 0.2 < ODD < fits.residual[2]
    assert np.isnan(fits.residual[3]), "three points fit too well"


@pytest.mark.parametrize("points", [1, 31, 68])
def test_the_sheet_draws_any_number_of_points(tmp_path, points):
    lines = "\n".join(f"{20 + k} {30 + k * k % 37}" for k in range(points))
    (tmp_path / "a.pts").write_text(f"version: 1\nn_points: {points}\n{{\n{lines}\n}}\n")
    cv2.imwrite(str(tmp_path / "a.png"), np.full((90, 120, 3), 90, np.uint8))
    labels = read_format(tmp_path)
    if points == 1:
        assert [problem.kind for problem in labels.problems] == ["points"]
        return
    preview = label_preview(labels)
    assert preview.shape[1] > 420
    assert len(np.unique(preview.reshape(-1, 3), axis=0)) > 100


def test_check_says_what_it_read_and_what_is_implausible(folder, capsys, tmp_path):
    rewrite(folder, lambda box, points, *_: (box, swapped(points)))
    assert main(["data", "check", str(folder), "--preview", str(tmp_path / "preview.png")]) == 0
    told = capsys.readouterr()
    assert "21 (faces21)" in told.out
    assert "warning: left and right look swapped in faces21 — left and right are the image's" in told.err
    assert (tmp_path / "preview.png").is_file()
    assert main(["data", "check", str(folder), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["findings"][0]["kind"] == "swapped"
    assert main(["data", "check", str(folder), "--scheme", "faces5"]) == 0
    assert "5 (faces5)" in capsys.readouterr().out
    assert main(["data", "check", str(folder), "--label", "face"]) == 2
    assert "have no names" in capsys.readouterr().err
