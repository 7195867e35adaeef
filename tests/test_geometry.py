import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpedge.core.errors import DataError
from kpedge.core.geometry import (
    CropRule,
    as_box,
    box_overlaps_image,
    box_size,
    compose,
    crop,
    crop_transform,
    fractions_to_pixels,
    invert,
    iou,
    pixels_to_fractions,
    shrink_factor,
    shrunk_region,
    transform_points,
    widen_box,
)

coordinates = st.floats(-500, 2000)
sides = st.floats(4, 1500)


@st.composite
def boxes(draw):
    x, y, width, height = draw(coordinates), draw(coordinates), draw(sides), draw(sides)
    return np.array([x, y, x + width, y + height])


turns = st.fixed_dictionaries(
    {
        "roll": st.floats(-3.2, 3.2),
        "scale": st.floats(0.5, 2),
        "shift": st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
        "mirror": st.booleans(),
    }
)


@given(boxes(), st.integers(16, 256), turns, st.floats(0, 1))
def test_a_transform_and_its_inverse_cancel(box, size, turn, widen):
    way = crop_transform(box, size, CropRule(widen), **turn)
    points = np.random.default_rng(0).uniform(box[:2], box[2:], (20, 2))
    back = transform_points(invert(way), transform_points(way, points))
    assert np.abs(back - points).max() < 1e-6
    identity = compose(invert(way), way)
    assert np.allclose(identity, np.eye(2, 3), atol=1e-6)


@given(boxes(), st.integers(16, 256), st.floats(0, 1))
def test_fractions_of_an_upright_crop_are_those_of_the_square(box, size, widen):
    way = crop_transform(box, size, CropRule(widen))
    centre, side = (box[:2] + box[2:]) / 2, (1 + 2 * widen) * (box[2:] - box[:2]).max()
    corners = np.array([centre - side / 2, centre, centre + side / 2])
    fractions = pixels_to_fractions(transform_points(way, corners), size)
    assert np.allclose(fractions, [[0, 0], [0.5, 0.5], [1, 1]], atol=1e-6)


@given(st.integers(8, 512), st.integers(8, 512))
def test_fractions_do_not_depend_on_the_size_of_the_crop(size, other):
    points = np.random.default_rng(1).uniform(-0.5, 1.5, (9, 2))
    there = pixels_to_fractions(fractions_to_pixels(points, size), size)
    assert np.allclose(there, points)
    # OpenCV's own resize keeps fractions: a pixel's centre lands where the formula says.
    assert np.allclose(
        fractions_to_pixels(points, other), (fractions_to_pixels(points, size) + 0.5) * other / size - 0.5
    )


@given(boxes(), st.floats(-3, 3))
@settings(max_examples=50)
def test_roll_turns_a_tilted_face_upright(box, roll):
    way = crop_transform(box, 112, CropRule(), roll=roll)
    centre = (box[:2] + box[2:]) / 2
    across = 10 * np.array([np.cos(roll), np.sin(roll)])
    left, right = transform_points(way, np.stack([centre - across, centre + across]))
    assert right[0] > left[0]
    assert right[1] == pytest.approx(left[1], abs=1e-6)


@given(boxes(), turns)
@settings(max_examples=50)
def test_mirror_is_the_picture_of_a_mirror(box, turn):
    plain = crop_transform(box, 112, CropRule(), **{**turn, "mirror": False})
    mirrored = crop_transform(box, 112, CropRule(), **{**turn, "mirror": True})
    points = np.random.default_rng(0).uniform(box[:2], box[2:], (5, 2))
    expected = transform_points(plain, points) * (-1, 1) + (111, 0)
    assert np.allclose(transform_points(mirrored, points), expected, atol=1e-6)


def picture(height=200, width=300, seed=0):
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 255, (height // 4, width // 4, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def test_pixels_follow_the_points():
    """A white dot in the photo is found in the crop where the transform says, to a hundredth of a pixel."""
    image = np.zeros((400, 400), np.uint8)
    cv2.GaussianBlur(cv2.circle(image, (170, 230), 6, 255, -1), (0, 0), 4, dst=image)
    for turn in ({}, {"roll": 0.6}, {"scale": 1.3, "shift": (0.1, -0.05)}, {"mirror": True, "roll": -0.3}):
        for box in ([120, 180, 220, 280], [100.3, 140.7, 330.1, 360.2], [140, 205, 195, 260]):
            way = crop_transform(np.array(box), 112, CropRule(), **turn)
            cut = crop(image, way, 112)[:, :, 0].astype(float)
            ys, xs = np.mgrid[:112, :112]
            found = np.array([(cut * xs).sum(), (cut * ys).sum()]) / cut.sum()
            assert np.abs(found - transform_points(way, np.array([170.0, 230.0]))).max() < 0.05


@given(st.floats(-40, 250), st.floats(-40, 180), st.floats(20, 260), st.floats(-0.5, 0.5))
@settings(max_examples=60, deadline=None)
def test_a_crop_is_the_same_from_the_photo_and_from_a_region(x, y, side, roll):
    image, box = picture(), np.array([x, y, x + side, y + side])
    if not box_overlaps_image(box, 300, 200):
        return
    way = crop_transform(box, 112, CropRule(), roll=roll)
    factor = shrink_factor(way, image)
    centre, reach = (x + side / 2) / factor, 1.2 * side / factor
    middle = (y + side / 2) / factor
    low, high = (int(centre - reach), int(middle - reach)), (int(centre + reach) + 1, int(middle + reach) + 1)
    region, origin = shrunk_region(image, low, high, factor)
    from kpedge.core.geometry import shrink_transform

    to_region = shrink_transform(factor, origin)
    again = crop(region, compose(way, invert(to_region)), 112)
    assert (again == crop(image, way, 112)).all()


def test_every_cell_of_a_region_is_that_of_the_whole_image():
    image = picture(101, 203)
    for factor in (1, 2, 3, 7):
        whole, _ = shrunk_region(image, (0, 0), (999, 999), factor)
        assert whole.shape[:2] == (-(-101 // factor), -(-203 // factor))
        part, (x, y) = shrunk_region(image, (3, 2), (11, 9), factor)
        assert (part == whole[y : y + part.shape[0], x : x + part.shape[1]]).all()


def test_a_crop_at_the_border_is_padded_not_squeezed():
    image = np.full((100, 100, 3), 90, np.uint8)
    image[:, 50:] = 200
    box = np.array([70.0, 20.0, 130.0, 80.0])  # a third of it beyond the right edge
    replicated = crop(image, crop_transform(box, 60, CropRule(0)), 60)
    black = crop(image, crop_transform(box, 60, CropRule(0, "black")), 60, border="black")
    assert (replicated[:, :20] == 200).all()
    assert (replicated == 200).all()
    assert (black[:, 40:] == 0).all()
    assert (black[:, :28] == 200).all()


def test_shrinking_averages_instead_of_dropping_pixels():
    stripes = np.zeros((800, 800), np.uint8)
    stripes[:, ::2] = 255
    cut = crop(stripes, crop_transform(np.array([100.0, 100, 700, 700]), 112, CropRule(0)), 112)
    # Averaged by 5, a cell holds two or three white columns of five; merely sampled, stripes stay black and white.
    assert cut.min() >= 255 * 2 // 5
    assert cut.max() <= 255 * 3 // 5


def test_a_box_far_outside_still_gives_a_crop():
    cut = crop(picture(), crop_transform(np.array([5000.0, 5000, 5100, 5100]), 112, CropRule()), 112)
    assert cut.shape == (112, 112, 3)


def test_one_pixel_images_can_be_cropped():
    way = crop_transform(np.array([-0.5, -0.5, 0.5, 0.5]), 16, CropRule())
    assert (crop(np.full((1, 1, 3), 7, np.uint8), way, 16) == 7).all()


def test_iou_by_hand():
    boxes_ = np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]])
    assert iou(boxes_[:1], boxes_)[0] == pytest.approx([1, 50 / 150, 0])


def test_box_helpers_by_hand():
    assert box_size(np.array([0.0, 0, 4, 9])) == pytest.approx(6)
    assert widen_box(np.array([0.0, 0, 10, 20]), 0.25).tolist() == [-2.5, -5, 12.5, 25]
    assert box_overlaps_image(np.array([-5.0, -5, 0, 0]), 10, 10)
    assert not box_overlaps_image(np.array([10.0, 0, 20, 5]), 10, 10)


@pytest.mark.parametrize(
    "values", [[1, 2, 3], [1, 2, 1, 5], [3, 2, 1, 5], [0, 0, float("nan"), 1], [[0, 0, 1, 1]], list("box!"), [[1], []]]
)
def test_what_is_no_box_is_refused(values):
    with pytest.raises(DataError, match="box"):
        as_box(values)


@pytest.mark.parametrize(
    "data", [{}, {"widen": "x", "border": "black"}, {"widen": -1, "border": "black"}, {"widen": 0, "border": "pink"}]
)
def test_what_is_no_crop_rule_is_refused(data):
    with pytest.raises(DataError, match="crop rule"):
        CropRule.from_dict(data)
