"""`kpedge env`: what is installed, and what is wrong with it."""

import textwrap
from collections.abc import Sequence
from typing import Annotated

import typer

from kpedge.cli import output
from kpedge.cli.options import Json, examples
from kpedge.core.extras import EXTRAS, installed, pip_line

app = typer.Typer()


@app.command("doctor", hidden=True)
@app.command("env", epilog=examples("kpedge env", "kpedge env --imports", "kpedge env --json"))
def environment(
    imports: Annotated[
        bool,
        typer.Option(
            "--imports", help="Import PyTorch, too, which takes seconds: does it load, and which GPU does it see?"
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Print versions, processor and accelerators, and what is wrong with this installation and how to fix it."""
    from dataclasses import asdict

    from kpedge.core import environment as installation
    from kpedge.core import machine

    problems, missing = installation.find_problems(imports=imports), installation.missing_extras()
    providers: dict[str, str] = {}
    if not any(installation.import_error(module) for module in installation.NEEDED):
        from kpedge.runtime.sessions import offered_providers, provider_problem

        providers = {short: provider_problem(name) for short, name in offered_providers().items()}
    problems += [
        installation.Problem(
            f"onnxruntime's provider {name} does not work: {reason}",
            "install the driver and libraries that it needs (for cuda: pip install 'onnxruntime-gpu[cuda,cudnn]'), "
            "or use --provider cpu",
        )
        for name, reason in providers.items()
        if reason
    ]
    gpu = "not asked: add --imports" if installed("torch") else "unknown: PyTorch is not installed"
    if imports and installed("torch"):
        gpu = "unknown: PyTorch cannot be imported"
        if not installation.import_error("torch"):
            import torch

            gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none that PyTorch can use"
    described = machine.describe()
    features = machine.cpu_features()
    if as_json:
        output.result_json(
            {
                **described,
                "cpu_features": features,
                "providers": [name for name, reason in providers.items() if not reason],
                "gpu": gpu,
                "problems": [asdict(problem) for problem in problems],
                "missing_extras": missing,
            },
            indent=1,
        )
    else:
        versions = machine.versions()
        rows = [
            *((name, version) for name, version in versions.items()),
            ("system", str(described["system"])),
            ("processor", str(described["cpu"])),
            ("cores", str(described["cores"])),
            ("features", " ".join(features) or "unknown"),
            ("GPU", gpu),
            *((f"provider {name}", "does not work" if reason else "works") for name, reason in providers.items()),
            *_lines("extras", [extra for extra in EXTRAS if extra not in missing]),
            *_lines("not installed", list(missing)),
        ]
        output.table(("what", "found"), rows, left=2)
        if missing:
            output.say(f"to add an extra that you need: {pip_line('NAME')}")
    for problem in problems:
        output.say(f"problem: {problem.what}\n    fix: {problem.fix}")
    if problems:
        raise typer.Exit(1)
    output.say("nothing is wrong with this installation")


def _lines(title: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """The rows of a table that list some names."""
    lines = textwrap.wrap(", ".join(names), 72, break_on_hyphens=False) or ["none"]
    return [(title if line is lines[0] else "", line) for line in lines]
