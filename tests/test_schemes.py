"""Models of 5, 68 and a user's own 7 points, from labels to a followed face: no code knows how many points a face has.

The faces are those of the sample photo, moved about, whose 21 labelled points tell the others.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_live import write_video

from kpedge.bench.clip import FaceClip, Sway
from kpedge.cli.main import main
from kpedge.core.boxes import box_of_points
from kpedge.core.drawing import part_colours
from kpedge.core.errors import DataError, UsageError
from kpedge.core.images import read_image
from kpedge.core.keypoints import FACES5, FACES21, convert_points, scheme_named
from kpedge.core.scheme import KeypointScheme, scheme_of_names
from kpedge.data.formats.label import format_row
from kpedge.data.mixture import in_scheme
from kpedge.data.packed import open_set
from kpedge.export.load import open_model
from kpedge.runtime.keypoints import KeypointPredictor, keypoint_model
from kpedge.runtime.overlay import Layers, draw_overlay
from kpedge.runtime.pipeline import FacePipeline
from kpedge.runtime.tracker import FaceTracker
from kpedge.training.loop import train
from kpedge.training.recipes import RECIPES

pytestmark = pytest.mark.slow
OWL = """
name = "owl"
points = ["left tuft", "right tuft", "left disc", "right disc", "left gape", "right gape", "crown"]
skeleton = [["left tuft", "crown", "right tuft"], ["left disc", "right disc"], ["left gape", "right gape"]]
"""
"""Seven points, none of which another scheme has."""
NAMES = ("faces5", "ibug68", "owl")
LEAN = replace(
    RECIPES["stage3"],
    **{"width": 0.5, "batch_size": 16, "threads": 1, "warmup": 0.05, "lr": 5e-3, "ema_decay": 0.9, "epochs": 10},
    **{"negatives": 0.5, "roll": 10.0, "scale": 0.15, "shift": 0.12, "jitter_exponent": 1.0, "mirror": False},
    **{"occlusion": 0.0, "jpeg": 0.0, "downscale": 0.0},
)
"""Settings with which a narrow network learns one face in seconds."""


def points_of(scheme: KeypointScheme, faces: np.ndarray) -> np.ndarray:
    """Points (N, K, 2) of a scheme from the 21 of faces, (N, 21, 2): what does not follow lies on curves through what
    does. All are sums of the 21, so they turn and grow with the face.
    """
    at = {name: faces[:, index] for index, name in enumerate(FACES21.points)}
    if scheme.name == "faces5":
        return convert_points(faces, FACES21, FACES5)
    middle = (at["left_pupil"] + at["right_pupil"]) / 2
    across, down = (at["right_pupil"] - at["left_pupil"]) / 2, at["mouth_centre"] - middle
    if scheme.name == "owl":
        brows = [at[f"{side}_brow_middle"] for side in ("left", "right")]
        eyes = [(at[f"{side}_eye_outer"] + at[f"{side}_eye_inner"]) / 2 for side in ("left", "right")]
        mouth = [(at[f"mouth_{side}_corner"] + at["nose_tip"]) / 2 for side in ("left", "right")]
        return np.stack([*brows, *eyes, *mouth, middle - down / 2], axis=1)
    made = dict(at)
    angles = np.linspace(0, np.pi, 17)
    for index, angle in enumerate(angles):
        made[scheme.points[index]] = middle - 2.1 * np.cos(angle) * across + (0.1 + 1.5 * np.sin(angle)) * down
    for side, way in (("left", 1), ("right", -1)):
        outer, brow, inner = (at[f"{side}_brow_{part}"] for part in ("outer", "middle", "inner"))
        made |= {f"{side}_brow_outer_middle": (outer + brow) / 2, f"{side}_brow_inner_middle": (brow + inner) / 2}
        outer, inner, pupil = (at[f"{side}_{part}"] for part in ("eye_outer", "eye_inner", "pupil"))
        lids = (6 * pupil - outer - inner) / 4
        for lid, off in (("upper", -0.1), ("lower", 0.1)):
            for end, aside in (("outer", -0.15), ("inner", 0.15)):
                made[f"{side}_eye_{lid}_{end}"] = lids + off * down + way * aside * across
        wing, corner, centre = at[f"nose_{side}_wing"], at[f"mouth_{side}_corner"], at["mouth_centre"]
        made[f"nose_{side}_nostril"] = (wing + at["nose_base"]) / 2
        for lip, edge in (("upper", at["upper_lip_top"]), ("lower", at["lower_lip_bottom"])):
            made[f"{lip}_lip_{side}_outer"] = (2 * corner + edge) / 3
            made[f"{lip}_lip_{side}" + ("_peak" if lip == "upper" else "")] = (corner + 2 * edge) / 3
            made[f"{lip}_lip_{side}_inner"] = (corner + centre) / 2
        made[f"mouth_{side}_inner_corner"] = (4 * corner + centre) / 5
    for index in range(1, 4):
        made[f"nose_bridge_{index}"] = middle + (at["nose_tip"] - middle) * index / 4
    made |= {"upper_lip_inner": at["mouth_centre"], "lower_lip_inner": at["mouth_centre"]}
    return np.stack([made[name] for name in scheme.points], axis=1)


def clip_of(side: float, faces: int = 1, **sway: float) -> FaceClip:
    return FaceClip(faces, size=(320, 240), side=side, sway=Sway(shift=0.15, zoom=0.15, roll=15, **sway), noise=5)


@dataclass
class Made:
    """What was made of one scheme: the scheme, its photos, the prepared set, the run, the exported files."""

    scheme: KeypointScheme
    photos: Path
    prepared: Path
    run: Path
    exported: Path

    @property
    def onnx(self) -> str:
        return str(self.exported / "stage3.onnx")


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Photos of one or two faces, and where their 21 points are: name -> (N, 21, 2)."""
    folder = tmp_path_factory.mktemp("frames")
    truth = {}
    for faces, side in ((1, 110), (2, 80), (1, 70), (2, 60)):
        clip = clip_of(side, faces, frequency=3.3)
        for number in range(24):
            name = f"{faces}-{side}-{number}.png"
            cv2.imwrite(str(folder / name), clip.frame(number))
            truth[name] = clip.truth(number)
    return folder, truth


def write_labels(folder: Path, frames, scheme: KeypointScheme) -> Path:
    """A folder of the photos with labels of a scheme."""
    photos, truth = frames
    folder.mkdir()
    rows = []
    for name, faces in truth.items():
        (folder / name).symlink_to(photos / name)
        rows += [format_row(name, box_of_points(one, scheme), one) for one in points_of(scheme, faces)]
    (folder / "label.txt").write_text("\n".join(rows) + "\n")
    return folder


def words(folder: Path, name: str) -> str:
    """What `--scheme` takes."""
    if name != "owl":
        return name
    (folder / "owl.toml").write_text(OWL)
    return str(folder / "owl.toml")


@pytest.fixture(scope="module")
def made(frames, tmp_path_factory):
    """Prepared, trained and exported, by name of the scheme; each is made when it is first asked for."""
    root, done = tmp_path_factory.mktemp("schemes"), {}

    def make(name: str) -> Made:
        if name not in done:
            named = words(root, name)
            scheme = scheme_named(named)
            photos = write_labels(root / f"photos-{name}", frames, scheme)
            one = done[name] = Made(scheme, photos, root / f"set-{name}", root / f"run-{name}", root / f"out-{name}")
            settings = ["--validation", "0.2", "--test", "0.2", "--negatives", "2"]
            assert main(["data", "prepare", str(photos), "--out", str(one.prepared), "--scheme", named, *settings]) == 0
            train("stage3", open_set(one.prepared), one.run, LEAN)
            kind = "onnx,torchscript" if name == "ibug68" else "onnx"
            files = ["--out", str(one.exported), "--data", str(one.prepared), "--format", kind]
            assert main(["export", str(one.run / "best.pt"), *files]) == 0
        return done[name]

    return make


@pytest.fixture(params=NAMES)
def one(made, request) -> Made:
    return made(request.param)


def test_it_learns_and_its_files_compute_the_same(one, capsys):
    card = json.loads((one.exported / "stage3.json").read_text())
    assert card["keypoints"] == one.scheme.to_dict()
    assert card["accuracy"]["test"]["nme_box"] < 0.035
    assert (card["accuracy"]["test"]["nme_pupil"] is None) == (one.scheme.pupils is None)
    files = [path for path in one.exported.iterdir() if path.suffix != ".json"]
    assert len(files) == (2 if one.scheme.name == "ibug68" else 1)
    assert main(["verify", *map(str, files)]) == 0


def test_eval_measures_and_draws(one, tmp_path, capsys):
    assert main(["eval", one.onnx, "--data", str(one.prepared), "--out", str(tmp_path / "report"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report["by_point"]) == list(one.scheme.points)
    assert report["nme_box"] < 0.035 < report["mean_face"]["nme_box"]
    assert report["scheme"] == one.scheme.name
    assert read_image(tmp_path / "report" / "worst.png").ndim == 3
    assert main(["eval", one.onnx, "--data", str(one.photos)]) == 0
    shown = capsys.readouterr().out
    rows = one.scheme.points if len(one.scheme) < 30 else one.scheme.parts
    assert all(row in shown for row in rows)
    assert len(shown.splitlines()) < 50, "a table that is read, not scrolled through"


def test_predict_finds_the_points(one, frames, tmp_path, capsys):
    photos, truth = frames
    name = "1-110-3.png"
    (points,) = points_of(one.scheme, truth[name])
    boxes = ["--boxes", str(one.photos / "label.txt")]
    for given in (boxes, []):
        assert main(["predict", str(one.photos / name), "--model", one.onnx, "--json", *given]) == 0
        (face,) = json.loads(capsys.readouterr().out)["faces"]
        assert np.linalg.norm(np.array(face["keypoints"]) - points, axis=1).mean() < 0.04 * 110
        assert len(face["errors"]) == len(one.scheme)
    assert main(["predict", str(one.photos / name), "--model", one.onnx, "--out", str(tmp_path)]) == 0
    changed = np.abs(read_image(tmp_path / name).astype(int) - read_image(photos / name)).sum(axis=2) > 60
    for x, y in points.round().astype(int):
        assert changed[y - 4 : y + 5, x - 4 : x + 5].any()


def test_webcam_follows_faces_and_tells_their_pose(one, tmp_path, capsys):
    clip = clip_of(95, 1, frequency=0.7)
    video = write_video(tmp_path / "clip.avi", [clip.frame(number) for number in range(20)])
    command = ["webcam", str(video), "--model", one.onnx, "--json", "--pose", "--record", str(tmp_path / "drawn.avi")]
    assert main(command) == 0
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(documents) == 20
    off = []
    for number, document in enumerate(documents):
        (face,) = document["faces"]
        assert face["id"] == 1
        (points,) = points_of(one.scheme, clip.truth(number))
        off.append(np.linalg.norm(np.array(face["keypoints"]) - points, axis=1).mean() / 95)
        if one.scheme.name == "owl":
            assert "pose" not in face
        else:
            (labelled,) = FACES21.roll(clip.truth(number))
            assert face["pose"]["roll"] == pytest.approx(np.degrees(labelled), abs=8)
            assert abs(face["pose"]["yaw"]) < 20
    assert max(off) < 0.06
    assert np.mean(off) < 0.035
    assert (tmp_path / "drawn.avi").stat().st_size > 1000


def test_several_faces_are_followed_and_drawn(one):
    tracker = FaceTracker(model=one.onnx)
    clip, colours = clip_of(70, 2, frequency=0.7), part_colours(one.scheme)
    for number in range(8):
        image = clip.frame(number)
        faces = tracker(image, number / 30)
    assert [face.id for face in faces] == [1, 2]
    drawn = draw_overlay(image, faces, one.scheme, Layers(pose=True)).astype(int)
    for face in faces:
        for index, (x, y) in enumerate(face.keypoints.round().astype(int)):
            patch = drawn[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3)
            colour = colours[one.scheme.part_of(index)]
            # Elsewhere an axis of the pose may lie over a point.
            assert np.abs(patch - colour).sum(axis=1).min() < 150 or one.scheme.part_of(index) in ("nose", "mouth")


@pytest.mark.parametrize("name", ["faces5", "ibug68"])
def test_models_are_measured_on_sets_of_other_points(made, frames, name, tmp_path, capsys):
    """What follows is compared in the scheme of which more follows; the released model is held against all of them."""
    one, other = made(name), made({"faces5": "ibug68", "ibug68": "faces5"}[name])
    assert main(["eval", one.onnx, "--data", str(other.prepared), "--json"]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    known = {point: error for point, error in report["by_point"].items() if error is not None}
    assert set(known) == set(FACES5.points)
    assert report["scheme"] == "faces5"
    assert report["nme_box"] < 0.045 < report["mean_face"]["nme_box"]
    assert "5 points" in captured.err
    faces21 = write_labels(tmp_path / "faces21", frames, replace(FACES21, name="faces21"))
    assert main(["eval", one.onnx, "--data", str(faces21), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert sum(error is not None for error in report["by_point"].values()) == (21 if name == "ibug68" else 5)
    assert main(["eval", "stage3", "--data", str(one.prepared), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["nme_box"] < 0.05


def test_what_has_no_point_in_common_is_told(made, capsys):
    owl, five = made("owl"), made("faces5")
    assert main(["eval", owl.onnx, "--data", str(five.prepared)]) == 1
    told = capsys.readouterr().err
    assert "no point of one follows" in told
    assert "Traceback" not in told
    assert main(["compare", str(owl.run), str(five.run)]) == 0
    assert "of different points (faces5, owl)" in capsys.readouterr().err


def test_sets_of_other_points_help_to_train(made, tmp_path):
    """Points that follow are learnt from, what shows no face belongs to any scheme, and the rest is refused."""
    five, ibug, owl = (open_set(made(name).prepared) for name in ("faces5", "ibug68", "owl"))
    turned = in_scheme(ibug, FACES5)
    assert turned.scheme == FACES5
    faces = turned.face == 1
    expected = convert_points(ibug.keypoints[faces], ibug.scheme, FACES5)
    assert np.array_equal(turned.keypoints[faces], expected)
    assert in_scheme(five, FACES5) is five
    back = in_scheme(five, ibug.scheme)
    assert np.isfinite(back.keypoints[faces]).all(axis=2).sum(axis=1).max() == 3, "no eye follows from its pupil"
    with pytest.raises(DataError, match="no point of faces5 follows"):
        in_scheme(owl, FACES5)
    background = replace(owl, face=np.zeros_like(owl.face), keypoints=np.full_like(owl.keypoints, np.nan))
    assert in_scheme(background, FACES5).keypoints.shape == (len(owl), 5, 2)
    said = []
    train("stage3", [five, ibug, background], tmp_path / "run", replace(LEAN, epochs=1), notify=said.append)
    assert any("5 of faces5's 5 points follow from ibug68" in line for line in said)


@pytest.mark.parametrize(
    ("recipe", "points", "mirrored"),
    [
        ("stage1", ["left_eye", "right_eye"], True),
        ("stage3", ["beak"], True),
        ("stage3", ["a", "b"], False),
    ],
)
def test_few_points_are_enough(recipe, points, mirrored, made, tmp_path):
    """One point has no size, and two without names no mirror image: nothing may rely on either."""
    five, scheme = open_set(made("faces5").prepared), scheme_of_names("few", points)
    few = replace(five, scheme=scheme, keypoints=five.keypoints[:, : len(points)])
    said = []
    settings = {"epochs": 1, "threads": 1, "width": 0.25, "mirror": True, "negatives": 0.0}
    train(recipe, few, tmp_path / "run", replace(RECIPES[recipe], **settings), notify=said.append)
    assert any("mirroring is off" in line for line in said) != mirrored
    recorded = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (recorded["mirror"], recorded["scheme"]) == (mirrored, "few")
    predictor = KeypointPredictor(keypoint_model(open_model(tmp_path / "run" / "best.pt")))
    image = read_image(made("faces5").photos / "1-110-0.png")
    (face,) = predictor(image, [(100, 60, 200, 160)])
    assert face.keypoints.shape == (len(points), 2)
    assert all(face.keypoints.shape == (len(points), 2) for face in FacePipeline(model=predictor)(image))
    if recipe == "stage3" and len(points) > 1:
        assert FaceTracker(model=predictor).scheme == scheme
        return
    with pytest.raises(UsageError, match="one point does not" if recipe == "stage3" else "has no face score"):
        FaceTracker(model=predictor)


def test_a_point_that_no_face_is_labelled_with_is_named(made, tmp_path):
    five = open_set(made("faces5").prepared)
    five.keypoints[:, [2, 4]] = np.nan
    with pytest.raises(DataError, match="nose_tip, mouth_right_corner are labelled on no face"):
        train("stage3", five, tmp_path / "run", LEAN)
