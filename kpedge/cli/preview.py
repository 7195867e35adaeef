"""`kpedge data preview`: look at samples as training sees them."""

from pathlib import Path
from typing import Annotated

import typer

from kpedge.cli import output
from kpedge.cli.options import Force, examples
from kpedge.core.errors import DataError, UsageError
from kpedge.core.files import record_output, refuse_existing

app = typer.Typer()


@app.command(
    epilog=examples(
        "kpedge data preview data/photos --out preview.png",
        "kpedge data preview data/photos --out preview.png --recipe stage3 --faces 12 --epoch 40",
        "kpedge data preview data/photos --out preview.png --negatives",
    )
)
def preview(
    data: Annotated[Path, typer.Argument(help="A prepared set.")],
    out: Annotated[Path, typer.Option(help="Image file to write.")],
    recipe: Annotated[str, typer.Option(help="Network whose training is shown.")] = "stage3",
    faces: Annotated[int, typer.Option(min=1, help="Faces, one per row, spread over the training split.")] = 8,
    variants: Annotated[int, typer.Option(min=1, help="Augmented samples of each face.")] = 8,
    negatives: Annotated[bool, typer.Option("--negatives", help="Show negatives instead of faces.")] = False,
    epoch: Annotated[int, typer.Option(min=1, help="Epoch of the first variant; the others follow it.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the augmentation, as in training.")] = 0,
    force: Force = False,
) -> None:
    """Draw training samples with their points: each face as it is, then as successive epochs augment it."""
    from dataclasses import replace

    from kpedge.core.geometry import CropRule
    from kpedge.core.images import check_format, write_image
    from kpedge.data.packed import open_set
    from kpedge.data.preview import augmented_preview, spread
    from kpedge.data.sampling import CropSampler
    from kpedge.training.recipes import RECIPES

    if recipe not in RECIPES:
        raise UsageError(f"no recipe is called {recipe!r}", f"--recipe takes one of: {', '.join(RECIPES)}")
    refuse_existing(out, force=force)
    check_format(out)
    config = RECIPES[recipe]
    source = open_set(data)
    rows = source.negatives("train") if negatives else source.indices("train")
    if not len(rows):
        what, advice = ("negative", "leave --negatives") if negatives else ("face", "prepare it with fewer held out")
        raise DataError(f"{data}: no {what} in the training split", advice)
    size, rule = int(source.info["settings"]["size"]), CropRule.from_dict(source.info["settings"]["rule"])
    plain = CropSampler(source, size, config.colour, rule, seed=seed)
    augmented = replace(plain, jitter=config.jitter(), photometric=config.photometric())
    chosen = spread(rows, faces)
    write_image(out, augmented_preview(plain, augmented, chosen, range(epoch, epoch + variants)))
    record_output(out)
    last = epoch + variants - 1
    output.say(f"{len(chosen)} rows: the crop as it is, then as augmented in epochs {epoch} to {last} of {recipe}")
    output.result(str(out))
