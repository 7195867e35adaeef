"""ncnn's files, converted by pnnx: a folder with the card. Keypoint models only, one crop a run, float32 pixels in."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from kpedge.core.card import EXTRA_FILE
from kpedge.core.errors import ModelError
from kpedge.core.extras import importable
from kpedge.core.files import write_text
from kpedge.core.leftovers import temporary_folder
from kpedge.export.export_format import ExportFormat, ExportSource
from kpedge.runtime.backends.ncnn import PARAM_FILE, WEIGHTS_FILE, NcnnModel

if TYPE_CHECKING:
    from kpedge.models.keypoint_model import KeypointModel


def write(source: ExportSource, path: Path) -> None:
    """Trace the model from float32 pixels (1, C, H, W), as ncnn knows no uint8, and convert the trace.

    Raises:
        ModelError: pnnx failed, or left an operator that ncnn does not know.
    """
    from kpedge.export.formats.torchscript import trace
    from kpedge.models.keypoint_model import FloatPixels

    torch: Any = importable("torch", "export")
    pnnx: Any = importable("pnnx", "ncnn")
    height, width, channels = source.card.dummy_input_shape
    shape = (1, channels, height, width)
    with temporary_folder() as folder:
        traced = trace(FloatPixels(cast("KeypointModel", source.model)), torch.zeros(shape))
        script = Path(folder) / "model.pt"
        traced.save(str(script))
        done = subprocess.run(
            [pnnx.EXEC_PATH, script.name, f"inputshape=[{','.join(map(str, shape))}]f32", "fp16=0"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        files = [Path(folder) / name for name in (PARAM_FILE, WEIGHTS_FILE)]
        if done.returncode or not all(file.is_file() for file in files):
            raise ModelError(f"pnnx cannot convert the model: {done.stderr.strip().splitlines()[-1:]}")
        path.mkdir()
        for file in files:
            shutil.copy(file, path / file.name)
    write_text(path / EXTRA_FILE, source.card.to_json())


def load(path: Path, threads: int) -> NcnnModel:
    """Open a folder that `write` wrote."""
    return NcnnModel(path, threads=threads)


FORMAT = ExportFormat(
    name="ncnn",
    suffix=".ncnn",
    purpose="phones and small boards, ARM first",
    modules=("torch", "ncnn", "pnnx"),
    write=write,
    load=load,
    matches=lambda path, _start: (path / PARAM_FILE).is_file(),
    keypoints_only=True,
)
