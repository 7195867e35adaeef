"""Trainable checkpoints of released models, whose files hold batch normalisation folded into the convolutions.

    python benchmarks/unfold.py export/stage3 --data SET --out released/stage3.pt

`export/stage3` stands for stage3.torchscript.pt and stage3.onnx; `SET` is a prepared set, of a detector a frame set.
Each convolution gets the folded weights, scaled to the norm that training starts from; the batch normalisation behind
it the mean and variance of its outputs on `--samples` training crops (undisturbed) or frames, the deviation as its
weight, and mean plus folded bias as its bias: in evaluation it adds the folded bias and does nothing else. What the
ONNX file and the checkpoint differ by, on real and on random inputs, is printed and, with `--json`, written; above 1e-5
(boxes and points of a detector: of 320 pixels) nothing is kept.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from kpedge.card import DetectorCard
from kpedge.datasets.frames import is_frame_set, open_frames
from kpedge.datasets.packed import open_set
from kpedge.datasets.sampling import CropSampler
from kpedge.export.to_torchscript import load_torchscript
from kpedge.models.blocks import ConvBlock
from kpedge.models.build import model_from_state
from kpedge.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from kpedge.models.keypoint_model import weights_hash
from kpedge.runtime.sessions import OnnxModel

ALLOWED = 1e-5
SEED = 0
NORM = math.sqrt(2)
"""Of a filter, as Kaiming's initialisation draws it: then a step of training changes all of them alike."""


def real_inputs(data: Path, card: DetectorCard, samples: int) -> list[np.ndarray]:
    """Batches of training crops, or of training frames at 320 pixels filled up with black."""
    rng = np.random.default_rng(SEED)
    if is_frame_set(data):
        frames = open_frames(data)
        batch = np.zeros((samples, 320, 320, 3), np.uint8)
        chosen = rng.permutation(frames.frames("train"))[:samples]
        for row, frame in enumerate(chosen):
            image = frames.image(int(frame))
            zoom = 320 / max(image.shape[:2])
            small = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)[:320, :320]
            batch[row, : small.shape[0], : small.shape[1]] = small
    else:
        source = open_set(data)
        rows = np.concatenate([source.indices("train"), source.negatives("train")])
        chosen = rng.permutation(rows)[:samples]
        batch = CropSampler(source, card.size, card.colour, card.crop).batch(np.asarray(chosen))[0]
    return [batch[start : start + 32] for start in range(0, len(batch), 32)]


@torch.no_grad()
def unfold(folded: nn.Module, trainable: nn.Module, batches: list[np.ndarray]) -> int:
    """Fill a trainable model with what a folded one computes; gives the number of layers with normalisation."""
    blocks = [(name, one) for name, one in trainable.named_modules() if isinstance(one, ConvBlock)]
    inside = tuple(name + "." for name, _ in blocks)
    state = {name: tensor for name, tensor in folded.state_dict().items() if not name.startswith(inside)}
    missing, unexpected = trainable.load_state_dict(state, strict=False)
    if unexpected or not all(name.startswith(inside) for name in missing):
        raise SystemExit(f"the networks differ: {missing}, {unexpected}")
    first = True
    pairs: list[tuple[ConvBlock, nn.Conv2d]] = []
    for name, block in blocks:
        found = folded.get_submodule(name)
        conv = found if isinstance(found, nn.Conv2d) else found[0]
        scale = getattr(trainable, "scale", 1.0) if first else 1.0  # folding put the pixels' scale into the first
        first = False
        block.conv.weight.copy_(conv.weight / scale)
        pairs.append((block, conv))
    sums = [[0.0, 0.0, 0] for _ in pairs]

    def watch(number: int):
        def hook(_module: nn.Module, _inputs: tuple, output: torch.Tensor) -> None:
            plain = output.double() - pairs[number][1].bias.double()[None, :, None, None]
            sums[number][0] += plain.sum(dim=(0, 2, 3))
            sums[number][1] += plain.square().sum(dim=(0, 2, 3))
            sums[number][2] += plain.numel() // plain.shape[1]

        return hook

    hooks = [conv.register_forward_hook(watch(number)) for number, (_, conv) in enumerate(pairs)]
    for batch in batches:
        folded(torch.from_numpy(batch))
    for hook in hooks:
        hook.remove()
    for (block, conv), (total, squares, count) in zip(pairs, sums, strict=True):
        mean = total / count
        variance = (squares / count - mean.square()).clamp(min=0)
        norm = block.conv.weight.flatten(1).norm(dim=1).double()
        factor = torch.where(norm > 1e-8, NORM / norm.clamp(min=1e-8), 1.0)
        block.conv.weight.mul_(factor.float()[:, None, None, None])
        block.norm.running_mean.copy_(mean * factor)
        block.norm.running_var.copy_(variance * factor.square())
        block.norm.weight.copy_((variance * factor.square() + block.norm.eps).sqrt() / factor)
        block.norm.bias.copy_(mean + conv.bias.double())
    return len(pairs)


def main() -> None:
    """Unfold, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="path without .torchscript.pt and .onnx")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--json", type=Path, help="add the differences to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    module, card = load_torchscript(Path(f"{options.model}.torchscript.pt"))
    folded = model_from_state(card, dict(module.state_dict()), str(options.model)).eval()
    plain = {name: value for name, value in card.architecture.items() if name != "folded"}
    described = replace(card, architecture=plain, versions={}, self_test={})
    batches = real_inputs(options.data, card, options.samples)
    if card.architecture.get("folded") and card.name != "stage1":
        torch.manual_seed(SEED)
        from kpedge.models.build import new_detector
        from kpedge.models.keypoint_model import empty_model

        trainable = new_detector(described) if isinstance(card, DetectorCard) else empty_model(described)
        trainable.eval()
        layers = unfold(folded, trainable, batches)
    else:
        trainable, layers = model_from_state(described, dict(module.state_dict()), str(options.model)), 0
    described = replace(described, weights_sha256=weights_hash(trainable))
    history = {"history": [], "best": math.inf, "best_epoch": 0, "best_nme": math.inf}
    weights = {name: tensor.detach().clone() for name, tensor in trainable.state_dict().items()}
    save_checkpoint(options.out, Checkpoint(described, weights, dict(card.training["recipe"]), history, {}))
    again = load_checkpoint(options.out).model(str(options.out)).eval()
    onnx = OnnxModel(Path(f"{options.model}.onnx"), threads=1)
    rng = np.random.default_rng(SEED)
    inputs = {"real": batches[:4], "random": [rng.integers(0, 256, batches[0].shape, dtype=np.uint8)]}
    largest: dict[str, dict[str, float]] = {}
    for kind, group in inputs.items():
        for batch in group:
            expected = onnx(batch)
            with torch.inference_mode():
                found = again(torch.from_numpy(batch))
            found = found if isinstance(found, tuple) else (found,)
            for (name, values), ours in zip(expected.items(), found, strict=True):
                extent = 320.0 if isinstance(card, DetectorCard) and name != "scores" else 1.0
                gap = float(np.abs(values - ours.numpy()).max()) / extent
                row = largest.setdefault(kind, {})
                row[name] = max(row.get(name, 0.0), gap)
    print(options.out, f"{layers} layers unfolded;", largest)
    if options.json:
        known = json.loads(options.json.read_text()) if options.json.exists() else {}
        known[options.out.stem] = {
            "of": card.weights_sha256,
            "weights_sha256": described.weights_sha256,
            "layers_unfolded": layers,
            "measured_on": f"{options.data.name}, {options.samples} training samples",
            "largest_difference_from_onnx": largest,
        }
        options.json.write_text(json.dumps(known, indent=1) + "\n")
    if max(gap for row in largest.values() for gap in row.values()) > ALLOWED:
        options.out.unlink()
        raise SystemExit(f"differs by more than {ALLOWED:g}: not kept")


if __name__ == "__main__":
    main()
