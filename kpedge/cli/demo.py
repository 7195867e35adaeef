"""`kpedge demo`: the whole story in one command."""

from pathlib import Path
from typing import Annotated

import typer

from kpedge.cli import output
from kpedge.cli.options import examples
from kpedge.core.extras import check_installed

app = typer.Typer()


@app.command(
    epilog=examples(
        "kpedge demo",
        "kpedge demo --quick --out look",
        "kpedge demo --seed 1 --force",
    )
)
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the report, videos, images and model files.")] = Path("demo"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer faces and epochs: a look at everything; its figures say little.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads for training; more help on an idle machine.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of faces, training and noise.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace a demo that is there.")] = False,
) -> None:
    """Run the whole workflow offline, without data or camera, in two to five minutes on two cores.

    Renders synthetic faces, trains stage 3 on them briefly, exports it, checks and measures the files,
    tracks faces through a video with the released models, and writes a folder whose index.html shows the results. The
    folder appears when all is done; Ctrl-C leaves nothing behind.
    """
    from kpedge.demo.checks import NEEDED, check_target

    check_installed(*NEEDED)
    check_target(out, force=force)  # before PyTorch is imported, which takes seconds
    from kpedge.demo.settings import QUICK, DemoSettings
    from kpedge.demo.story import run_demo

    try:
        page = run_demo(
            out,
            DemoSettings(threads=threads, seed=seed, **(QUICK if quick else {})),
            force=force,
            watch=output.progress,
            say=output.say,
        )
    except KeyboardInterrupt:
        output.say(f"nothing was written to {out}")
        raise
    output.say("open it in a browser:")
    output.result(str(page))
