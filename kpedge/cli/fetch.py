"""`kpedge data list` and `kpedge data fetch`: find public datasets and download them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer

from kpedge.cli import output
from kpedge.cli.options import Force, Json, examples
from kpedge.core.errors import UsageError
from kpedge.core.text import format_count

if TYPE_CHECKING:
    from kpedge.data.catalogue import PublicSet

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


app = typer.Typer()


@app.command(
    "list", epilog=examples("kpedge data list", "kpedge data list wflw", "kpedge data list --json > sets.json")
)
def list_sets(
    name: Annotated[str, typer.Argument(help="Only this set. (default: all)", show_default=False)] = "",
    as_json: Json = False,
) -> None:
    """List public face datasets: contents, label format, terms, and where to get them."""
    from kpedge.data.catalogue import catalogue, public_set

    sets = [public_set(name)] if name else list(catalogue().values())
    if as_json:
        output.result_json([one.to_dict() for one in sets], indent=1)
        return
    for heading, downloadable in (("kpedge data fetch NAME downloads:", True), ("download yourself:", False)):
        listed = [one for one in sets if bool(one.files) == downloadable]
        if listed and not name:
            output.result(heading)
        for one in listed:
            output.result(f"  {one.name}: {one.title}")
            for line in _describe(one, short=not name):
                output.result(_wrap(line))
    if not name:
        output.say("more about one of them: kpedge data list NAME")
        output.say("after you have downloaded one yourself: kpedge data fetch NAME --archive FILE")
        output.say("each set has its own terms: read its page before you use it, above all in a product")


def _describe(one: PublicSet, *, short: bool) -> list[str]:
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


def _wrap(line: str) -> str:
    """A line that fits the terminal, indented; addresses are not broken."""
    columns = max(60, min(120, get_terminal_size().columns))
    indent = " " * 6
    return fill(
        line, columns, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def parse_size(text: str) -> int:
    """Parse a number of bytes such as `500MB` or `4 GB` or `1000000`.

    Raises:
        typer.BadParameter: it is not one.
    """
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)\s*([kmgt]?)b?", text.strip().lower())
    value = int(float(match[1]) * UNITS[match[2]]) if match else 0
    if value < 1:
        raise typer.BadParameter(f"{text!r} is not a size such as 500MB or 4GB")
    return value


@app.command(
    epilog=examples(
        "kpedge data fetch lfw",
        "kpedge data fetch youtube68 --out photos --unverified",
        "kpedge data fetch lfw --url https://mirror.example/lfw.tgz",
        "kpedge data fetch wflw --archive WFLW_images.tar.gz --archive WFLW_annotations.tar.gz",
        "kpedge data fetch --url https://intranet.example/faces.zip --sha256 5f2c… --out photos",
    )
)
def fetch(
    name: Annotated[str, typer.Argument(help="A set from `kpedge data list`.", show_default=False)] = "",
    out: Annotated[
        Path | None, typer.Option(help="Folder to create. (default: NAME in the current folder)", show_default=False)
    ] = None,
    url: Annotated[str | None, typer.Option(help="Another address: a mirror of the set, or your own archive.")] = None,
    archive: Annotated[
        list[Path] | None,
        typer.Option("--archive", help="A file of the set that you have downloaded already; repeatable."),
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="SHA-256 that the file must have.")] = None,
    md5: Annotated[str | None, typer.Option(help="MD5 that the file must have; guards against accidents only.")] = None,
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Accept a file without a known checksum, and print its SHA-256.")
    ] = False,
    max_size: Annotated[str, typer.Option(help="Largest download if the size is not known.")] = "4GB",
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds without data after which to reconnect.")] = 30.0,
    tries: Annotated[int, typer.Option(min=1, help="Connections that may fail.")] = 5,
    force: Force = False,
) -> None:
    """Download a public set, or your own archive, verify it, and unpack it.

    Stop it at any time; the same command continues with the first file that was not complete. Proxies are taken from
    https_proxy, http_proxy and no_proxy. With --archive nothing is downloaded, and your file is only read.
    """
    from kpedge.data.catalogue import parse_checksum, public_set
    from kpedge.data.fetch import custom_set, override
    from kpedge.data.fetch import fetch as run_fetch
    from kpedge.data.formats import FORMATS, can_read

    if archive and (url is not None or not name):
        raise UsageError("--archive needs the name of its set, and no --url", "see: kpedge data list")
    if not name and (url is None or out is None):
        raise UsageError("nothing to fetch", "give a name from kpedge data list, or --url and --out")
    if sha256 is not None and md5 is not None:
        raise UsageError("--sha256 and --md5 cannot be combined", "use --sha256, it is stronger")
    limit = parse_size(max_size)
    kind, text = ("md5", md5) if md5 is not None else ("sha256", sha256)
    checksum = parse_checksum(kind, text) if text is not None else None
    source = override(public_set(name), url, checksum) if name else custom_set(url or "", checksum)
    folder = out or Path(name)
    if source.terms and (source.files or archive):
        output.say(f"{source.title}\nterms: {source.terms}\npage:  {source.page}")
    with _byte_progress() as update:
        fetched = run_fetch(
            source,
            folder,
            archives=archive or (),
            unverified=unverified,
            force=force,
            max_size=limit,
            timeout=timeout,
            tries=tries,
            progress=update,
            notify=output.say,
        )
    for file in fetched.files if fetched.new else ():
        state = f"{file.checked} verified" if file.checked else "not verified: its checksum was not known"
        output.say(f"{file.name}: {file.size:,} bytes, SHA-256 {file.sha256}, {state}")
    output.say(f"{folder}: {format_count(fetched.unpacked, 'file')}" if fetched.new else f"{folder}: up to date")
    output.result(str(folder))
    labels = folder / source.folder
    if source.label_format in FORMATS and not can_read(labels, source.label_format):
        output.say(f"warning: no {source.label_format} labels in {labels}: is it the right archive, and all of them?")
    else:
        output.say(f"next: {source.next_step(folder)}")


@contextlib.contextmanager
def _byte_progress() -> Iterator[Callable[[str, int, int | None], None] | None]:
    """A progress bar of bytes on a terminal: a function of (what is done, bytes, of how many); None elsewhere."""
    if not output.on_terminal():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(24), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("connecting", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
