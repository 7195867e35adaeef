"""ExecuTorch: PyTorch's runtime for phones and microcontrollers, computing with XNNPACK."""

from pathlib import Path
from typing import Any

from kpedge.core.extras import importable
from kpedge.core.files import write_bytes
from kpedge.export.converting import converting
from kpedge.export.export_format import ExportFormat, ExportSource
from kpedge.runtime.backends.card_of import with_card


def write(source: ExportSource, path: Path) -> None:
    """Write a program for one uint8 crop or frame a run, all that XNNPACK can compute given to it."""
    from kpedge.export.fixed_input import fixed_model, for_xnnpack

    torch: Any = importable("torch", "export")
    model, example = fixed_model(for_xnnpack(source.model), source.card, dtype=torch.uint8)
    with converting("ExecuTorch"):
        exir: Any = importable("executorch.exir", "executorch")
        partitioner: Any = importable("executorch.backends.xnnpack.partition.xnnpack_partitioner", "executorch")
        program = exir.to_edge_transform_and_lower(
            torch.export.export(model, (example,)), partitioner=[partitioner.XnnpackPartitioner()]
        ).to_executorch()
        content = bytes(program.buffer)
    write_bytes(path, with_card(content, source.card))


FORMAT = ExportFormat(
    name="executorch",
    suffix=".pte",
    purpose="PyTorch's runtime in Android and iOS apps and on microcontrollers",
    modules=("torch", "executorch"),
    write=write,
    signature=lambda _path, start: start[4:8] in (b"ET12", b"ET13"),
    backend="executorch",
    fixed_input=True,
    install_mb=530,
)
