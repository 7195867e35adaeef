import math
from dataclasses import replace

import pytest
import torch

from kpedge.core.card import DETECTOR, FRAME_EXTENT, DetectorCard, card_from_dict, card_from_json
from kpedge.core.errors import CorruptModelError, ModelError
from kpedge.core.keypoints import FACES5
from kpedge.models.build import model_from_state, new_detector
from kpedge.models.detector import OUTPUTS, STRIDES, Detector, DetectorModel, decode

pytestmark = pytest.mark.usefixtures("one_thread")
NARROW = {"stem": [8, 16], "widths": [16, 16, 32], "depths": [1, 1, 1], "neck": 16}


def new_card(**options):
    return DetectorCard(
        name="detector",
        task=DETECTOR,
        architecture={"name": "detector", "options": options or NARROW},
        colour="bgr",
        scheme=FACES5,
        stride=32,
        side=640,
        suppression=0.45,
    )


def frames(count, height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=generator)


def used(model, seed=0):
    """A model whose weights and statistics are no longer those of the start, so that every cell says something else."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(layer.weight, generator=generator)
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.weight.uniform_(0.8, 1.3, generator=generator)
                layer.bias.normal_(0, 0.1, generator=generator)
        model.train()
        for step in range(5):
            model.raw(frames(2, 96, 96, seed + step))
    return model.eval()


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return used(new_detector(new_card()))


def cells_of(height, width):
    return sum((height // stride) * (width // stride) for stride in STRIDES)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (32, 96), (160, 64), (224, 320)])
def test_there_is_an_answer_for_every_cell_of_three_levels(model, height, width):
    with torch.inference_mode():
        boxes, scores, points = model(frames(2, height, width))
        rows, cells = model.raw(frames(2, height, width))
    count = cells_of(height, width)
    assert (boxes.shape, scores.shape, points.shape) == ((2, count, 4), (2, count), (2, count, 5, 2))
    assert (rows.shape, cells.shape) == ((2, count, OUTPUTS), (count, 3))
    for values in (boxes, scores, points):
        assert values.dtype == torch.float32
        assert values.isfinite().all()
    assert ((scores >= 0) & (scores <= 1)).all()
    sides = boxes[..., 2:] - boxes[..., :2]
    assert (sides > 0).all()
    assert torch.allclose(sides[..., 0], sides[..., 1], atol=1e-3), "a box is a square"


def test_the_cells_lie_row_by_row_at_the_middles_of_their_pixels(model):
    with torch.inference_mode():
        _, cells = model.raw(frames(1, 64, 96))
    fine, middle, coarse = cells.split([8 * 12, 4 * 6, 2 * 3])
    assert coarse.tolist() == [[x, y, 32] for y in (15.5, 47.5) for x in (15.5, 47.5, 79.5)]
    assert middle[:7].tolist() == [*([x * 16 + 7.5, 7.5, 16] for x in range(6)), [7.5, 23.5, 16]]
    assert fine[0].tolist() == [3.5, 3.5, 8], "the first cell covers pixels 0 to 7"
    assert fine[12].tolist() == [3.5, 11.5, 8]
    assert fine[-1].tolist() == [91.5, 59.5, 8], "the last covers pixels 88 to 95 and 56 to 63"


def test_boxes_and_points_by_hand():
    rows = torch.zeros(1, 2, OUTPUTS)
    rows[0, 0, 2:4] = torch.tensor([0.5, -0.25])
    rows[0, 0, 14] = math.log(1.5)
    rows[0, 0, 4:14] = torch.tensor([-1.0, -1, 1, -1, 0, 0, -0.5, 1, 0.5, 1])
    rows[0, :, 15] = 1e6
    cells = torch.tensor([[3.5, 11.5, 8.0], [47.5, 15.5, 32.0]])
    boxes, points = decode(rows, cells)
    # The middle lies at 3.5 + 4 and 11.5 - 2, half a side is 12.
    assert boxes[0, 0].tolist() == pytest.approx([-4.5, -2.5, 19.5, 21.5], abs=1e-5)
    assert points[0, 0].tolist() == [[-4.5, 3.5], [11.5, 3.5], [3.5, 11.5], [-0.5, 19.5], [7.5, 19.5]]
    assert boxes[0, 1].tolist() == [15.5, -16.5, 79.5, 47.5], "half a side of one stride where nothing is said"
    assert points[0, 1].tolist() == [[47.5, 15.5]] * 5


def test_absurd_numbers_stay_finite():
    rows = torch.full((1, 1, OUTPUTS), 1e4)
    boxes, points = decode(rows, torch.tensor([[15.5, 15.5, 32.0]]))
    assert boxes.isfinite().all()
    assert points.isfinite().all()


def test_a_score_is_the_geometric_mean_of_both_probabilities(model):
    with torch.inference_mode():
        _, scores, _ = model(frames(1, 64, 64))
        rows, _ = model.raw(frames(1, 64, 64))
    face, quality = (1 / (1 + (-rows[0, :, :2].double()).exp())).unbind(dim=1)
    assert torch.allclose(scores[0].double(), (face * quality).sqrt(), atol=1e-6)
    assert scores.std() > 0.01


@pytest.mark.parametrize(("right", "below"), [(32, 0), (0, 32), (64, 32)])
def test_a_frame_that_is_moved_moves_its_answers(model, right, below):
    """Away from the borders, where the network sees other surroundings."""
    patch = frames(1, 32, 32, seed=3)
    size = 480
    pictures = torch.full((2, size, size, 3), 90, dtype=torch.uint8)
    pictures[0, 192:224, 192:224] = patch[0]
    pictures[1, 192 + below : 224 + below, 192 + right : 224 + right] = patch[0]
    with torch.inference_mode():
        boxes, scores, points = model(pictures)
        _, cells = model.raw(pictures)
    way = torch.tensor([right, below], dtype=torch.float32)
    moved = torch.cat([cells[:, :2] + way, cells[:, 2:]], dim=1)
    seen = ((cells[:, :2] - 207.5).abs() < 40).all(dim=1)
    assert seen.sum() > 100
    for cell in seen.nonzero().flatten().tolist():
        twin = int((cells == moved[cell]).all(dim=1).nonzero())
        assert torch.allclose(boxes[1, twin], boxes[0, cell] + way.repeat(2), atol=1e-3)
        assert torch.allclose(points[1, twin], points[0, cell] + way, atol=1e-3)
        assert torch.allclose(scores[1, twin], scores[0, cell], atol=1e-5)
    assert scores[0, seen].std() > 0.01


def test_folding_changes_the_answers_by_rounding_only(model):
    twin = model.folded()
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in twin.modules())
    assert any(isinstance(layer, torch.nn.BatchNorm2d) for layer in model.modules()), "the model itself stays"
    with torch.inference_mode():
        for found, wanted, extent in zip(twin(frames(2, 96, 64)), model(frames(2, 96, 64)), (1e3, 1, 1e3), strict=True):
            assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-5 * extent)
    card = replace(new_card(), architecture={**new_card().architecture, "folded": True})
    again = model_from_state(card, twin.state_dict(), "card")
    with torch.inference_mode():
        assert torch.equal(again(frames(1, 64, 64))[1], twin(frames(1, 64, 64))[1])


def test_the_network_that_is_trained_fits_into_500_kb():
    size = sum(
        value.numel() * value.element_size() for value in DetectorModel(Detector()).folded().state_dict().values()
    )
    assert size < 500_000


def test_at_first_hardly_any_cell_is_taken_for_a_face():
    torch.manual_seed(0)
    model = DetectorModel(Detector()).eval()
    with torch.inference_mode():
        rows, _ = model.raw(frames(1, 64, 64))
    assert rows[..., 0].sigmoid().max() < 0.1


@pytest.mark.parametrize(
    "options", [{"width": 2}, {"stem": 3}, {"stem": [16]}, {"widths": [16, 16]}, {"neck": -1}, {"depths": ["a", 1, 1]}]
)
def test_options_that_fit_no_network_are_named(options):
    with pytest.raises(ModelError, match="network 'detector' cannot be built with"):
        new_detector(new_card(**options))


def test_weights_that_do_not_fit_the_card_are_named(model):
    state = model.state_dict()
    with pytest.raises(ModelError, match=r"x\.pt: network\.stem\.0\.conv\.weight should have shape .*the file has"):
        model_from_state(new_card(**{**NARROW, "stem": [16, 16]}), state, "x.pt")
    missing = {name: value for name, value in state.items() if name != "network.out.bias"}
    with pytest.raises(ModelError, match=r"network\.out\.bias should have shape \(16,\), the file has nothing"):
        model_from_state(new_card(), missing, "x.pt")


# The card


def test_a_detectors_card_survives_json():
    card = replace(new_card(), threshold=0.37, weights_sha256="ab", training={"sets": []}, accuracy={"x": 1})
    again = card_from_json(card.to_json())
    assert isinstance(again, DetectorCard)
    assert again.to_json() == card.to_json()
    assert (again.stride, again.side, again.suppression, again.threshold) == (32, 640, 0.45, 0.37)
    document = card.to_dict()
    assert document["input"]["shape"] == ["batch", "rows", "columns", 3]
    assert [(one["name"], one["shape"]) for one in document["outputs"]] == [
        ("boxes", ["batch", "cells", 4]),
        ("scores", ["batch", "cells"]),
        ("points", ["batch", "cells", 5, 2]),
    ]
    assert "threshold" not in new_card().to_dict()
    assert card.extents == {"boxes": FRAME_EXTENT, "scores": 1.0, "points": FRAME_EXTENT}
    assert all(size % card.stride == 0 for size in card.dummy_input_shape[:2])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stride": 4}, "stride, side or suppression"),
        ({"side": 0}, "stride, side or suppression"),
        ({"suppression": 1}, "stride, side or suppression"),
        ({"input": new_card().to_dict()["input"] | {"colour": "grey"}}, "stride, side or suppression"),
        ({"threshold": 1.5}, "threshold cannot be"),
        ({"stride": "wide"}, "the model card is damaged"),
        ({"task": "poses"}, "damaged|cannot be"),
    ],
)
def test_a_card_that_cannot_be_is_refused(change, words):
    with pytest.raises(CorruptModelError, match=words):
        card_from_dict({**new_card().to_dict(), **change}, "x")


@pytest.mark.parametrize("missing", ["stride", "side", "suppression", "keypoints", "self_test"])
def test_a_card_that_lacks_something_is_refused(missing):
    document = new_card().to_dict()
    del document[missing]
    with pytest.raises(CorruptModelError, match=f"damaged: KeyError: '{missing}'"):
        card_from_dict(document, "x")
