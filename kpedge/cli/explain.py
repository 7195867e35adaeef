"""`kpedge explain`: look inside a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kpedge.cli import output
from kpedge.cli.options import Force, examples, parse_box
from kpedge.core.errors import DataError, ImageError, UsageError
from kpedge.core.extras import importable
from kpedge.core.files import real_path, record_output, refuse_existing
from kpedge.core.model_zoo import resolve_weights

if TYPE_CHECKING:
    from kpedge.core.geometry import Box
    from kpedge.core.scheme import KeypointScheme


app = typer.Typer()


@app.command(
    epilog=examples(
        "kpedge explain stage3 face.jpg",
        "kpedge explain runs/stage3/best.pt photos/a.jpg --boxes photos/label.txt --point nose_tip --point 16",
        "kpedge explain export/stage1.torchscript.pt face.jpg --box 150,130,305,285 --layer prelu3_2",
    )
)
def explain(
    model: Annotated[
        str, typer.Argument(help="A run folder, a checkpoint, a TorchScript file, or a released model's name.")
    ],
    image: Annotated[Path, typer.Argument(help="A photo.")],
    box: Annotated[
        str | None, typer.Option(help="x1,y1,x2,y2 in pixels: the face. (default: the largest that is found)")
    ] = None,
    boxes: Annotated[
        Path | None, typer.Option(help="File with one face per row, `name x1 y1 x2 y2 …`; all faces of the photo.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the images; one in it for each of several faces.")] = Path(
        "explain"
    ),
    point: Annotated[
        list[str] | None,
        typer.Option(help="Name or number of a keypoint, or part of the face; repeatable. (default: all)"),
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Layer to compute Grad-CAM for. (default: the backbone's last)")
    ] = None,
    averaged: Annotated[
        bool,
        typer.Option("--averaged", help="Average gradients over the feature map first, as the original Grad-CAM does."),
    ] = False,
    force: Force = False,
) -> None:
    """Draw what in a face moves a model's points (Grad-CAM), the feature maps of each stage, and the first kernels.

    Needs PyTorch. A box is a square around the face from brows to chin; without one, the largest face is found as
    `kpedge predict` finds it.
    """
    importable("torch", "train")
    import numpy as np

    from kpedge.core.geometry import as_box
    from kpedge.core.images import read_image, write_image
    from kpedge.data.labels import read_boxes
    from kpedge.export.load import open_eager
    from kpedge.models.explain import explain as run_explanation
    from kpedge.models.explain_preview import draw_all
    from kpedge.runtime.keypoints import KeypointPredictor, keypoint_model

    if box is not None and boxes is not None:
        raise UsageError("give either --boxes FILE or --box x1,y1,x2,y2", "a label.txt is a boxes file")
    opened = open_eager(resolve_weights(model))
    scheme = opened.card.scheme
    indices = [index for text in point for index in _point_indices(text, scheme)] if point else range(len(scheme))
    chosen = list(dict.fromkeys(indices))
    if boxes is not None:
        of_photo = {real_path(photo): rows for photo, rows in read_boxes(boxes).items()}
        faces = of_photo.get(real_path(image), [])
        if not faces:
            raise DataError(f"{boxes}: no box for {image}", "photos are named relative to the file; or give --box")
    else:
        faces = [as_box(parse_box(box)) if box is not None else _largest_face(image)]
    folders = [out] if len(faces) == 1 else [out / f"face{number}" for number in range(1, len(faces) + 1)]
    for folder in folders:
        refuse_existing(folder / "overview.png", force=force)  # before the work
    # Boxes of a label file count pixels as they are stored; a person reads a box off a viewer.
    photo = read_image(image, stored=boxes is not None)
    predictor = KeypointPredictor(keypoint_model(opened))
    predictor(photo, faces)  # checks the boxes
    crops, _ = predictor.preprocess(photo, np.array(faces))
    for crop, folder in zip(crops, folders, strict=True):
        drawn = draw_all(run_explanation(opened.module, crop, chosen, layer=layer, averaged=averaged), scheme)
        for name in drawn:
            refuse_existing(folder / name, force=force)
        for name, image_ in drawn.items():
            write_image(folder / name, image_)
            record_output(folder / name)
        output.say(f"{len(drawn)} images: {folder}")
        output.result(str(folder / "overview.png"))


def _largest_face(path: Path) -> Box:
    """The box around the points of the largest face that the released models find in a photo."""
    from kpedge.core.boxes import box_of_points
    from kpedge.core.geometry import box_size
    from kpedge.core.images import read_image
    from kpedge.runtime.pipeline import FacePipeline

    pipeline = FacePipeline()
    scheme = pipeline.predictor.model.card.scheme
    boxes = [box_of_points(face.keypoints, scheme) for face in pipeline(read_image(path))]
    if not boxes:
        raise ImageError(f"{path}: no face was found", "give its box: --box x1,y1,x2,y2")
    box = max(boxes, key=box_size)
    numbers = ",".join(f"{number:.0f}" for number in box)
    output.say(f"the {'largest face' if len(boxes) > 1 else 'face'} that was found: --box {numbers}")
    return box


def _point_indices(text: str, scheme: KeypointScheme) -> tuple[int, ...]:
    """The points that a name, a number or a part of the face stands for."""
    if text in scheme.points:
        return (scheme.points.index(text),)
    if text.isdecimal() and int(text) < len(scheme):
        return (int(text),)
    if text in scheme.parts:
        return scheme.parts[text]
    known = ", ".join(f"{index} {name}" for index, name in enumerate(scheme.points))
    raise UsageError(
        f"--point {text}: no such point of {scheme.name}", f"parts: {', '.join(scheme.parts)}; points: {known}"
    )
