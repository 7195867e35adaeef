"""The preview as an output of a live run."""

from __future__ import annotations

from kpedge.runtime.server.address import parse_address
from kpedge.runtime.server.server import ServeSink
from kpedge.runtime.sinks.outputs import OutputContext


def open_preview(address: str, context: OutputContext) -> ServeSink:
    """A preview at HOST:PORT."""
    return ServeSink(parse_address(address), context.controls, context.scheme, context.token, context.notify)
