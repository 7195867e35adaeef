"""`kpedge bench`: how fast a model is in each of its forms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kpedge.cli import output
from kpedge.cli.options import Force, Json, examples
from kpedge.shelf import DEFAULT_MODEL


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "kpedge bench",
            "kpedge bench export/stage1.onnx export/stage1.torchscript.pt --batch 1 --batch 16",
            "kpedge bench --out report --json",
        )
    )(bench)


def bench(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Files of one model. (default: the released stage 1, all its forms)")
    ] = None,
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Crops a call; repeatable. (default: 1)")] = None,
    threads: Annotated[
        list[int] | None, typer.Option(min=1, help="CPU threads; repeatable. (default: 1 and all)")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds in which every form has a turn.")] = 20,
    calls: Annotated[int, typer.Option(min=1, help="Timed calls in a turn.")] = 30,
    warmup: Annotated[int, typer.Option(min=1, help="Calls before them.")] = 10,
    out: Annotated[Path | None, typer.Option(help="Folder for latency.json, latency.md and latency.png.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Time PyTorch eager, TorchScript and onnxruntime in interleaved rounds, on CPU and on a GPU where there is one."""
    import json

    from kpedge.bench.latency import BenchOptions, bench_latency
    from kpedge.bench.report import HEADERS, cells, header, header_lines, latency_png, markdown
    from kpedge.errors import UsageError
    from kpedge.export.formats import SUFFIXES
    from kpedge.extras import importable
    from kpedge.files import refuse_existing, write_bytes, write_text
    from kpedge.machine import describe, usable_cores
    from kpedge.shelf import shelf_folder

    chosen = files or [
        path for suffix in SUFFIXES.values() if (path := shelf_folder() / f"{DEFAULT_MODEL}{suffix}").is_file()
    ]
    if not chosen:
        raise UsageError("no model is given and none is released with this kpedge", "name a model file")
    if out:
        importable("matplotlib", "train")  # before the work, not after it
    targets = {kind: out / f"latency.{kind}" for kind in ("json", "md", "png")} if out else {}
    for target in targets.values():
        refuse_existing(target, force=force)
    options = BenchOptions(
        batches=tuple(dict.fromkeys(batch or (1,))),
        threads=tuple(dict.fromkeys(threads or (1, usable_cores()))),
        rounds=rounds,
        calls=calls,
        warmup=warmup,
    )
    where = describe()  # before the rounds, whose own load it should not tell
    with output.progress("rounds") as update:
        card, rows = bench_latency(chosen, options, progress=update)
    head = header(card, options, where)
    document = {**head, "rows": [row.to_dict() for row in rows]}
    if out:
        write_text(targets["json"], json.dumps(document, indent=1) + "\n")
        write_text(targets["md"], markdown(head, rows))
        write_bytes(targets["png"], latency_png(head, rows))
        output.say(f"report: {out}")
    if as_json:
        output.result_json(document, indent=1)
        return
    for line in header_lines(head):
        output.say(line)
    output.table(HEADERS, cells(rows), left=2)
