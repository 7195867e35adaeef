import cv2
import numpy as np
import pytest
from conftest import make_photos

from kpedge.cli.main import main
from kpedge.core.boxes import box_of_points
from kpedge.core.errors import DataError, UsageError
from kpedge.core.keypoints import FACES5, FACES21, FACES21_MEAN, conversion, scheme_named
from kpedge.core.scheme import KeypointScheme
from kpedge.data.check import OF_POINTS, check, label_preview
from kpedge.data.formats import FORMATS, matching_formats, read_format
from kpedge.data.formats.label import read_labels
from kpedge.data.packed import open_set
from kpedge.data.preparation import PrepareOptions, prepare

FROM_IBUG68 = conversion(scheme_named("ibug68"), FACES21).groups

PAIR = KeypointScheme("pair", ("a", "b"), ((0, 1),), (), {"all": (0, 1)}, None)


def to_ibug68(points):
    """68 points whose mapping gives these 21; the jaw, and what is left out, lie at 0."""
    full = np.zeros((68, 2))
    for point, group in zip(points, FROM_IBUG68, strict=True):
        full[list(group)] = point
    # points that stand in a mean as well as alone
    full[[37, 38, 40, 41]] = (6 * points[16] - points[6] - points[7]) / 4
    full[[43, 44, 46, 47]] = (6 * points[17] - points[8] - points[9]) / 4
    for point, index in ((6, 36), (7, 39), (8, 42), (9, 45)):
        full[index] = points[point]
    return full


@pytest.fixture
def ours(tmp_path):
    return read_labels(make_photos(tmp_path / "ours", 12), FACES21)


@pytest.fixture
def ibug(ours, tmp_path):
    root = tmp_path / "ibug"
    for folder, rows in (("training", ours.rows[:8]), ("test", ours.rows[8:])):
        (root / folder).mkdir(parents=True)
        lines = ["," + ",".join(map(str, range(136)))]
        for row in rows:
            (root / folder / row.photo).write_bytes((ours.root / row.photo).read_bytes())
            lines.append(",".join([row.photo, *(f"{value:.4f}" for value in to_ibug68(row.keypoints).ravel())]))
        (root / f"{folder}_frames_keypoints.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def mtfl(ours, tmp_path):
    root = tmp_path / "mtfl"
    (root / "faces").mkdir(parents=True)
    lines = []
    for row in ours.rows:
        (root / "faces" / row.photo).write_bytes((ours.root / row.photo).read_bytes())
        x, y = row.keypoints[16:].T
        lines.append(" ".join([f"faces\\{row.photo}", *(f"{value:.4f}" for value in (*x, *y))]))
    (root / "label.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def background(tmp_path):
    root = tmp_path / "background"
    (root / "deep").mkdir(parents=True)
    for number in range(10):
        picture = np.random.default_rng(number).integers(0, 255, (90, 120, 3), np.uint8)
        cv2.imwrite(str(root / "deep" / f"{number}.png"), picture)
    return root


@pytest.fixture
def heads(tmp_path):
    root = tmp_path / "heads"
    (root / "images").mkdir(parents=True)
    for name in ("a.png", "b, c.png"):
        cv2.imwrite(str(root / "images" / name), np.full((60, 80, 3), 90, np.uint8))
    rows = ["image,x1,y1,x2,y2,label", "a.png,1.5,2,31.5,40,with_mask", "a.png,-4,5,20,30", '"b, c.png",40,1,70,50,x,y']
    (root / "boxes.csv").write_text("\r\n".join(rows) + "\r\n")
    return root


def test_a_set_keeps_its_own_points(ours, ibug, mtfl, heads):
    assert [read_format(folder).scheme.name for folder in (ours.root, ibug, mtfl)] == ["faces21", "ibug68", "faces5"]
    assert read_format(ibug).rows[0].keypoints.shape == (68, 2)
    assert read_format(mtfl).rows[0].keypoints.shape == (5, 2)
    assert np.allclose(read_format(mtfl).rows[0].box, read_format(mtfl, FACES21).rows[0].box)
    assert np.allclose(read_format(ibug, FACES5).rows[0].keypoints[2], ours.rows[0].keypoints[18], atol=1e-3)
    assert read_format(heads).boxes_only


def test_68_points_become_21(ours, ibug):
    labels = read_format(ibug, FACES21)
    assert [row.photo for row in labels.rows[:2]] == ["training/000.png", "training/001.png"]
    assert labels.rows[0].where == "training_frames_keypoints.csv:2"
    assert labels.test == tuple(f"test/{number:03}.png" for number in range(8, 12))
    for row, own in zip(labels.rows, ours.rows, strict=True):
        assert np.allclose(row.keypoints, own.keypoints, atol=1e-3)
    assert len(FROM_IBUG68) == len(FACES21)


def test_five_points_lie_at_their_places_and_the_others_are_not_labelled(ours, mtfl):
    labels = read_format(mtfl, FACES21)
    assert labels.rows[3].photo == "faces/003.png"
    for row, own in zip(labels.rows, ours.rows, strict=True):
        assert np.allclose(row.keypoints[16:], own.keypoints[16:], atol=1e-3)
        assert np.isnan(row.keypoints[:16]).all()


def test_boxes_follow_from_the_points_as_in_faces21():
    """All points or five of them, upright or turned: the box of the mean face comes out, and is never turned."""
    for angle in (0.0, 0.3, -0.4):
        cos, sin = np.cos(angle), np.sin(angle)
        points = FACES21_MEAN @ np.array([[cos, sin], [-sin, cos]]) * 80 + (200, 150)
        whole, few = points.copy(), points.copy()
        few[:16] = np.nan
        for keypoints in (whole, few):
            box = box_of_points(keypoints)
            side = box[2] - box[0]
            assert side == pytest.approx(box[3] - box[1])
            assert side == pytest.approx(80, rel=0.04)
            if angle == 0:
                assert np.allclose((box[:2] + box[2:]) / 2, (200, 150), atol=2.4)
        middles = [(box[:2] + box[2:]) / 2 for box in (box_of_points(whole), box_of_points(few))]
        assert np.allclose(*middles, atol=0.5)


def test_the_format_is_told_from_the_folder(ours, ibug, mtfl, heads, background):
    assert matching_formats(ours.root, FACES21)[0] == "label"
    assert matching_formats(ibug, FACES21)[0] == "ibug68-csv"
    assert matching_formats(mtfl, FACES21)[0] == "mtfl"
    assert matching_formats(mtfl / "label.txt", FACES21)[0] == "mtfl"
    assert matching_formats(heads, FACES21)[0] == "boxes"
    assert matching_formats(heads / "boxes.csv", FACES21)[0] == "boxes"
    (ours.root / "boxes.csv").write_text("image,x1,y1,x2,y2\n")
    assert matching_formats(ours.root, FACES21)[0] == "label", "points say more than boxes"
    with pytest.raises(DataError, match=r"no label\.txt") as raised:
        read_format(background, FACES21)
    assert "--format background" in raised.value.advice


def test_a_format_that_does_not_fit_says_so(ours, ibug, mtfl, background, tmp_path):
    with pytest.raises(UsageError, match="--format must be one of") as raised:
        read_format(ours.root, FACES21, "yaml")
    assert all(name in str(raised.value) for name in FORMATS)
    for folder, name, own in ((ibug, "ibug68-csv", "68 of ibug68"), (mtfl, "mtfl", "5 of faces5")):
        with pytest.raises(UsageError, match=f"none of the 2 points of pair follows from the {own}"):
            read_format(folder, PAIR, name)
    with pytest.raises(UsageError, match="the objects of the format mtfl have no names"):
        read_format(mtfl, None, only=["face"])
    for folder, name in ((ours.root, "ibug68-csv"), (ibug, "mtfl"), (ibug, "boxes"), (tmp_path, "background")):
        root = tmp_path / "empty" if name == "background" else folder
        root.mkdir(exist_ok=True)
        with pytest.raises(DataError, match=f"no labels of the format {name}"):
            read_format(root, FACES21, name)
    with pytest.raises(DataError, match="labels faces"):
        read_format(ours.root, FACES21, "background")
    with pytest.raises(DataError, match="no such folder"):
        read_format(tmp_path / "nowhere", FACES21, "background")
    (mtfl / "label.txt").write_text("\n")
    with pytest.raises(DataError, match="the label file is empty"):
        read_format(mtfl, FACES21, "mtfl")


def test_boxes_without_points_are_read(heads):
    labels = read_format(heads, FACES21)
    assert labels.boxes_only
    assert [row.photo for row in labels.rows] == ["images/a.png", "images/a.png", "images/b, c.png"]
    assert [row.box.tolist() for row in labels.rows] == [[1.5, 2, 31.5, 40], [-4, 5, 20, 30], [40, 1, 70, 50]]
    assert [row.where for row in labels.rows] == ["boxes.csv:2", "boxes.csv:3", "boxes.csv:4"]
    assert all(row.keypoints.shape == (21, 2) and np.isnan(row.keypoints).all() for row in labels.rows)
    assert not labels.problems
    other = read_format(heads, PAIR, "boxes")
    assert other.rows[0].keypoints.shape == (2, 2), "a box belongs to no scheme"
    from_file = read_format(heads / "boxes.csv", FACES21)
    assert [row.photo for row in from_file.rows] == [row.photo for row in labels.rows]
    assert from_file.root == heads


def test_boxes_are_found_beside_photos_in_no_folder_of_their_own(heads):
    for photo in (heads / "images").iterdir():
        photo.rename(heads / photo.name)
    (heads / "images").rmdir()
    assert [row.photo for row in read_format(heads, FACES21).rows] == ["a.png", "a.png", "b, c.png"]
    report, _ = check(heads, FACES21)
    assert (report.photos, report.faces, len(report.problems)) == (2, 3, 0)
    (heads / "a.png").rename(heads / "c.png")
    report, _ = check(heads, FACES21)
    assert [str(problem) for problem in report.problems] == ["boxes.csv:2: a.png: no such photo (2 faces)"]


def test_check_copes_with_boxes_without_points(heads, tmp_path, capsys):
    report, labels = check(heads, FACES21)
    assert (report.photos, report.faces, report.roll_deg) == (2, 3, {})
    assert not set(report.notes) & set(OF_POINTS), "there are no points to speak of"
    assert label_preview(labels, count=3, side=60).shape[2] == 3
    assert main(["data", "check", str(heads)]) == 0
    assert main(["data", "prepare", str(heads), "--format", "boxes", "--out", str(tmp_path / "set")]) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "labels boxes and no points" in told
    assert "--frames" in told


def test_points_that_are_not_labelled_are_nan_in_the_set_and_its_lists(mtfl, tmp_path):
    prepare(mtfl, tmp_path / "set", PrepareOptions(scheme=FACES21))
    prepared = open_set(tmp_path / "set")
    faces = prepared.keypoints[prepared.face == 1]
    assert np.isnan(faces[:, :16]).all()
    assert np.isfinite(faces[:, 16:]).all()
    rows = [line.split() for line in (tmp_path / "set" / "train.txt").read_text().splitlines()]
    labelled = [row for row in rows if row[-1] == "1"]
    assert all(row[5:37] == ["nan"] * 32 and np.isfinite(np.array(row[37:47], float)).all() for row in labelled)


def test_check_copes_with_points_that_are_not_labelled(mtfl):
    report, labels = check(mtfl, FACES21)
    assert report.notes["faces with points not labelled"] == 12
    assert report.notes["faces with a point beyond the photo"] == 0
    assert -30 < report.roll_deg["p5"] < report.roll_deg["p95"] < 30
    assert label_preview(labels, count=4, side=120).shape[2] == 3


def test_photos_without_a_face_give_negatives_alone(background, tmp_path):
    (background / "broken.png").write_bytes(b"")
    report = prepare(background, tmp_path / "set", PrepareOptions(test=0), label_format="background")
    assert report.counts["train"] == {"photos": 9, "faces": 0, "negatives": 72}
    assert [(p.kind, p.where) for p in report.problems] == [("unreadable photo", "broken.png")]
    assert len(open_set(tmp_path / "set").indices("train")) == 0
    with pytest.raises(DataError, match="nothing is left to train on"):
        prepare(background, tmp_path / "none", PrepareOptions(negatives=0), label_format="background")
    found, _ = check(background, FACES21, label_format="background")
    assert (found.photos, found.faces, found.rows, len(found.problems)) == (11, 0, 0, 1)


def test_formats_and_negatives_on_the_command_line(background, mtfl, tmp_path, capsys):
    arguments = ["data", "prepare", str(background), "--out", str(tmp_path / "set"), "--negatives", "2", "--test", "0"]
    assert main(arguments) == 1
    assert "--format background" in capsys.readouterr().err
    assert main([*arguments, "--format", "background"]) == 0
    assert "train 0 faces and 18 negatives of 9 photos" in capsys.readouterr().err
    assert main(["data", "check", str(background), "--format", "background"]) == 0
    assert main(["data", "check", str(mtfl), "--format", "auto", "--json"]) == 0
    assert main(["data", "check", str(mtfl), "--format", "yaml"]) == 2
    assert "--format must be one of" in capsys.readouterr().err
