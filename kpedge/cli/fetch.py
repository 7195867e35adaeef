"""`kpedge data list` and `kpedge data fetch`: public sets, and getting them."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer

from kpedge.cli import output
from kpedge.cli.options import Force, Json, examples

if TYPE_CHECKING:
    from kpedge.data.catalogue import PublicSet

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def register(app: typer.Typer) -> None:
    """Add the commands to their group."""
    app.command(
        "list", epilog=examples("kpedge data list", "kpedge data list wflw", "kpedge data list --json > sets.json")
    )(list_sets)
    app.command(
        epilog=examples(
            "kpedge data fetch lfw",
            "kpedge data fetch youtube68 --out photos --unverified",
            "kpedge data fetch lfw --url https://mirror.example/lfw.tgz",
            "kpedge data fetch wflw --archive WFLW_images.tar.gz --archive WFLW_annotations.tar.gz",
            "kpedge data fetch --url https://intranet.example/faces.zip --sha256 5f2c… --out photos",
        )
    )(fetch)


def list_sets(
    name: Annotated[str, typer.Argument(help="Only this set. (default: all)", show_default=False)] = "",
    as_json: Json = False,
) -> None:
    """List public sets of faces: what they hold, how kpedge reads them, their terms, and where to get them."""
    from kpedge.data.catalogue import catalogue, public_set

    sets = [public_set(name)] if name else list(catalogue().values())
    if as_json:
        output.result_json([one.to_dict() for one in sets], indent=1)
        return
    for heading, wanted in (("kpedge data fetch NAME gets:", True), ("to be got by hand:", False)):
        chosen = [one for one in sets if bool(one.files) == wanted]
        if chosen and not name:
            output.result(heading)
        for one in chosen:
            output.result(f"  {one.name}: {one.title}")
            for line in _described(one, short=not name):
                output.result(_wrapped(line))
    if not name:
        output.say("more about one of them: kpedge data list NAME")
        output.say("once you have one by hand: kpedge data fetch NAME --archive FILE")
        output.say("a set's own terms hold: read its page before you use it, above all in a product")


def _described(one: PublicSet, *, short: bool) -> list[str]:
    """A set in a few lines."""
    counts = [
        f"{one.photos:,} photos" if one.photos is not None else "",
        f"{one.faces:,} faces" if one.faces else "no faces" if one.faces == 0 else "",
        f"{one.points} points" if one.points else "",
        "boxes" if one.boxes else "",
    ]
    reads = f"--format {one.label_format}" if one.label_format else "labels not read by kpedge"
    if not one.label_format and not one.points and not one.boxes:
        reads = "no labels"
    if one.label_format and one.scheme:
        reads += f" --scheme {one.scheme}"
    size = sum(file.size or 0 for file in one.files)
    how = f"fetch: {one.fetch}" + (f", {size / 1e6:,.0f} MB" if size else "") if one.files else ""
    return [
        line
        for line in (
            f"{', '.join(filter(None, counts))} · {reads}",
            f"terms: {one.terms}",
            "" if short else one.note,
            how,
            one.page,
        )
        if line
    ]


def _wrapped(line: str) -> str:
    """A line that fits the terminal, indented; addresses stay in one piece."""
    columns = max(60, min(120, get_terminal_size().columns))
    indent = " " * 6
    return fill(
        line, columns, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def parse_size(text: str) -> int:
    """A number of bytes, as `500MB` or `4 GB` or `1000000`.

    Raises:
        typer.BadParameter: it is none.
    """
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)\s*([kmgt]?)b?", text.strip().lower())
    value = int(float(match[1]) * UNITS[match[2]]) if match else 0
    if value < 1:
        raise typer.BadParameter(f"{text!r} is no size such as 500MB or 4GB")
    return value


def fetch(
    name: Annotated[str, typer.Argument(help="A set that `kpedge data list` names.", show_default=False)] = "",
    out: Annotated[Path | None, typer.Option(help="Folder to make. (default: NAME, here)", show_default=False)] = None,
    url: Annotated[
        str | None, typer.Option(help="Another address: a mirror of the set, or an archive of your own.")
    ] = None,
    archive: Annotated[
        list[Path] | None,
        typer.Option(
            "--archive", help="A file of the set that you have downloaded, instead of a download; repeatable."
        ),
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="What the file's SHA-256 has to be.")] = None,
    md5: Annotated[str | None, typer.Option(help="Its MD5, which guards against accidents only.")] = None,
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Take a file of which no checksum is known, and print its SHA-256.")
    ] = False,
    max_size: Annotated[str, typer.Option(help="Longest file, where its size is not known.")] = "4GB",
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds without a byte that are a stall.")] = 30.0,
    tries: Annotated[int, typer.Option(min=1, help="Failures in a row after which to give up.")] = 5,
    force: Force = False,
) -> None:
    """Download a public set, or an archive of your own, check it, and unpack it.

    Stop it at any time: the same command goes on where it was. Proxies are those of https_proxy, http_proxy, no_proxy.
    With --archive nothing is downloaded, and your file stays where and as it is.
    """
    from kpedge.core.errors import UsageError
    from kpedge.data.archives import fetch_archives
    from kpedge.data.catalogue import given_checksum, public_set
    from kpedge.data.download import Patience
    from kpedge.data.fetch import fetch as run_fetch
    from kpedge.data.fetch import from_elsewhere, own_set
    from kpedge.data.formats import FORMATS, may_read

    if archive and url is not None:
        raise UsageError("--archive and --url are two ways to have the same files", "give one of them")
    if archive and not name:
        raise UsageError("--archive needs the name of its set", "kpedge data list names them")
    if not name and url is None:
        raise UsageError("nothing is named to fetch", "give a name that kpedge data list shows, or --url")
    if not name and out is None:
        raise UsageError("--url alone needs a folder", "add --out")
    if sha256 is not None and md5 is not None:
        raise UsageError("--sha256 and --md5 are two checksums of one file", "give --sha256 alone, it is the stronger")
    limit = parse_size(max_size)
    checksum = None
    if sha256 is not None or md5 is not None:
        checksum = given_checksum("sha256", sha256) if sha256 is not None else given_checksum("md5", md5 or "")
    source = public_set(name) if name else own_set(url or "", checksum)
    if name and not archive:
        source = from_elsewhere(source, url, checksum)
    folder = out or Path(name)
    if source.terms and (source.files or archive):
        output.say(f"{source.title}\nterms: {source.terms}\npage:  {source.page}")
    if archive:
        with _byte_progress("reading") as update:
            fetched = fetch_archives(source, archive, folder, checksum=checksum, force=force, progress=update)
    else:
        with _told_how_to_go_on(), _byte_progress("connecting") as update:
            fetched = run_fetch(
                source,
                folder,
                unverified=unverified,
                force=force,
                max_size=limit,
                patience=Patience(stall_s=timeout, tries=tries),
                progress=update,
                say=output.say,
            )
    unknown = (
        "no checksum of it is known: nothing tells whether it is as it was published"
        if archive
        else "not verified; next time, give this with --sha256"
    )
    for file in fetched.files if fetched.new else ():
        state = f"the {file.checked} holds" if file.checked else unknown
        output.say(f"{file.name}: {file.size:,} bytes, SHA-256 {file.sha256}\n{' ' * len(file.name)}  {state}")
    done = (
        f"{fetched.unpacked:,} file{'s' * (fetched.unpacked != 1)}" if fetched.new else "there already, nothing to do"
    )
    output.say(f"{folder}: {done}")
    output.result(str(folder))
    known, place = source.label_format, folder / source.folder
    if known in FORMATS and not may_read(place, known):
        output.say(f"warning: nothing in {place} reads as {known}: is it the right archive, and all of them?")
    else:
        output.say(f"next: {source.next_step(folder)}")


@contextlib.contextmanager
def _told_how_to_go_on() -> Iterator[None]:
    """Tell who stops a download that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        output.say("stopped; the same command goes on from here")
        raise


@contextlib.contextmanager
def _byte_progress(first: str) -> Iterator[Callable[[str, int, int | None], None]]:
    """A progress bar of bytes on a terminal, which begins with the word `first`, and nothing elsewhere.

    Yields:
        A function that takes (what is done, bytes done, of how many or None).
    """
    if not output.on_terminal():
        yield lambda *_arguments: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=sys.stderr), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(first, total=None)
        shown = ""

        def update(what: str, done: int, total: int | None) -> None:
            nonlocal shown
            if what != shown:  # bytes of an earlier run are not part of the speed
                bar.reset(task, total=total, completed=done, description=what)
                shown = what
            bar.update(task, completed=done, total=total)

        yield update
