"""ncnn's files, converted by pnnx: a folder with the card. One crop or frame a run, float32 pixels in."""

import shutil
import subprocess
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from kpedge.core.card import EXTRA_FILE, FLOAT16
from kpedge.core.errors import ModelError
from kpedge.core.extras import importable
from kpedge.core.files import write_text
from kpedge.core.leftovers import temporary_folder
from kpedge.export.converting import failure
from kpedge.export.export_format import ExportFormat, ExportSource
from kpedge.runtime.backends.ncnn import PARAM_FILE, WEIGHTS_FILE


def _write(source: ExportSource, path: Path, *, half: bool) -> None:
    """Trace the model from float32 pixels (1, C, H, W), as ncnn knows no uint8, and convert the trace."""
    from kpedge.export.fixed_input import fixed_model
    from kpedge.export.formats.torchscript import trace

    torch: Any = importable("torch", "export")
    pnnx: Any = importable("pnnx", "ncnn")
    model, example = fixed_model(source.model, source.card, dtype=torch.float32, channels_first=True)
    with temporary_folder() as folder:
        script = folder / "model.pt"
        trace(model, example).save(str(script))
        shape = ",".join(map(str, example.shape))
        done = subprocess.run(
            [pnnx.EXEC_PATH, script.name, f"inputshape=[{shape}]f32", f"fp16={half:d}"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        files = [folder / name for name in (PARAM_FILE, WEIGHTS_FILE)]
        if done.returncode or not all(file.is_file() for file in files):
            raise ModelError(f"pnnx cannot convert the model: {failure(done.stderr)}")
        left = [line.split()[0] for line in files[0].read_text().splitlines()[2:] if "." in line.split()[0]]
        if left:
            raise ModelError(f"pnnx cannot convert the operator {left[0]} for ncnn", "export it as onnx")
        path.mkdir()
        for file in files:
            shutil.copy(file, path / file.name)
    write_text(path / EXTRA_FILE, source.card.to_json())


FORMAT = ExportFormat(
    name="ncnn",
    suffix=".ncnn",
    purpose="phones and small boards, ARM first",
    modules=("torch", "ncnn", "pnnx"),
    write=partial(_write, half=False),
    signature=lambda path, _start: (path / PARAM_FILE).is_file(),
    backend="ncnn",
    fixed_input=True,
    install_mb=110,
)
FP16 = replace(
    FORMAT,
    name="ncnn-fp16",
    suffix=".fp16.ncnn",
    purpose="the same, half the size",
    write=partial(_write, half=True),
    precision=FLOAT16,
)
