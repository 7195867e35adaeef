"""Cards and model files, and pickles that would run code."""

import io
import json
import os
import pickle
import random
import shutil
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from media import mutate

from hostile.mutation import mutate_document, mutate_text
from kpedge.core.card import card_from_json
from kpedge.core.errors import KpedgeError
from kpedge.core.model_zoo import models_folder
from kpedge.data.packed import LAYOUT
from kpedge.data.storage import read_columns
from kpedge.models.checkpoint import load_checkpoint, load_weights, save_checkpoint
from kpedge.runtime.sessions import OnnxModel


@dataclass
class Gadget:
    """What runs a call when it is unpickled by `pickle`."""

    call: Any
    arguments: tuple[Any, ...]

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call, self.arguments


def _gadget(ran: Path, rng: random.Random) -> Gadget:
    code = f"open({str(ran)!r}, 'w').close()"
    return rng.choice(
        (
            Gadget(os.system, (f"touch {ran}",)),
            Gadget(eval, (code,)),
            Gadget(exec, (code,)),
            Gadget(subprocess.check_call, (["touch", str(ran)],)),
            Gadget(os.makedirs, (str(ran),)),
            Gadget(open, (str(ran), "w")),
            Gadget(getattr, (Gadget(__import__, ("os",)), "getpid")),
            Gadget(shutil.copy, (__file__, str(ran))),
        )
    )


def make(folder: Path) -> None:
    """A checkpoint, safetensors, a card and an ONNX file of a released model."""
    for name in ("stage1.onnx", "stage1.safetensors", "detector.json"):
        shutil.copy(models_folder() / name, folder)
    save_checkpoint(folder / "stage1.pt", load_checkpoint(folder / "stage1.safetensors"))
    (folder / "card.json").write_text(load_checkpoint(folder / "stage1.pt").card.to_json())


def attempt(folder: Path, number: int, rng: random.Random) -> str:
    """Load a mutated card or model file, or a file whose pickle would run code: it must not run."""
    ran = folder / "ran"
    kinds = ("card", "card", "card.json", "stage1.onnx", "stage1.safetensors", "stage1.pt", "gadget", "npz")
    kind = kinds[number % len(kinds)]
    try:
        if kind == "card":
            document = json.loads((folder / rng.choice(("card.json", "detector.json"))).read_bytes())
            mutate_document(document, rng)
            card_from_json(json.dumps(document))
        elif kind == "card.json":
            card_from_json(mutate_text((folder / kind).read_bytes(), rng).decode("utf-8", "replace"))
        elif kind == "gadget":
            content: dict[str, Any] = {
                "kpedge": 1,
                "card": "{}",
                "state": {},
                "config": {},
                "progress": {},
                "resume": {},
            }
            content[rng.choice(list(content))] = _gadget(ran, rng)
            buffer = io.BytesIO()
            if rng.random() < 0.3:
                pickle.dump(content, buffer, protocol=rng.randrange(2, 6))
            else:
                torch.save(content, buffer, _use_new_zipfile_serialization=rng.random() < 0.5)
            (folder / "try.pt").write_bytes(buffer.getvalue())
            (load_checkpoint if rng.random() < 0.5 else load_weights)(folder / "try.pt")
        elif kind == "npz":
            with zipfile.ZipFile(folder / LAYOUT.table, "w") as archive, archive.open("boxes.npy", "w") as stream:
                np.lib.format.write_array(stream, np.array([_gadget(ran, rng)], dtype=object), allow_pickle=True)
            read_columns(folder, LAYOUT)
        else:
            path = folder / f"try{Path(kind).suffix}"
            path.write_bytes(mutate((folder / kind).read_bytes(), rng))
            if kind == "stage1.onnx":
                OnnxModel(path)(np.zeros((1, 112, 112, 1), np.uint8))
            else:
                load_checkpoint(path).model()
    except KpedgeError:
        return "named"
    finally:
        if ran.exists():
            raise AssertionError(f"code ran: {kind}")
    assert kind not in ("gadget", "npz"), "code in a file is refused"
    return "read"
