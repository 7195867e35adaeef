"""Test inputs that are the same on every machine, and the answers that a model file carries for them.

Every exported file holds the answers that PyTorch gave to a few generated crops. So the file can be checked on the
device it runs on, years later, without PyTorch and without the checkpoint.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.card import Card, DetectorCard, Outputs
from kpedge.core.errors import CorruptModelError

TOLERANCE = 1e-5  # largest difference of a float32 file's output: a thousandth of a pixel at 112 px
MOST_TOLERANCE = 1e-4  # the same for networks whose own float32 rounding is larger; no card can ask for more
BATCH_SIZES = (1, 2, 7, 64)  # batch sizes at which two files of a model are compared
SELF_TEST_CROPS = 4
SELF_TEST_FRAMES = 1  # fewer of them: a detector gives two thousand numbers for a small frame
MOST_CELLS = 300  # of a large frame only every so many cells are kept, as many as this at most
DIGITS = 7  # decimals to which a card keeps answers
_CELLS = (1, 4, 14, 56)


def random_crops(count: int, shape: tuple[int, int, int], seed: int = 0) -> NDArray[np.uint8]:
    """Crops of random cells, from single pixels to half the crop, uint8 (count, H, W, C).

    The bytes come from SHAKE-256, not from a random generator whose stream may change with its version.
    """
    height, width, channels = shape
    crops = np.empty((count, *shape), np.uint8)
    for index in range(count):
        cell = _CELLS[index % len(_CELLS)]
        rows, columns = -(-height // cell), -(-width // cell)
        data = hashlib.shake_256(f"kpedge {seed} {index}".encode()).digest(rows * columns * channels)
        cells = np.frombuffer(data, np.uint8).reshape(rows, columns, channels)
        crops[index] = cells.repeat(cell, axis=0).repeat(cell, axis=1)[:height, :width]
    return crops


def record_self_test(card: Card, outputs: Outputs, tolerance: float = TOLERANCE) -> dict[str, Any]:
    """What a card keeps of a model's answers to `self_test_inputs`, rounded to `DIGITS` of an output's extent."""
    digits = {name: DIGITS - round(math.log10(extent)) for name, extent in card.extents.items()}
    cells = next(iter(outputs.values())).shape[1] if isinstance(card, DetectorCard) else 0
    step = max(1, -(-cells // MOST_CELLS))
    kept = every_cell(outputs, step)
    return {
        "seed": 0,
        "crops": len(next(iter(outputs.values()))),
        "tolerance": tolerance,
        **({"cell_step": step} if step > 1 else {}),
        **{name: np.round(values.astype(np.float64), digits[name]).tolist() for name, values in kept.items()},
    }


def every_cell(outputs: Mapping[str, NDArray[Any]], step: int) -> dict[str, NDArray[Any]]:
    """A detector's answers of every `step`th cell; all answers where it is 1."""
    return {name: values[:, ::step] if step > 1 else values for name, values in outputs.items()}


def self_test_inputs(card: Card) -> NDArray[np.uint8]:
    """The inputs whose answers a card keeps."""
    return random_crops(SELF_TEST_FRAMES if isinstance(card, DetectorCard) else SELF_TEST_CROPS, card.dummy_input_shape)


def recorded_answers(
    card: Card, source: str, most: float = MOST_TOLERANCE
) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.float64]], float]:
    """The self-test of a card: its crops, the answers by output, and the tolerance, which is `most` at most.

    Raises:
        CorruptModelError: the card has none, or it does not fit the card.
    """
    try:
        answers = {name: np.asarray(card.self_test[name], dtype=np.float64) for name in card.outputs}
        tolerance = min(float(card.self_test["tolerance"]), most)  # a file cannot excuse itself
        crops = random_crops(int(card.self_test["crops"]), card.dummy_input_shape, int(card.self_test["seed"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptModelError(f"{source}: the card holds no usable self-test", "export the model again") from error
    fits = len(crops) and all(
        values.ndim == len(card.outputs[name]) + 1
        and all(
            wanted in (None, size) for wanted, size in zip((len(crops), *card.outputs[name]), values.shape, strict=True)
        )
        for name, values in answers.items()
    )
    if not fits:
        raise CorruptModelError(f"{source}: the card's self-test does not fit its outputs", "export the model again")
    return crops, answers, tolerance
