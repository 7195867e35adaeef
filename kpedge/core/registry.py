"""Registries: the names of one kind of thing, and where each of them is defined.

A registry knows names without importing anything, so that `kpedge --help` lists them without PyTorch; what a name
stands for is imported when it is asked for.
"""

import ast
import difflib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar, cast

from kpedge.core.errors import UsageError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Name -> thing of one kind, imported on first use from its place, "module:attribute". Errors call the kind by its
    flag.

    Any name of the module `library`, if it is given, is accepted, too, as is `package.module.Name`; these are not
    listed.
    """

    def __init__(self, flag: str, places: Mapping[str, str], library: str = "") -> None:
        self.library = library
        self._flag = flag
        self._places = dict(places)

    def __getitem__(self, name: str) -> T:
        """The thing of that name.

        Raises:
            UsageError: there is none.
        """
        module, colon, attribute = self._places.get(name, "").partition(":")
        if not colon and self.library:
            module, _, attribute = name.rpartition(".")
        try:
            if not attribute.isidentifier() or attribute.startswith("_"):
                raise AttributeError
            thing = getattr(importlib.import_module(module or self.library), attribute)
            if not (colon or callable(thing)):  # a module of the library, as torch.optim.adam
                raise AttributeError
            return cast("T", thing)
        except (ImportError, AttributeError, ValueError):
            if colon:
                raise
            known = [*self, *([f"a name of {self.library}", "package.module.Name"] if self.library else [])]
            near = difflib.get_close_matches(name, [*self, *self._library_names()])
            raise UsageError(
                f"{self._flag} must be one of {', '.join(known)}, not {name!r}",
                f"did you mean {' or '.join(near)}?" if near else "",
            ) from None

    def _library_names(self) -> list[str]:
        library = importlib.import_module(self.library) if self.library else None
        return [name for name in dir(library) if name[0] != "_" and callable(getattr(library, name))] if library else []

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def parse_arguments(text: str, flag: str) -> dict[str, Any]:
    """Keyword arguments as one writes them in Python: `momentum=0.9, betas=(0.9, 0.99), mode=max`.

    Raises:
        UsageError: the text is something else.
    """
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError
        if any(item.arg is None for item in call.keywords):  # **something
            raise ValueError
        return {str(item.arg): _value(item.value) for item in call.keywords}
    except (SyntaxError, ValueError):
        raise UsageError(f"{flag} {text!r}: not keyword arguments, as in 'momentum=0.9, nesterov=True'") from None


def _value(node: ast.expr) -> Any:
    return node.id if isinstance(node, ast.Name) else ast.literal_eval(node)
