"""Flags, commands and formats that had another name in the last release: accepted for one more, with a note."""

from collections.abc import Sequence

from kpedge.cli import output

FLAGS = {
    "--faceless": "--background",
    "--find-within": "--detection-interval",
    "--faceless-times": "--background-weight",
    "--sheet": "--preview",
    "--optimiser": "--optimizer",
    "--lr-sgd": "--sgd-lr",
    "--switch": "--switch-at",
    "--clip": "--grad-clip",
    "--ema": "--ema-decay",
    "--lowres": "--downscale",
    "--peak": "--jitter-exponent",
    "--also": "--extra-data",
    "--others": "--extra-ratio",
    "--whole": "--full-frame",
    "--blanks": "--cutout",
}
"""Old flag -> new flag, in every command."""
VALUES = {("--format", "faceless"): "background"}  # flag and old value -> new value
COMMANDS = {("data", "sheet"): ("data", "preview")}  # first arguments of an old command -> those of the new one


def current_arguments(arguments: Sequence[str]) -> list[str]:
    """Arguments of a command line with the names of today; each old name is noted on standard error."""
    found: list[str] = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name in FLAGS:
            argument = f"{FLAGS[name]}{equals}{value}"
            output.say(f"note: {name} is now called {FLAGS[name]}")
        elif found and (found[-1], argument) in VALUES:
            argument = VALUES[found[-1], argument]
        found.append(argument)
    command = tuple(found[:2])
    if command in COMMANDS:
        found[:2] = COMMANDS[command]
        output.say(f"note: kpedge {' '.join(command)} is now called kpedge {' '.join(found[:2])}")
    return found
