"""Registries: the names of one kind of thing, and where each of them is defined.

A registry knows names without importing anything, so that `kpedge --help` lists them without PyTorch; what a name
stands for is imported when it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar, cast

from kpedge.core.errors import UsageError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Name -> thing of one kind, imported on first use.

    Args:
        flag: what errors call it, as "--backbone".
        places: name -> "module:attribute".
    """

    def __init__(self, flag: str, places: Mapping[str, str]) -> None:
        self._flag = flag
        self._places = dict(places)

    def __getitem__(self, name: str) -> T:
        """The thing of that name.

        Raises:
            UsageError: there is none.
        """
        if name not in self._places:
            raise UsageError(f"{self._flag} must be one of {', '.join(self)}, not {name!r}")
        module, _, attribute = self._places[name].partition(":")
        return cast("T", getattr(importlib.import_module(module), attribute))

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
