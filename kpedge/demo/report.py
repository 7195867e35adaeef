"""The page that tells the story: one file with all its pictures, which asks nobody for anything."""

from __future__ import annotations

import shlex
from pathlib import Path
from string import Template
from typing import Any

from kpedge import __version__
from kpedge.demo.html import Row, code, data_uri, duration, link, percent, picture, table, text, tiles
from kpedge.demo.make import RELEASED, SHOWN, TRAINED

LONG_TAIL = 2.0
"""A 95th percentile of more medians than this is explained, where the load explains it."""
PAGE_FOLDER = Path(__file__).resolve().parent / "page"


def page(folder: Path, out: Path, document: dict[str, Any]) -> str:
    """The page of a demo.

    Args:
        folder: where its pictures lie now.
        out: what the user calls the folder, for the commands.
        document: the content of `report.json`.

    Returns:
        HTML. Pictures and video are part of it; links are relative to the folder.

    Raises:
        ImageError: a picture is missing.
    """
    template = Template((PAGE_FOLDER / "page.html").read_text(encoding="utf-8"))
    video, training = document["video"], document["training"]
    trained, released = document["accuracy"]["synthetic"]
    real = document["accuracy"]["sample"]
    return template.substitute(
        style=(PAGE_FOLDER / "page.css").read_text(encoding="utf-8"),
        version=text(__version__),
        lead=text(_lead(document)),
        video=_video(folder, document),
        video_tiles=_video_tiles(video),
        stills=picture(
            folder / "pictures" / "stills.jpg",
            f"Eight moments of the video: a face near, both prints from afar, a face turned, a helmet without a "
            f"face, and back; boxes, points and axes are drawn over the faces that were found among {video['shown']}.",
            "Eight moments of it. A new face is looked for once a second while another is followed, so one that comes "
            "in may wait; a number is kept for a second after its face was lost.",
        ),
        model_tiles=tiles(
            [
                (f"{document['faces']['faces']:,}", "synthetic faces"),
                (f"{training['recipe']['epochs']}", f"epochs, {_step(document, 'Train'):.0f} s"),
                (percent(trained["nme_box"]), "mean error on synthetic test faces"),
                (percent(trained["mean_face_nme"]), "of the mean face, to compare"),
            ]
        ),
        synthetic=picture(
            folder / "pictures" / "synthetic.jpg",
            "24 rendered faces of all kinds of skin, hair, light and pose, half of them with their 21 points.",
            "Parametric heads in three dimensions, lit, posed and photographed by a program. Every other one is shown "
            "with its points, which come from the same head, so they are exact. Under each: the seed, as kpedge data "
            "synth takes it, and the number of the photo.",
        ),
        curves=picture(
            folder / "pictures" / "curves.png",
            f"Curves over the epochs: losses fall, the validation error falls to {percent(training['best_nme'])} of "
            f"the box, below the mean face's {percent(training['mean_face_nme'])}.",
            f"The recipe of stage 3, cut short; epoch {training['best_epoch']} was kept.",
            chart=True,
        ),
        accuracy=table(
            "Mean distance of the points from the truth, fraction of the face's box; faces over 10 % count as failures",
            ("model", "faces", "mean error", "failures", "mean face's error"),
            [
                *(_accuracy(one, "synthetic, test split") for one in (trained, released)),
                *(_accuracy(one, "the sample photo") for one in real),
            ],
        ),
        predictions=picture(
            folder / "pictures" / "predictions.jpg",
            "Synthetic test faces, best to worst, with the points that the new model found and the true ones.",
            _sheet(document),
        ),
        sample="".join(
            picture(
                folder / "pictures" / f"{name}.jpg",
                f"The sample photo's face with the points of the model {who} and the labels.",
                f"{who.capitalize()}: {percent(figures['nme_box'])} on this real face.",
            )
            for name, who, figures in zip(("sample_trained", "sample_released"), (TRAINED, RELEASED), real, strict=True)
        ),
        parity=text(_parity(document["parity"])),
        models=table(
            "The exported files, with all that a device has to know inside",
            ("file", "bytes", "SHA-256"),
            [
                (link(f"models/{name}"), f"{document['files'][f'models/{name}']:,}", code(digest[:16] + "…"))
                for name, digest in document["parity"]["files"].items()
            ],
            left=(0, 2),
        ),
        speed=text(_speed(document)),
        latency=table(
            "One crop, one thread",
            ("backend", "median, ms", "95 %, ms", "eager's time over this"),
            [
                (text(row["backend"]), f"{row['median_ms']:.3f}", f"{row['p95_ms']:.3f}", f"{row['ratio']:.2f}")
                for row in document["latency"]["rows"]
            ],
        ),
        latency_chart=picture(
            folder / "benchmark" / "latency.png",
            "Bars of the times in the table above.",
            "The same as a picture.",
            chart=True,
        ),
        frame_note=text(_frame_note(video)),
        frame_times=table(
            f"The video: what a frame of 640x480 took, mean of {video['frames']}, one thread",
            ("step", "ms"),
            [
                *((text(name), f"{value:.2f}") for name, value in video["steps_ms"].items()),
                ("all", f"{sum(video['steps_ms'].values()):.2f}"),
            ],
        ),
        honest="".join(f"<li>{text(line)}</li>" for line in _honest(document)),
        next=_next(out),
        steps=table(
            "The steps",
            ("step", "what came out", "seconds", "of processor time"),
            [
                (text(step["title"]), text(step["result"]), f"{step['seconds']:.1f}", f"{step['cpu_seconds']:.1f}")
                for step in document["steps"]
            ],
            left=(0, 1),
        ),
        machine=table("Machine, versions, settings", ("what", "value"), _machine(document), left=(0, 1)),
        files=table(
            "All but the synthetic photos",
            ("file", "bytes"),
            [(link(name), f"{size:,}") for name, size in document["files"].items()],
        ),
    )


def _step(document: dict[str, Any], start: str) -> float:
    return float(next(step["seconds"] for step in document["steps"] if step["title"].startswith(start)))


def _lead(document: dict[str, Any]) -> str:
    machine, count = document["machine"], len(document["steps"])
    cores = f"{machine['cores']} core{'s' * (machine['cores'] != 1)}"
    return (
        f"{count} steps in {duration(document['seconds'])}, of them {duration(document['cpu_seconds'])} of processor "
        f"time, on {cores} of {machine['cpu']}: faces were rendered, a model trained, exported, proved and measured, "
        "and the released models followed faces through a video. No data, no camera, no network."
    )


def _video(folder: Path, document: dict[str, Any]) -> str:
    """The annotated video, or a word where this OpenCV cannot write one that browsers play."""
    names = document["video"]["files"]
    own = next((name for name in names if name.endswith(".webm")), None)
    others = " and ".join(link(f"video/{name}") for name in names)
    caption = f"Box, number, score, 21 points and the head's axes, as <code>kpedge webcam</code> draws them: {others}."
    if own is None:
        return f"<p>This OpenCV cannot write a video that browsers play; stills are below. {caption}</p>"
    return (
        f'<figure><video controls muted loop playsinline preload="auto" width="640" height="480" '
        f'aria-label="Annotated video: faces are followed while the camera moves" '
        f'src="{data_uri(folder / "video" / own)}"></video><figcaption>{caption}</figcaption></figure>'
    )


def _video_tiles(video: dict[str, Any]) -> str:
    waits = [one for one in video["found_after_s"] if one is not None]
    missed = len(video["found_after_s"]) - len(waits)
    share = video["followed"] / video["shown"] if video["shown"] else None
    return tiles(
        [
            (percent(video["error"]), "of the box: mean error, against labels that move with the picture"),
            (percent(video["jitter"], 3), "of the box: jitter while the camera rests"),
            (percent(share, 1), f"of {video['shown']:,} faces in view were followed"),
            (f"{max(waits):.2f} s" if waits else "–", f"longest wait of {len(waits)} faces that came into view")
            if not missed
            else (f"{missed}", "faces that came into view were not found"),
            (f"{sum(video['steps_ms'].values()):.1f} ms", "a frame, from file to points, one thread"),
            (f"{video['frames_a_second']:.0f}", "frames a second could be followed"),
        ]
    )


def _accuracy(figures: dict[str, Any], where: str) -> Row:
    return (
        text(f"{figures['model']}, {where}"),
        f"{figures['faces']:,}",
        percent(figures["nme_box"]),
        percent(figures["failure_rate"], 1),
        percent(figures["mean_face_nme"]),
    )


def _parity(parity: dict[str, Any]) -> str:
    worst = parity["worst"]
    return (
        f"{parity['comparisons']} comparisons with PyTorch, output by output, on real and random crops and in several "
        f"batch sizes, all held. The one nearest to its limit differs by {worst['largest']:.1e}, and "
        f"{worst['tolerance']:.0e} was allowed. A file that fails is not left behind."
    )


def _sheet(document: dict[str, Any]) -> str:
    """How the faces of the preview of predictions were chosen."""
    trained, released = document["accuracy"]["synthetic"]
    shown = min(SHOWN, trained["faces"])
    return (
        f"{shown} of {trained['faces']} test faces, in equal steps from the best to the worst of all, each with its "
        "mean error: found points in colour, true ones as white rings. The last is what a training as short as this "
        f"one leaves: {percent(trained['worst_face'], 1)}. The worst of all for {released['model']}: "
        f"{percent(released['worst_face'], 1)}."
    )


def _tails(document: dict[str, Any]) -> str:
    """Why the 95th percentiles are far above the medians, where other programs were the reason; a sentence or none."""
    machine = document["machine"]
    load, cores = machine["load_1min"], machine["cores"]
    longest = max(row["p95_ms"] / row["median_ms"] for row in document["latency"]["rows"])
    if load is None or load < cores or longest < LONG_TAIL:
        return ""
    return (
        f" The 95th percentiles reach {longest:.0f} medians: the machine was busy with other programs, at a load of "
        f"{load} on {cores} core{'s' * (cores != 1)} before the demo began."
    )


def _frame_note(video: dict[str, Any]) -> str:
    """Why a step of a frame takes longer than the call timed above."""
    return (
        "A frame's keypoints may take longer than the crop's above. There, calls follow one another on crops that lie "
        "ready, and a median leaves out what held some of them up; here each step comes after others, on cold caches, "
        f"and a mean holds every delay. A frame had {video['shown'] / video['frames']:.1f} faces in view on average."
    )


def _speed(document: dict[str, Any]) -> str:
    latency = document["latency"]
    return (
        f"{latency['rounds']} interleaved rounds, each {latency['warmup_calls_a_round']} calls to warm up and "
        f"{latency['calls_a_round']} timed; {latency['timed']}. The model made here and the released stage 3 are the "
        f"same network.{_tails(document)}"
    )


def _honest(document: dict[str, Any]) -> list[str]:
    trained, _ = document["accuracy"]["synthetic"]
    real = {one["model"]: one for one in document["accuracy"]["sample"]}
    load = document["machine"]["load_1min"]
    return [
        f"Errors on synthetic faces are not errors on real ones. The model made here errs by "
        f"{percent(trained['nme_box'])} on faces from the renderer that made its training faces, and by "
        f"{percent(real[TRAINED]['nme_box'])} on the one real face at hand, where the released one errs by "
        f"{percent(real[RELEASED]['nme_box'])}. One face proves nothing; the README has the errors on test photos.",
        "The released models that find points were trained on labelled photos and on faces of the same renderer, but "
        f"not on these: a demo's faces have seeds of their own (here {document['faces']['seed']}). Their errors on "
        "synthetic faces, too, are on faces of a renderer that they know.",
        f"Do not deploy the model made here: it was trained for {duration(_step(document, 'Train'))}. Released models: "
        "see their cards.",
        "The video's faces are flat prints of one photo: they are found, turned, enlarged and lost, but do not turn "
        "their heads. The error holds the labels of that photo, and thus also what the model gets wrong when it stands "
        "still.",
        f"Times are those of this machine in these minutes; its load was {load if load is not None else 'not known'} "
        "before the demo began. Ratios within a round say more than milliseconds.",
        f"The same seed ({document['settings']['seed']}) gives the same faces and, with the same versions, processor "
        "and number of threads, the same model.",
    ]


def _next(out: Path) -> str:
    """Commands to go on with."""

    def own(path: str) -> str:
        return shlex.quote(str(out / path))

    commands = [
        ("Your own face, live", "kpedge webcam"),
        ("The video once more", f"kpedge webcam {own('video/scene.mp4')} --pose"),
        ("A photo of yours", "kpedge predict photo.jpg --out drawn"),
        ("The proof once more", f"kpedge verify {own('models/demo.onnx')} {own('models/demo.torchscript.pt')}"),
        ("Look at the labels", f"kpedge data check {own('synthetic')} --preview preview.png"),
        ("Train in earnest, on labelled photos", "kpedge train stage3 --data photos --out runs/mine"),
        (
            "The same, from the weights of this demo",
            f"kpedge train stage3 --data photos --out runs/finetuned --init-from {own('run/best.pt')}",
        ),
    ]
    rows = "".join(f"<dt>{text(what)}</dt><dd>{code(command)}</dd>" for what, command in commands)
    return f'<dl class="commands">{rows}</dl>'


def _machine(document: dict[str, Any]) -> list[Row]:
    machine, settings = document["machine"], document["settings"]
    plain = {name: value for name, value in machine.items() if isinstance(value, str | int | float)}
    return [
        *((text(name), text(str(value))) for name, value in plain.items()),
        *((text(name), text(value)) for name, value in machine["versions"].items()),
        *(
            (text(f"--{name}" if name in ("seed", "threads") else name), text(str(value)))
            for name, value in settings.items()
        ),
    ]
