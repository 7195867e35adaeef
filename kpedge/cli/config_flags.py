"""Flags of a command from the fields of a configuration, so that none is written down twice."""

import functools
import inspect
from collections.abc import Callable, Collection
from dataclasses import fields
from typing import Annotated, Any, TypeVar

import typer

from kpedge.core.text import flag
from kpedge.training.config import RunConfig

Command = TypeVar("Command", bound=Callable[..., None])


def config_flags(defaults: RunConfig, *, without: Collection[str] = ()) -> Callable[[Command], Command]:
    """Replace a command's first parameter, a configuration of the class of `defaults`, by a flag for each field but
    some.
    """
    flags = {
        item.name: _option(item, getattr(defaults, item.name))
        for item in fields(defaults)
        if item.metadata["group"] and item.name not in without
    }

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_flags(**given: Any) -> None:
            values = {name: given.pop(name) for name in flags}
            command(_config(defaults, values), **given)

        _, *others = inspect.signature(command, eval_str=True).parameters.values()
        made = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, (annotation, default) in flags.items()
        ]
        kept = [item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in others]
        with_flags.__signature__ = inspect.Signature([*kept, *made])  # type: ignore[attr-defined]
        with_flags.__annotations__ = {item.name: item.annotation for item in (*kept, *made)}
        return with_flags  # type: ignore[return-value]

    return decorate


def _option(item: Any, default: Any) -> tuple[Any, Any]:
    """Annotation and default of a field's flag."""
    name, about = f"--{flag(item.name)}", item.metadata
    if isinstance(default, bool):
        name += f"/--no-{flag(item.name)}"
    option = typer.Option(name, help=about["help"], rich_help_panel=about["group"])
    if item.name == "milestones":
        return Annotated[list[float] | None, option], None
    if isinstance(default, tuple):
        return Annotated[list[str] | None, option], None
    return Annotated[type(default), option], default


def _config(defaults: RunConfig, given: dict[str, Any]) -> RunConfig:
    """The configuration with the flags given."""
    values = defaults.to_dict() | {name: value for name, value in given.items() if value is not None}
    values["lr_groups"] = tuple(_lr_group(text) for text in given["lr_groups"] or ())
    listed = {item.name for item in fields(defaults) if isinstance(item.default, tuple)} - {"lr_groups"}
    return type(defaults)(**values | {name: tuple(values[name]) for name in listed})


def _lr_group(text: str) -> tuple[str, float]:
    pattern, _, rate = text.rpartition("=")
    try:
        return pattern, float(rate)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not PATTERN=RATE, as in 'conv*=0.001'") from None
