"""COCO keypoints as different tools write them."""

import json

import numpy as np
import pytest
from conftest import noise_photo

from kpedge.core.boxes import HEAD, POINTS, box_of_points
from kpedge.core.errors import DataError, UsageError
from kpedge.core.keypoints import FACES5, FACES21, FACES21_MEAN, convert_points, scheme_named
from kpedge.data.check import check
from kpedge.data.formats import matching_formats, read_format
from kpedge.data.packed import open_set
from kpedge.data.preparation import FrameOptions, PrepareOptions, prepare

EYES = ["left_eye", "right_eye", "nose_tip"]


def document(names=EYES, annotations=(), images=None, **category):
    points = [40, 50, 2, 80, 52, 2, 60, 70, 2]
    annotations = annotations or [{"image_id": 7, "keypoints": points, "bbox": [30, 40, 60, 50], "num_keypoints": 3}]
    return {
        "images": images or [{"id": 7, "file_name": "a.png", "width": 160, "height": 120}],
        "annotations": [{"id": n, "category_id": 3, **one} for n, one in enumerate(annotations, 1)],
        "categories": [{"id": 3, "name": "face", **({"keypoints": names} if names else {}), **category}],
    }


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_points_are_pixel_indices_and_boxes_count_edges(tmp_path):
    noise_photo(tmp_path / "images" / "a.png")
    write(tmp_path / "annotations" / "instances_default.json", document(skeleton=[[1, 2], [2, 3]]))
    labels = read_format(tmp_path)
    (row,) = labels.rows
    assert (labels.format, row.photo, labels.convention, labels.boxes_only) == ("coco", "images/a.png", POINTS, False)
    assert row.keypoints.tolist() == [[40, 50], [80, 52], [60, 70]]
    assert row.box.tolist() == [29.5, 39.5, 89.5, 89.5]
    assert row.visible is None
    assert labels.scheme.points == tuple(EYES)
    assert labels.scheme.skeleton == ((0, 1), (1, 2))
    assert labels.scheme.mirror == ((0, 1),)
    assert labels.sizes == {"images/a.png": (160, 120)}


@pytest.mark.parametrize(
    ("json_place", "photo_place", "file_name"),
    [
        ("annotations/person_keypoints_default.json", "images/default/a.png", "a.png"),  # CVAT, images/SUBSET
        ("annotations/person_keypoints_train2017.json", "train2017/a.png", "a.png"),  # COCO
        ("annotations/person_keypoints_val2017.json", "images/val2017/a.png", "a.png"),
        ("labels.json", "data/a.png", "a.png"),  # FiftyOne
        ("result.json", "images/3f2a-a.png", "images\\3f2a-a.png"),  # Label Studio on Windows
        ("result.json", "deep/er/a.png", "/data/local-files/?d=deep/er/a.png"),  # Label Studio, local files
        ("result.json", "images/a b.png", "https://host.example/up/a%20b.png?size=full"),
        ("annotations.json", "set/a.png", "datasets/mine/set/a.png"),  # COCO Annotator's `path`
        ("train/_annotations.coco.json", "train/a_png.rf.0f.png", "a_png.rf.0f.png"),  # Roboflow
        ("export.json", "a.png", "C:\\photos\\set\\a.png"),
    ],
)
def test_photos_are_found_where_tools_put_them(tmp_path, json_place, photo_place, file_name):
    noise_photo(tmp_path / photo_place)
    write(tmp_path / json_place, document(images=[{"id": 7, "file_name": file_name}]))
    assert matching_formats(tmp_path)[0] == "coco"
    labels = read_format(tmp_path)
    assert [row.photo for row in labels.rows] == [photo_place]
    assert check(tmp_path)[0].problems == ()


def test_a_file_can_be_given_itself(tmp_path):
    noise_photo(tmp_path / "images" / "a.png")
    file = write(tmp_path / "annotations" / "x.json", document())
    labels = read_format(file)
    assert (labels.root, labels.rows[0].photo, labels.files) == (tmp_path, "images/a.png", ("annotations/x.json",))


def test_names_of_a_known_scheme_are_that_scheme(tmp_path):
    names = [point.replace("_", " ").title() for point in FACES21.points]
    points = [value for point in FACES21_MEAN * 60 + 70 for value in (*point, 2)]
    write(tmp_path / "a.json", document(names, [{"image_id": 7, "keypoints": points}]))
    labels = read_format(tmp_path)
    assert labels.scheme == FACES21
    assert np.allclose(labels.rows[0].box, box_of_points(FACES21_MEAN * 60 + 70)), "no bbox: it follows from the points"
    five = read_format(tmp_path, FACES5)
    assert np.allclose(five.rows[0].keypoints, convert_points(FACES21_MEAN * 60 + 70, FACES21, FACES5))


def test_known_names_in_another_order_are_told_by_name(tmp_path):
    names = ["nose_tip", "Left Pupil", "right-pupil", "mouth_left_corner", "mouth_right_corner", "hat"]
    points = [value for n in range(6) for value in (10 + n, 20 + n, 2)]
    write(tmp_path / "a.json", document(names, [{"image_id": 7, "keypoints": points}]))
    labels = read_format(tmp_path)
    assert labels.scheme.mirror == ((1, 2), (3, 4))
    assert read_format(tmp_path, FACES5).rows[0].keypoints[:, 0].tolist() == [11, 12, 10, 13, 14]


def test_numbers_for_names_keep_their_skeleton_and_can_be_given_a_scheme(tmp_path):
    names = [str(number) for number in range(1, 69)]
    points = [value for n in range(68) for value in (10 + n, 20 + n % 7, 2)]
    content = document(names, [{"image_id": 7, "keypoints": points}], skeleton=[[0, 1], [66, 67], [3, 99], "x"])
    write(tmp_path / "a.json", content)
    labels = read_format(tmp_path)
    assert labels.scheme.skeleton == ((0, 1), (66, 67)), "one index is 0, so they count from 0"
    remarks = " ".join(labels.remarks)
    assert "--scheme ibug68 takes them" in remarks
    assert "lines of the skeleton that name no point are left out: 2" in remarks
    assert "the 68 points have no names" in remarks
    ibug68 = scheme_named("ibug68")
    taken = read_format(tmp_path, ibug68)
    assert taken.scheme == ibug68
    assert taken.rows[0].keypoints[30].tolist() == [40, 22]
    with pytest.raises(UsageError, match="none of the 5 points of faces5 follows from the 68 of face"):
        read_format(tmp_path, FACES5)


def test_names_that_repeat_or_say_nothing_of_sides(tmp_path):
    write(tmp_path / "a.json", document(["eye", "eye", ""]))
    labels = read_format(tmp_path)
    assert labels.scheme.points == ("eye", "eye_2", "point")
    assert any("same name" in remark for remark in labels.remarks)
    assert any("no mirror pairs are known" in remark for remark in labels.remarks)


def test_a_scheme_file_goes_before_names(tmp_path):
    write(tmp_path / "a.json", document(["b", "c", "d"]))
    (tmp_path / "scheme.toml").write_text('points = ["left_pupil", "right_pupil", "nose_tip"]\n')
    assert read_format(tmp_path, FACES5).rows[0].keypoints[2].tolist() == [60, 70]


def test_flags_tell_what_is_labelled_and_what_is_seen(tmp_path):
    write(
        tmp_path / "a.json", document(annotations=[{"image_id": "7", "keypoints": [40, 50, 1, 80, 52, 2, 60, 70, 0]}])
    )
    (row,) = read_format(tmp_path).rows
    assert row.labelled.tolist() == [True, True, False]
    assert row.visible.tolist() == [False, True, True]
    write(tmp_path / "a.json", document(annotations=[{"image_id": 7.0, "keypoints": [40, 50, 80, 52, "60", 70.5]}]))
    (row,) = read_format(tmp_path).rows
    assert row.keypoints[2].tolist() == [60, 70.5], "no flags at all"


def test_crowds_and_faces_without_points(tmp_path):
    noise_photo(tmp_path / "a.png")
    noise_photo(tmp_path / "b.png", 1)
    face = {"keypoints": [40, 50, 2, 80, 52, 2, 60, 70, 2], "bbox": [30, 40, 60, 50]}
    annotations = [
        {"image_id": 7, **face},
        {"image_id": 7, "keypoints": [0] * 9, "num_keypoints": 0, "bbox": [100, 10, 30, 30]},
        {"image_id": 8, **face},
        {"image_id": 8, "iscrowd": 1, "bbox": [90, 5, 60, 60], "segmentation": {"counts": "x", "size": [1, 2]}},
    ]
    images = [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "b.png"}]
    write(tmp_path / "a.json", document(annotations=annotations, images=images))
    labels = read_format(tmp_path)
    assert len(labels.rows) == 3
    assert labels.rows[1].box.tolist() == [99.5, 9.5, 129.5, 39.5]
    assert not labels.rows[1].labelled.any()
    assert (list(labels.ignored), labels.crowds) == (["b.png"], {"b.png"})
    prepare(tmp_path, tmp_path / "set", PrepareOptions(validation=0, test=0))
    prepared = open_set(tmp_path / "set")
    assert (prepared.face == 1).sum() == 2
    assert set(prepared.photo[prepared.face == 0]) == {0}, "nobody can say what a crop of a crowd shows"
    assert prepared.boxes[0].tolist() != [29.5, 39.5, 89.5, 89.5], "around the points"
    prepare(tmp_path, tmp_path / "frames", FrameOptions(validation=0, test=0))
    from kpedge.data.frames import open_frames

    frames = open_frames(tmp_path / "frames")
    assert frames.ignore.tolist() == [False, False, False, True]
    assert frames.labelled[1].tolist() == [99.5, 9.5, 129.5, 39.5]
    width = frames.boxes[1][2] - frames.boxes[1][0]
    assert width == pytest.approx(27, abs=0.1), "without points the box is taken for a head's"


def test_boxes_alone_are_for_the_detector(tmp_path):
    annotations = [{"image_id": 7, "bbox": [1, 2, 30, 40]}, {"image_id": 7, "bbox": [50, 2, 30, 40], "category_id": 4}]
    content = document(None, annotations)
    content["categories"].append({"id": 4, "name": "dog"})
    write(tmp_path / "instances_train.json", content)
    labels = read_format(tmp_path)
    assert (labels.boxes_only, labels.convention, len(labels.rows)) == (True, HEAD, 2)
    assert "face (1), dog (1); --label selects" in " ".join(labels.remarks)
    assert [row.box.tolist() for row in read_format(tmp_path, only=["face"]).rows] == [[0.5, 1.5, 30.5, 41.5]]


def test_other_categories_are_named_and_left_out(tmp_path):
    annotations = [
        {"image_id": 7, "keypoints": [40, 50, 2, 80, 52, 2, 60, 70, 2], "attributes": {"track_id": 1}},
        {"image_id": 7, "keypoints": [4, 5, 2], "category_id": 9},
    ]
    content = document(annotations=annotations)
    content["categories"].append({"id": 9, "name": "thumb", "keypoints": ["tip"]})
    write(tmp_path / "a.json", content)
    labels = read_format(tmp_path)
    assert len(labels.rows) == 1
    assert dict(labels.dropped) == {"annotations of other categories": 1, "attributes": 1}
    assert "thumb (1)" in labels.remarks[0]
    assert read_format(tmp_path, only=["thumb"]).scheme.points == ("tip",)


def test_files_of_test_photos_are_the_test_split(tmp_path):
    for number, name in enumerate(("person_keypoints_train", "latest", "keypoints_test2017")):
        images = [{"id": 7, "file_name": f"{number}.png"}]
        write(tmp_path / "annotations" / f"{name}.json", document(images=images))
    assert read_format(tmp_path).test == ("2.png",)


def test_boxes_beside_keypoints_are_not_read_twice(tmp_path):
    write(tmp_path / "annotations" / "instances_val.json", document(None, [{"image_id": 7, "bbox": [1, 2, 30, 40]}]))
    write(tmp_path / "annotations" / "person_keypoints_val.json", document())
    write(tmp_path / "annotations" / "captions_val.json", document(None, [{"image_id": 7, "caption": "a face"}]))
    assert [row.file for row in read_format(tmp_path).rows] == ["annotations/person_keypoints_val.json"]


def test_every_broken_annotation_is_named(tmp_path):
    points = [40, 50, 2, 80, 52, 2, 60, 70, 2]
    broken = [
        ("no image", {"image_id": 99, "keypoints": points}),
        ("columns", {"image_id": 7, "keypoints": points[:7]}),
        ("not a number", {"image_id": 7, "keypoints": [*points[:6], float("nan"), 70, 2]}),
        ("not a number", {"image_id": 7, "keypoints": [*points[:6], None, 70, 2]}),
        ("box", {"image_id": 7, "keypoints": points, "bbox": [1, 2, 3]}),
        ("not a number", {"image_id": 7, "keypoints": points, "bbox": [1, 2, "wide", 3]}),
        ("not a number", {"image_id": 7, "keypoints": [10**400, 1, 2, *points[3:]]}),
        ("point out of range", {"image_id": 7, "keypoints": [1e9, 1, 2, *points[3:]]}),
        ("box without area", {"image_id": 7, "keypoints": [5, 5, 2] * 3}),
        ("no image", {"image_id": 8, "keypoints": points}),
        ("points", {"image_id": 7}),
        ("columns", {"image_id": 7, "keypoints": str(points), "bbox": [40, 50, 40, 20]}),
        ("columns", {"image_id": 7, "keypoints": points, "bbox": "40,50,40,20"}),
    ]
    annotations = [{"image_id": 7, "keypoints": points}, *(one for _, one in broken)]
    images = [
        {"id": 7, "file_name": "a.png"},
        {"id": 8, "file_name": "b.png"},
        {"id": 8, "file_name": "c.png"},
        {"id": 9},
        {"id": 7, "file_name": "a.png"},
        "x",
    ]
    write(tmp_path / "a.json", document(annotations=annotations, images=images))
    labels = read_format(tmp_path)
    assert len(labels.rows) == 1
    found = [(problem.kind, problem.where.removeprefix("a.json, ")) for problem in labels.problems]
    assert found == [
        ("id twice", "image 8"),
        ("name", "image 9"),
        ("name", "image 6"),
        *((kind, f"annotation {number}") for number, (kind, _) in enumerate(broken, 2)),
    ]


def test_a_list_that_is_there_twice_is_not_half_of_one(tmp_path):
    text = json.dumps(document())
    (tmp_path / "a.json").write_text(text.replace("{", '{"annotations": [], ', 1))
    with pytest.raises(DataError, match="2 members called 'annotations'"):
        read_format(tmp_path)


def test_a_long_name_or_one_with_a_nul_is_a_problem_and_no_crash(tmp_path):
    images = [{"id": 7, "file_name": "x" * 5000 + ".png"}, {"id": 8, "file_name": "a\0.png"}, {"id": 9, "file_name": 3}]
    write(tmp_path / "a.json", document(images=images))
    report, _ = check(tmp_path)
    assert {problem.kind for problem in report.problems} == {"missing photo", "name"}
