"""The Python interface: what users call from their own programs, and what they give it by mistake."""

import os
import pickle
import re
import subprocess
import sys
from datetime import datetime, timezone
from decimal import Decimal
from fractions import Fraction

import cv2
import numpy as np
import pytest
from conftest import ROOT, SAMPLE
from fake_live import errors_by_face, scene

import kpedge
from kpedge.core.faces import ALIGNED, Face
from kpedge.core.geometry import similarity, transform_points
from kpedge.core.keypoints import FACES5, FACES21, FACES21_MEAN, convert_points

PHOTO = SAMPLE / "eileen_collins.jpg"


@pytest.fixture(scope="module")
def model():
    return kpedge.load("stage3")


@pytest.fixture(scope="module")
def image():
    return cv2.imread(str(PHOTO))


@pytest.fixture(scope="module")
def faces(model, image):
    return model(image)


def test_every_way_to_give_an_image_finds_the_same_face(model, image, faces):
    pil = pytest.importorskip("PIL.Image")
    alpha = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
    ways = [(str(PHOTO), "bgr"), (PHOTO, "bgr"), (pil.open(PHOTO), "bgr"), (alpha, "bgr")]
    ways += [
        (PHOTO.read_bytes(), "bgr"),
        (np.ma.masked_array(image), "bgr"),
        (image[:, :, ::-1], "rgb"),
        (alpha[:, :, [2, 1, 0, 3]], "rgb"),
    ]
    for given, colour in ways:
        (face,) = model(given, colour=colour)
        assert np.abs(face.keypoints - faces[0].keypoints).max() < 1.0, "decoders of JPEG differ a little"
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    assert len(model(grey)) == len(model(grey[:, :, None])) == len(model(pil.fromarray(grey * np.uint16(257)))) == 1
    closed = pil.open(PHOTO)
    closed.close()
    with pytest.raises(kpedge.ImageError, match="PIL"):
        model(closed)
    of_file, of_array = model([PHOTO, np.zeros((64, 64, 3), np.uint8)])
    assert (len(of_file), len(of_array)) == (1, 0)
    assert of_file.pixels is None, "a list of files would fill the memory"
    assert of_array.pixels is not None
    with pytest.raises(kpedge.UsageError, match="not kept"):
        of_file.draw()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "None"),
        (np.zeros((8, 8, 3)), "float64"),
        (np.full((8, 8, 3), np.nan), "float64"),
        (np.zeros((8, 8), np.uint16), "uint16"),
        (np.zeros((2, 8, 8, 3), np.uint8), "list"),
        (np.zeros((3, 8, 8), np.uint8), "transpose"),
        (np.zeros((8, 8, 2), np.uint8), "shape"),
        (np.zeros(8, np.uint8), "shape"),
        (np.zeros((0, 8, 3), np.uint8), "empty"),
        (7, "int"),
        ("no such file.jpg", "no such"),
        ("http://127.0.0.1:1/a.jpg", "http://127.0.0.1:1/a.jpg"),
        (SAMPLE, "folder"),
    ],
    ids=str,
)
def test_what_is_no_image_is_named_with_what_to_do(model, given, words):
    for call in (model, model.pipeline):
        with pytest.raises(kpedge.KpedgeError) as caught:
            call(given)
        assert words in f"{caught.value} {caught.value.advice}"


def test_keypoints_have_names(faces):
    (face,) = faces
    for index, name in enumerate(face.scheme.points):
        assert np.array_equal(face[name], face.keypoints[index])
    assert "nose_tip" in face
    assert "nose" not in face
    with pytest.raises(kpedge.UsageError, match="no keypoint 'nose'"):
        face["nose"]


def test_an_aligned_crop_shows_the_five_points_where_recognition_expects_them(faces, image):
    (face,) = faces
    five = convert_points(face.keypoints, FACES21, FACES5)
    moved = transform_points(similarity(five, ALIGNED * 112 - 0.5), five)
    assert np.abs(moved - (ALIGNED * 112 - 0.5)).max() < 6, "people differ from the template"
    crop = face.aligned_crop(image, 112)
    assert crop.shape == (112, 112, 3)
    angle, zoom, shift = np.radians(30), 1.5, np.array([40.0, -20.0])
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert np.allclose(similarity(five, five @ turn.T + shift), np.column_stack([turn, shift]))


def test_results_draw_themselves_and_print_short(faces, image):
    assert faces.pixels is image
    drawn = faces.draw()
    assert (faces.draw(image) == drawn).all()
    for call in (faces[0].aligned_crop, faces[0].draw):
        with pytest.raises(kpedge.UsageError, match="not an image of uint8: int"):
            call(112)
    assert drawn is not image
    assert (drawn != image).any()
    assert faces._repr_png_().startswith(b"\x89PNG")
    assert len(repr(faces[0])) < 120
    assert "Face" in repr(faces[0])
    assert "=-0" not in repr(faces[0])
    assert faces.to_dict()["scheme"] == "faces21"
    assert faces[0].pose is not None


def test_a_face_without_scheme_or_points_says_so():
    with pytest.raises(kpedge.UsageError, match="names"):
        Face(np.zeros(4), FACES21_MEAN)["nose_tip"]
    nobody = Face(np.zeros(4), np.empty((0, 2)), scheme=FACES21)
    for call in (lambda: nobody["nose_tip"], lambda: nobody.aligned_crop(np.zeros((9, 9, 3), np.uint8))):
        with pytest.raises(kpedge.UsageError, match="no face"):
            call()


def test_faces_are_drawn_into_views_but_not_into_what_is_read_only(faces, image):
    (face,) = faces
    flipped = image[:, ::-1].copy()
    face.draw(flipped[:, ::-1])
    assert (flipped[:, ::-1] == faces.draw()).all()
    fixed = image.copy()
    fixed.flags.writeable = False
    for call, given in ((face.draw, fixed), (face.draw, image[..., :2]), (faces.draw, "photo.jpg")):
        with pytest.raises(kpedge.UsageError, match=r"read-only|not an image of uint8"):
            call(given)
    for size in (0, 10**6, True, 112.0):
        with pytest.raises(kpedge.UsageError, match="size must be"):
            face.aligned_crop(image, size)


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ((1.0, 2.0, 30.0, 40.0), "single box"),
        (np.array([1, 2, 30, 40]), "single box"),
        (np.array([[1, 2, 30, 40, 0.9]]), r"boxes\[:, :4\]"),
        ([(30, 40, 20, 20)], "corners"),
        ([np.arange(40)], "four finite numbers"),
    ],
    ids=["tuple", "array", "score", "xywh", "long"],
)
def test_what_is_no_list_of_boxes_is_one_line(model, image, boxes, words):
    with pytest.raises(kpedge.KpedgeError) as caught:
        model(image, boxes=boxes)
    assert re.search(words, f"{caught.value} {caught.value.advice}")
    assert "\n" not in str(caught.value)


def test_boxes_may_come_from_a_generator(model, image, faces):
    (face,) = model(image, boxes=(tuple(face.box) for face in faces))
    assert len(face.keypoints) == 21


@pytest.mark.parametrize(
    "call",
    [
        lambda: kpedge.load(None),
        lambda: kpedge.load(b"stage3" * 1000),
        lambda: kpedge.load(threads=0),
        lambda: kpedge.load(threads="2"),
        lambda: kpedge.load(threads=True),
        lambda: kpedge.load(threads=10**9),
        lambda: kpedge.load(max_side=33.5),
        lambda: kpedge.load(provider=["cpu"]),
        lambda: kpedge.FaceTracker(kpedge.load()),
        lambda: kpedge.FaceTracker(max_faces=1.5),
        lambda: next(kpedge.track([np.zeros((8, 8, 3), np.uint8)])),
        lambda: next(kpedge.track(PHOTO, tracker=kpedge.load())),
        lambda: kpedge.BatchPredictor()({"image": []}),
        lambda: next(kpedge.track(image for image in [np.zeros((8, 8, 3), np.uint8)])),
        lambda: kpedge.FaceTracker()(PHOTO, datetime.now(tz=timezone.utc)),
        lambda: kpedge.FaceTracker()(PHOTO, 10**400),
    ],
)
def test_settings_that_make_no_sense_are_named(call):
    with pytest.raises(kpedge.UsageError):
        call()


def test_times_of_any_numeric_type_are_seconds(image):
    tracker = kpedge.FaceTracker()
    times = [0, np.float32(0.1), Decimal("0.2"), Fraction(3, 10)]
    assert [[face.id for face in tracker(image, time_s)] for time_s in times] == [[1]] * 4


def test_the_name_of_an_image_is_its_path(model):
    class Photo(os.PathLike):
        def __fspath__(self):
            return os.fsencode(PHOTO)

    assert model(Photo()).image == str(PHOTO)


def test_training_functions_name_what_they_cannot_use(prepared, tmp_path):
    pytest.importorskip("torch")
    from kpedge.data import PrepareOptions, read_format
    from kpedge.evaluation import evaluate_split
    from kpedge.export import export_model, open_model, verify
    from kpedge.training import DETECTOR, RECIPES, train

    config, out = RECIPES["stage3"], tmp_path / "out"
    for call in (
        lambda: train("stage3", str(prepared.path), out, config),
        lambda: train("stage3", [], out, config),
        lambda: train("stage3", prepared, out, None),
        lambda: train("stage3", prepared, out, DETECTOR),
        lambda: train("detector", prepared, out, DETECTOR),
        lambda: train("stage3", prepared, out, config, device="gpu"),
        lambda: evaluate_split("stage3", prepared),
        lambda: evaluate_split(open_model("stage3"), str(prepared.path)),
        lambda: export_model("stage3", out, ()),
        lambda: PrepareOptions(size=0),
        lambda: PrepareOptions(negatives=1.5),
        lambda: PrepareOptions(scheme="faces5"),
        lambda: export_model("stage3", out, "nosuch"),
    ):
        with pytest.raises(kpedge.UsageError):
            call()
    assert not out.exists()
    assert len(verify("stage3")) == 1
    assert len(read_format(str(SAMPLE)).rows) == 1


def test_a_model_goes_to_another_process(model, image, faces):
    (face,) = pickle.loads(pickle.dumps(model))(image)
    assert (face.keypoints == faces[0].keypoints).all()


def test_latency_of_files_is_measured_without_pytorch():
    code = "import sys, kpedge.bench.latency, kpedge.bench.report\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_importing_kpedge_loads_nothing_heavy():
    code = "import sys, kpedge, kpedge.training, kpedge.export, kpedge.data, kpedge.evaluation\n"
    code += "print(sorted({'numpy', 'cv2', 'torch', 'onnx', 'onnxruntime'} & set(sys.modules)), 'load' in dir(kpedge))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] True"
    with pytest.raises(AttributeError, match="nothing"):
        _ = kpedge.nothing


def test_public_names_lead_somewhere_and_are_documented():
    import kpedge.data
    import kpedge.evaluation
    import kpedge.export
    import kpedge.training

    page = (ROOT / "docs" / "api.md").read_text()
    for package in (kpedge, kpedge.data, kpedge.training, kpedge.evaluation, kpedge.export):
        for name in package.__all__:
            thing = getattr(package, name)
            if callable(thing) and thing.__module__ != "kpedge.core.errors":
                assert f"::: {thing.__module__}.{name}\n" in page, f"docs/api.md has no {name}"


@pytest.mark.parametrize("upright", [True, False])
def test_the_faces_of_a_panorama_are_found(model, upright):
    shape, places = (4000, 160), [(300, 80, 90), (1900, 80, 70), (3700, 80, 100)]
    if upright:
        image, truth = scene(*places, size=shape)
    else:
        image, truth = scene(*[(80, x, side) for x, _, side in places], size=shape[::-1])
    found = model(image)
    assert len(found) == 3
    assert (errors_by_face(found, truth, 90) < 0.05).all()
