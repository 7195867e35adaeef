"""From a card to the module that it describes."""

from torch import Tensor

from kpedge.core.card import Card, DetectorCard, ModelCard
from kpedge.core.errors import ModelError
from kpedge.models.detector import Detector, DetectorModel
from kpedge.models.fold import fold
from kpedge.models.keypoint_model import KeypointModel, empty_model

KpedgeModel = KeypointModel | DetectorModel  # whatever is trained here


def new_detector(card: DetectorCard) -> DetectorModel:
    """The detector of a card with fresh weights, folded where the card says so.

    Raises:
        ModelError: it does not take the card's options.
    """
    options = card.architecture.get("options", {})
    try:
        network = Detector(**options)
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        raise ModelError(f"network 'detector' cannot be built with {options}: {error}") from error
    folded, brighten = (bool(card.architecture.get(name)) for name in ("folded", "brighten"))
    if folded:
        return DetectorModel(fold(network), scale=1.0, brighten=brighten)
    return DetectorModel(network, brighten=brighten)


def model_from_state(card: Card, state: dict[str, Tensor], source: str) -> KpedgeModel:
    """The model of a card with the given weights, in evaluation mode.

    Raises:
        ModelError: the weights do not fit the card; the message names the first that does not.
    """
    model: KpedgeModel
    if isinstance(card, DetectorCard):
        model = new_detector(card)
    elif isinstance(card, ModelCard):
        model = empty_model(card)
    else:
        raise ModelError(f"{source}: no model does {card.task!r}", "update kpedge")
    expected = model.state_dict()
    if card.architecture.get("folded"):
        state = _current_names(state, expected)
    for name, tensor in expected.items():
        if name not in state or state[name].shape != tensor.shape:
            got = tuple(state[name].shape) if name in state else "nothing"
            raise ModelError(f"{source}: {name} should have shape {tuple(tensor.shape)}, the file has {got}")
    model.load_state_dict({name: state[name] for name in expected})
    return model.eval()


def _current_names(state: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Folded weights under today's names: until version 0.1.0 folding renamed layers, without changing their order."""
    shapes = ([tensor.shape for tensor in one.values()] for one in (state, expected))
    if state.keys() == expected.keys() or len(set(map(tuple, shapes))) > 1:
        return state
    return dict(zip(expected, state.values(), strict=True))
