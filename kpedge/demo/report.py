"""The page that `kpedge demo` leaves: one HTML file with all that it shows. The words are in `page/page.html`."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from kpedge import __version__
from kpedge.core.errors import ImageError
from kpedge.core.files import read_bytes
from kpedge.core.images import decode_image
from kpedge.core.text import format_count, format_duration, quote
from kpedge.demo.make import RELEASED, SHOWN, TRAINED

PAGE_FOLDER = Path(__file__).resolve().parent / "page"
KINDS = {".jpg": "image/jpeg", ".png": "image/png", ".webm": "video/webm"}
Row = Sequence[str]  # cells of a table, HTML


def page(folder: Path, out: Path, document: dict[str, Any]) -> str:
    """The page of a demo, HTML, whose images are now in `folder` and whose figures are those of `report.json`. Images
    and video are part of it; links are relative to the folder, which the user calls `out`.
    """
    template = Template((PAGE_FOLDER / "page.html").read_text(encoding="utf-8"))
    machine, latency, parity = document["machine"], document["latency"], document["parity"]
    trained, _ = document["accuracy"]["synthetic"]
    trained_sample, released_sample = document["accuracy"]["sample"]
    training = document["training"]
    seconds = next(step["seconds"] for step in document["steps"] if step["title"].startswith("Train"))
    words = {
        "version": __version__,
        "seconds": format_duration(document["seconds"]),
        "cores": format_count(machine["cores"], "core"),
        "cpu": machine["cpu"],
        "load": "not known" if machine["load_1min"] is None else str(machine["load_1min"]),
        "comparisons": str(parity["comparisons"]),
        "largest": f"{parity['worst']['largest']:.1e}",
        "tolerance": f"{parity['worst']['tolerance']:.0e}",
        "rounds": str(latency["rounds"]),
        "warmup": str(latency["warmup_calls_a_round"]),
        "calls": str(latency["calls_a_round"]),
        "trained_synthetic": percent(trained["nme_box"]),
        "trained_sample": percent(trained_sample["nme_box"]),
        "released_sample": percent(released_sample["nme_box"]),
        "training_time": format_duration(seconds),
        "face_seed": str(document["faces"]["seed"]),
        "seed": str(document["settings"]["seed"]),
    }
    model_tiles = [
        (f"{document['faces']['faces']:,}", "synthetic faces"),
        (str(training["recipe"]["epochs"]), f"epochs, {seconds:.0f} s"),
        (percent(trained["nme_box"]), "mean error on synthetic test faces"),
        (percent(trained["mean_face_nme"]), "error of the mean shape, as a baseline"),
    ]
    return template.substitute(
        {name: escape(value) for name, value in words.items()},
        style=(PAGE_FOLDER / "page.css").read_text(encoding="utf-8"),
        model_tiles=tiles(model_tiles),
        accuracy=_accuracy_table(document),
        models=table(
            "The exported files, with all that a device needs to know inside",
            ("file", "bytes", "SHA-256"),
            [
                (link(f"models/{name}"), f"{document['files'][f'models/{name}']:,}", code(digest[:16] + "…"))
                for name, digest in parity["files"].items()
            ],
            left=(0, 2),
        ),
        latency=table(
            "One crop, one thread",
            ("backend", "median, ms", "95 %, ms", "eager's time over this"),
            [
                (escape(row["backend"]), f"{row['median_ms']:.3f}", f"{row['p95_ms']:.3f}", f"{row['ratio']:.2f}")
                for row in latency["rows"]
            ],
        ),
        next=_next(out),
        steps=table(
            "The steps",
            ("step", "result", "seconds", "processor time, s"),
            [
                (escape(step["title"]), escape(step["result"]), f"{step['seconds']:.1f}", f"{step['cpu_seconds']:.1f}")
                for step in document["steps"]
            ],
            left=(0, 1),
        ),
        machine=table("Machine, versions, settings", ("what", "value"), _machine_rows(document), left=(0, 1)),
        **_video(folder, document["video"]),
        **_images(folder, document),
    )


def _accuracy_table(document: dict[str, Any]) -> str:
    rows = [
        (
            escape(f"{one['model']}, {where}"),
            f"{one['faces']:,}",
            percent(one["nme_box"]),
            percent(one["failure_rate"], 1),
            percent(one["mean_face_nme"]),
        )
        for where, kind in (("synthetic test faces", "synthetic"), ("the sample photo", "sample"))
        for one in document["accuracy"][kind]
    ]
    caption = "Mean distance of the points from the truth, fraction of the face's box; failures have an error > 10 %"
    return table(caption, ("model", "faces", "mean error", "failures", "mean shape's error"), rows)


def _video(folder: Path, video: dict[str, Any]) -> dict[str, str]:
    """The annotated video, or a word where this machine cannot write one that browsers play, and its figures."""
    playable = next((name for name in video["files"] if name.endswith(".webm")), None)
    files = " and ".join(link(f"video/{name}") for name in video["files"])
    caption = f"Box, number, score, keypoints and the head's axes, as <code>kpedge webcam</code> draws them: {files}."
    player = f"<p>No video that browsers play could be written here; stills are below. {caption}</p>"
    if playable:
        player = (
            '<figure><video controls muted loop playsinline width="640" height="480" '
            'aria-label="Annotated video: two faces are tracked while they move" '
            f'src="{data_uri(folder / "video" / playable)}"></video><figcaption>{caption}</figcaption></figure>'
        )
    frame_ms = sum(video["stages_ms"].values())
    figures = [
        (percent(video["error"]), "of the box: mean error"),
        (percent(video["error_p95"]), "of the box: 95 % of the faces have less"),
        (percent(video["tracked"] / video["shown"], 1), f"of {video['shown']:,} faces were tracked"),
        (f"{frame_ms:.1f} ms", "per frame, from file to points, one thread"),
        (f"{video['frames_per_second']:.0f}", "frames per second"),
    ]
    rows = [*((escape(name), f"{value:.2f}") for name, value in video["stages_ms"].items()), ("all", f"{frame_ms:.2f}")]
    caption = f"The video: time per frame of 640x480, mean of {video['frames']} frames, one thread"
    return {"video": player, "video_tiles": tiles(figures), "frame_times": table(caption, ("stage", "ms"), rows)}


def _images(folder: Path, document: dict[str, Any]) -> dict[str, str]:
    """The figures of the page."""
    training, (trained, released) = document["training"], document["accuracy"]["synthetic"]
    images = folder / "pictures"
    return {
        "stills": figure(
            images / "stills.jpg",
            "Eight moments of the video, with boxes, points and axes over the faces that were found.",
            "Eight moments. Each face keeps its number while it is tracked.",
        ),
        "synthetic": figure(
            images / "synthetic.jpg",
            "24 rendered faces of all kinds of skin, hair, light and pose, half of them with their 21 points.",
            "Parametric heads in three dimensions; the points come from the same head, so they are exact. Every other "
            "face is shown with its points, above the seed for kpedge data synth and the number of the photo.",
        ),
        "curves": figure(
            images / "curves.png",
            f"Curves over the epochs: the validation error falls to {percent(training['best_nme'])} of the box, below "
            f"the mean shape's {percent(training['mean_face_nme'])}.",
            f"The recipe of stage 3, shortened; epoch {training['best_epoch']} was kept.",
        ),
        "predictions": figure(
            images / "predictions.jpg",
            "Synthetic test faces, best to worst, with the points that the new model found and the true ones.",
            f"{min(SHOWN, trained['faces'])} of {trained['faces']} test faces, evenly from the best to the worst, each "
            "with its mean error: predicted points in colour, true ones as white rings. The worst face has an error of "
            f"{percent(trained['worst_face'], 1)}; the worst of {released['model']} has "
            f"{percent(released['worst_face'], 1)}.",
        ),
        "sample": "".join(
            figure(
                images / f"{name}.jpg",
                f"The sample photo's face with the points of the model {who} and the labels.",
                f"{who.capitalize()}: {percent(one['nme_box'])} on this real face.",
            )
            for name, who, one in zip(
                ("sample_trained", "sample_released"), (TRAINED, RELEASED), document["accuracy"]["sample"], strict=True
            )
        ),
        "latency_chart": figure(
            folder / "benchmark" / "latency.png", "Bars of the times in the table above.", "The same as a chart."
        ),
    }


def _next(out: Path) -> str:
    """Commands to continue with."""

    def inside(path: str) -> str:
        return quote(out / path)

    commands = {
        "Your own face, live": "kpedge webcam",
        "The video again": f"kpedge webcam {inside('video/scene.mp4')} --pose",
        "A photo of yours": "kpedge predict photo.jpg",
        "The parity check again": f"kpedge verify {inside('models/demo.onnx')} {inside('models/demo.torchscript.pt')}",
        "Check the labels": f"kpedge data check {inside('synthetic')} --preview preview.png",
        "Train on labelled photos": "kpedge train stage3 --data photos --out runs/mine",
        "The same, from the released weights": "kpedge train stage3 --data photos --out runs/finetuned "
        "--init-from stage3 --epochs 20",
    }
    return "".join(f"<dt>{escape(what)}</dt><dd>{code(command)}</dd>" for what, command in commands.items())


def _machine_rows(document: dict[str, Any]) -> list[Row]:
    machine = document["machine"]
    plain = {name: value for name, value in machine.items() if isinstance(value, str | int | float)}
    values = plain | machine["versions"] | document["settings"]
    return [(escape(name), escape(str(value))) for name, value in values.items()]


def code(words: str) -> str:
    """Words as code."""
    return f"<code>{escape(words)}</code>"


def link(path: str) -> str:
    """A link to a file in the page's folder."""
    return f'<a href="{escape(path)}">{escape(path)}</a>'


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction in percent, a dash where there is none."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def data_uri(path: Path) -> str:
    """An image or video as part of the page.

    Raises:
        ImageError: it is missing.
    """
    content = base64.b64encode(read_bytes(path, ImageError, "no such image")).decode()
    return f"data:{KINDS[path.suffix]};base64,{content}"


def figure(path: Path, alt: str, caption: str) -> str:
    """An image with its caption.

    Raises:
        ImageError: the image is missing.
    """
    height, width = decode_image(read_bytes(path, ImageError, "no such image"), str(path)).shape[:2]
    chart = ' class="chart"' if path.suffix == ".png" else ""
    return (
        f'<figure{chart}><img src="{data_uri(path)}" alt="{escape(alt)}" width="{width}" height="{height}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def tiles(figures: Iterable[tuple[str, str]]) -> str:
    """Figures with what they are, for a `dl`."""
    return "".join(f"<div><dt>{escape(what)}</dt><dd>{escape(value)}</dd></div>" for value, what in figures)


def table(caption: str, headers: Row, rows: Iterable[Row], *, left: Sequence[int] = (0,)) -> str:
    """A table of cells that are HTML already; the columns in `left` hold text, the others numbers."""
    kinds = [" class=text" if column in left else "" for column in range(len(headers))]
    head = "".join(f'<th scope="col"{kind}>{escape(name)}</th>' for kind, name in zip(kinds, headers, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
