"""What every converter runs under: silence, no network, and one line when it fails."""

import contextlib
import logging
import re
import socket
import warnings
from collections.abc import Iterator
from typing import Any
from unittest import mock

from kpedge.core.errors import KpedgeError, ModelError
from kpedge.core.silence import silent


@contextlib.contextmanager
def converting(name: str) -> Iterator[None]:
    """Run a converter of this name: what it and its libraries print is kept from the user, and it reaches no network.

    Raises:
        ModelError: it failed; the message names the operator where the converter does.
    """
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            silent(),
            mock.patch.object(socket.socket, "connect", _refuse_network),
        ):
            warnings.simplefilter("ignore")
            yield
    except KpedgeError:
        raise
    except Exception as error:
        raise ModelError(f"{name} cannot convert the model: {failure(str(error)) or type(error).__name__}") from error
    finally:
        logging.disable(level)


def failure(text: str) -> str:
    """The line of a converter's output that says why it failed: the first that names an operator, or the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = (line for line in lines if re.search(r"aten[.:]|\bop(erator|eration)?s?\b|unsupported", line, re.I))
    return next(named, lines[-1] if lines else "")[:300]


def _refuse_network(_socket: socket.socket, address: Any) -> None:
    raise PermissionError(f"a converter asked for the network: {address}")
