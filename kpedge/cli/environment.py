"""`kpedge env`: what is installed, and what is wrong with it."""

from __future__ import annotations

import typer

from kpedge.cli import output
from kpedge.cli.options import Json, examples


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("env", epilog=examples("kpedge env", "kpedge env --json"))(environment)


def environment(as_json: Json = False) -> None:
    """Print versions, processor and accelerators, and what is wrong with this installation, each with its cure."""
    from dataclasses import asdict

    from kpedge.core import environment as installation
    from kpedge.core import machine
    from kpedge.core.extras import installed

    problems, missing = installation.find_problems(), installation.missing_extras()
    try:
        import onnxruntime

        providers = onnxruntime.get_available_providers()
    except ImportError:
        providers = []
    if not installed("torch"):
        gpu = "unknown: PyTorch is not installed"
    elif installation.import_error("torch"):
        gpu = "unknown: PyTorch cannot be imported"
    else:
        import torch

        gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none that PyTorch can use"
    described = machine.describe()
    features = machine.cpu_features()
    if as_json:
        output.result_json(
            {
                **described,
                "cpu_features": features,
                "providers": providers,
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
            ("onnxruntime providers", " ".join(providers)),
        ]
        output.table(("what", "found"), rows, left=2)
    for extra, line in missing.items():
        output.say(f"extra not installed: {extra}; if you need it: {line}")
    for problem in problems:
        output.say(f"problem: {problem.what}\n   cure: {problem.cure}")
    if problems:
        raise typer.Exit(1)
    output.say("nothing is wrong with this installation")
