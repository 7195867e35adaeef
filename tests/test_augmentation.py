from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpedge.cli.main import main
from kpedge.core.errors import DataError, UsageError
from kpedge.core.geometry import (
    CropRule,
    compose,
    crop_transform,
    fractions_to_pixels,
    invert,
    transform_points,
)
from kpedge.core.images import read_image
from kpedge.data.augmentation import LOWRES, Photometric
from kpedge.data.preview import TILE, augmented_preview
from kpedge.data.sampling import CropSampler, Jitter

NAMES = [item.name for item in fields(Photometric)]
STRONG = {
    **{"brightness": 0.3, "contrast": 0.6, "saturation": 0.6, "hue": 25.0, "blur": 2.5, "noise": 20.0},
    **{"jpeg": 0.5, "lowres": 0.5, "occlusion": 0.5, "grey": 0.2},
}
JITTER = Jitter(mirror=True, roll=20, scale=0.1, shift=0.05)

strengths = st.fixed_dictionaries(
    {name: st.floats(0, {"hue": 180, "blur": 4, "noise": 60}.get(name, 1)) for name in NAMES}
)
jitters = st.builds(Jitter, st.booleans(), st.floats(0, 180), st.floats(0, 0.5), st.floats(0, 0.3))


def picture(size=112, seed=0):
    cells = np.random.default_rng(seed).integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
    return cv2.resize(cells, (size, size), interpolation=cv2.INTER_CUBIC)


def dot(shape, point, sigma):
    """A bright round spot with its centre between pixels, (H, W)."""
    ys, xs = np.mgrid[: shape[0], : shape[1]]
    return 250 * np.exp(-((xs - point[0]) ** 2 + (ys - point[1]) ** 2) / (2 * sigma**2))


def centroid(spot):
    """Where a spot on black lies, x y."""
    ys, xs = np.mgrid[: spot.shape[0], : spot.shape[1]]
    weight = np.where(spot > 12, spot, 0).astype(float)
    return np.array([(weight * xs).sum(), (weight * ys).sum()]) / weight.sum()


def face_rows(source):
    """The rows whose points are all known."""
    return np.flatnonzero(np.isfinite(source.keypoints).all(axis=(1, 2)))


@pytest.fixture(scope="module")
def dotted(prepared):
    """The prepared set with black pictures: a blue dot at each left pupil, a red one at each right pupil."""
    pixels = np.zeros(len(prepared.pixels), np.uint8)
    blank = replace(prepared, pixels=pixels)
    for index in face_rows(blank):
        _, to_region = blank.photo_from_region(index)
        for channel, keypoint in ((0, 16), (2, 17)):
            place = transform_points(to_region, blank.keypoints[index, keypoint])
            region = blank.region(index)  # a view
            region[:, :, channel] = np.round(dot(region.shape[:2], place, 2))
    return blank


@given(jitters, st.integers(0, 2**40), st.integers(0, 59), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_a_jittered_square_is_a_similarity_within_its_limits(prepared, jitter, seed, index, epoch):
    sampler, index = CropSampler(prepared, 112, "grey", CropRule(), jitter, seed), int(face_rows(prepared)[index])
    points = fractions_to_pixels(sampler.sample(index, epoch)[1], 112)
    source, order = prepared.keypoints[index], prepared.scheme.mirror_order
    fits = []
    for mirrored in (False, True):
        seen = points[order] if mirrored else points
        columns = np.hstack([source, np.ones((len(source), 1))])
        way = np.linalg.lstsq(columns, seen, rcond=None)[0].T
        if np.abs(transform_points(way, source) - seen).max() < 1e-3:
            fits.append((mirrored, way))
            assert np.abs(transform_points(invert(way), seen) - source).max() < 0.01
    ((mirrored, way),) = fits
    assert jitter.mirror or not mirrored
    assert (np.linalg.det(way[:, :2]) < 0) == mirrored
    plain = crop_transform(prepared.boxes[index], 112, CropRule())
    zoom = np.sqrt(abs(np.linalg.det(plain[:, :2]) / np.linalg.det(way[:, :2])))
    assert abs(zoom - 1) <= jitter.scale + 1e-6
    assert np.abs(np.degrees(np.arctan2(-way[1, 0], way[1, 1]))) <= jitter.roll + 1e-4
    middle = transform_points(compose(plain, invert(way)), np.array([55.5, 55.5]))
    assert np.abs(middle - 55.5).max() <= jitter.shift * 112 + 1e-4


def test_points_follow_their_pixels_mirrored_or_not(dotted):
    sampler = CropSampler(dotted, 112, "bgr", CropRule(), JITTER, seed=3)
    mirrored = 0
    for index in face_rows(dotted):
        for epoch in (1, 2):
            image, points = sampler.sample(index, epoch)
            pixels = fractions_to_pixels(points, 112)
            blue, red = centroid(image[:, :, 0]), centroid(image[:, :, 2])
            assert points[16, 0] < points[17, 0], "the left pupil is the picture's left one, mirrored or not"
            if blue[0] > red[0]:
                mirrored += 1
                blue, red = red, blue
            assert np.abs(blue - pixels[16]).max() < 0.3
            assert np.abs(red - pixels[17]).max() < 0.3
    assert 0.33 < mirrored / (2 * len(face_rows(dotted))) < 0.67


@pytest.mark.parametrize("size", [112, 113])
@pytest.mark.parametrize(
    ("setting", "each"),
    [({"blur": 4.0}, 0.05), ({"lowres": 1.0}, 0.1), ({"blur": 1.5, "lowres": 1.0, "jpeg": 1.0, "noise": 3.0}, 1.0)],
    ids=str,
)
def test_no_disturbance_of_the_pixels_moves_a_point(size, setting, each):
    """Blurring and shrinking leave a spot where it is; JPEG dents it, but on the average to no side."""
    rng, moved = np.random.default_rng(0), []
    for seed in range(60):
        place = rng.uniform(size * 0.3, size * 0.7, 2)
        image = np.repeat(np.round(dot((size, size), place, 5)).astype(np.uint8)[:, :, None], 3, axis=2)
        moved.append(centroid(Photometric(**setting).apply(image, np.random.default_rng(seed))[:, :, 1]) - place)
    assert np.abs(moved).max() < each
    assert np.abs(np.mean(moved, axis=0)).max() < 0.05


@given(strengths, st.integers(0, 2**32), st.sampled_from([16, 57, 112]))
@settings(max_examples=80, deadline=None)
def test_a_disturbed_crop_keeps_its_form_and_follows_the_generator(strength, seed, size):
    image = picture(size)
    before = image.copy()
    first = Photometric(**strength).apply(image, np.random.default_rng(seed))
    again = Photometric(**strength).apply(image, np.random.default_rng(seed))
    assert first.shape == image.shape
    assert first.dtype == np.uint8
    assert (first == again).all()
    assert (image == before).all(), "the crop that is given stays as it is"


@pytest.mark.parametrize("name", NAMES)
def test_each_disturbance_changes_pixels(name):
    one = Photometric(**{name: STRONG[name] if name in ("hue", "blur", "noise") else 1.0})
    assert one
    changed = [(one.apply(picture(), np.random.default_rng(seed)) != picture()).any() for seed in range(40)]
    assert sum(changed) >= (10 if name in ("blur", "noise") else 38)


def test_one_setting_changes_no_other_disturbance():
    image = picture()
    for seed in range(20):
        alone = Photometric(hue=40.0).apply(image, np.random.default_rng(seed))
        assert (Photometric(hue=40.0, jpeg=1e-12).apply(image, np.random.default_rng(seed)) == alone).all()


def test_colour_is_changed_as_the_settings_say():
    image = np.clip(picture() // 2 + 64, 64, 191)  # far from black and white: nothing is clipped
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(float)

    def seen(**setting):
        for seed in range(10):
            result = Photometric(**setting).apply(image, np.random.default_rng(seed))
            yield result, cv2.cvtColor(result, cv2.COLOR_BGR2GRAY).astype(float)

    for result, _ in seen(grey=1.0):
        assert (np.ptp(result.astype(int), axis=2) <= 1).all()
        assert np.abs(result[:, :, 0] - grey).max() <= 1
    for _, result in seen(brightness=0.2):
        assert np.ptp(result - grey) <= 3
        assert abs((result - grey).mean()) <= 0.2 * 255 + 1
    for _, result in seen(contrast=0.3):
        factor = result.std() / grey.std()
        assert 1 / 1.31 < factor < 1.31
        assert abs(result.mean() - grey.mean()) < 1
    for _, result in seen(hue=15.0, saturation=0.2):
        assert np.abs(result - grey).mean() < 1, "hue and saturation leave the luma alone"


def test_a_small_face_has_lost_its_detail():
    noise = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    for seed in range(20):
        spread_ = Photometric(lowres=1.0).apply(noise, np.random.default_rng(seed)).std()
        assert spread_ < noise.std() / LOWRES[0]


def test_occluders_cover_a_part_and_leave_the_rest():
    image = picture()
    covered = [
        (Photometric(occlusion=1.0).apply(image, np.random.default_rng(seed)) != image).any(axis=2).mean()
        for seed in range(200)
    ]
    assert max(covered) < 3 * 0.27
    assert 0.05 < np.mean(covered) < 0.3


def augmenting(source, colour="bgr", seed=1):
    return CropSampler(source, 112, colour, CropRule(), JITTER, seed, Photometric(**STRONG))


@given(st.permutations(range(12)), st.integers(0, 11), st.integers(0, 100))
@settings(max_examples=15, deadline=None)
def test_a_sample_depends_on_no_other(prepared, order, place, epoch):
    sampler = augmenting(prepared)
    crops, points = sampler.batch(np.array(order), epoch)
    image, alone = sampler.sample(order[place], epoch)
    assert (crops[place] == image).all()
    assert np.array_equal(points[place], alone.astype(np.float32), equal_nan=True)


def test_an_epoch_depends_on_the_seed_and_on_no_earlier_one(prepared):
    indices, running = prepared.indices("train"), augmenting(prepared)
    _, second = (running.batch(indices, epoch) for epoch in (1, 2))
    again, other = augmenting(prepared).batch(indices, 2), augmenting(prepared, seed=2).batch(indices, 2)
    assert all(np.array_equal(one, same) for one, same in zip(second, again, strict=True))
    assert (second[0] != other[0]).any()


def test_epochs_differ_and_grey_is_the_grey_of_colour(prepared):
    grey, coloured = augmenting(prepared, "grey"), augmenting(prepared)
    assert (grey.sample(5, 1)[0] != grey.sample(5, 2)[0]).any()
    for index in range(10):
        image, expected = grey.sample(index, 1)[0], coloured.sample(index, 1)[0]
        assert image.shape == (112, 112, 1)
        assert (image[:, :, 0] == cv2.cvtColor(expected, cv2.COLOR_BGR2GRAY)).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong", [-0.1, 181.0, float("nan")])
def test_a_setting_out_of_range_names_its_flag(name, wrong):
    with pytest.raises(UsageError, match=f"--{name} must be from 0 to"):
        Photometric(**{name: wrong})


def test_a_sheet_shows_each_face_undisturbed_and_disturbed(prepared):
    plain, augmented = CropSampler(prepared, 112, "grey", CropRule()), augmenting(prepared, "grey")
    preview = augmented_preview(plain, augmented, np.array([4, 9, 2]), range(1, 6))
    side = -(-TILE // 112) * 112
    assert preview.shape[0] // side == 3
    assert preview.shape[1] // side == 6
    unknown = replace(prepared, keypoints=np.full_like(prepared.keypoints, np.nan))
    bare = augmented_preview(*(replace(s, source=unknown) for s in (plain, augmented)), np.array([4]), [1])
    assert np.ptp(bare[:side, 6 : 6 + side].astype(int), axis=2).max() == 0, "no coloured dot on a grey crop"
    with pytest.raises(DataError, match="no face to draw"):
        augmented_preview(plain, augmented, np.array([], np.intp), [1])


def test_the_sheet_command(prepared, tmp_path, capsys):
    out = tmp_path / "preview.png"
    arguments = ["data", "preview", str(prepared.path), "--out", str(out), "--faces", "2", "--variants", "3"]
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert read_image(out).shape[2] == 3
    assert main(arguments) == 0, "kpedge replaces what it wrote"
    out.write_bytes(b"mine")
    assert main(arguments) == 1
    assert "--force" in capsys.readouterr().err
    assert main([*arguments, "--force"]) == 0
    assert main([*arguments, "--force", "--recipe", "stage9"]) == 2
    assert "no recipe is called 'stage9'" in capsys.readouterr().err
    before = read_image(out)
    assert main([*arguments, "--force", "--negatives"]) == 0
    assert (read_image(out) != before).any()
