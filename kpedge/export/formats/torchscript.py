"""TorchScript: the one file that touches `torch.jit`.

PyTorch has deprecated TorchScript and does not support it from Python 3.14 on. It stays a format of kpedge for
programs, often in C++, that load it today; new ones should use ONNX. docs/formats.md says so too.
"""

import contextlib
import io
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from kpedge.core.card import EXTRA_FILE, Card, card_from_json
from kpedge.core.errors import CorruptModelError
from kpedge.core.extras import importable
from kpedge.core.files import write_bytes
from kpedge.export.export_format import ExportFormat, ExportSource

T = TypeVar("T")


def _jit(call: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """Call into `torch.jit` without its deprecation warning, which docs/formats.md passes on instead."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*`torch\.jit.*", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=r".*`torch\.jit.*", category=FutureWarning)
        return call(*arguments, **options)


def write(source: ExportSource, path: Path) -> None:
    """Write a model as a TorchScript file."""
    write_bytes(path, torchscript_bytes(source.model, source.card))


def is_torchscript(path: Path, start: bytes) -> bool:
    """Whether a file is a TorchScript archive."""
    if start[:2] != b"PK":
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def torchscript_bytes(model: Any, card: Card) -> bytes:
    """A model as the content of a TorchScript file, with its card as an extra file.

    The model is traced with a batch of 2 and takes any batch. Debug records, which hold local paths, are left out.
    """
    torch: Any = importable("torch", "export")
    traced = trace(model, torch.zeros((2, *card.dummy_input_shape), dtype=torch.uint8))
    buffer = io.BytesIO()
    _jit(torch.jit.save, traced, buffer, _extra_files={EXTRA_FILE: card.to_json().encode()})
    return _canonical(buffer.getvalue())


def trace(model: Any, example: Any) -> Any:
    """A model as a TorchScript module."""
    torch: Any = importable("torch", "export")
    with torch.inference_mode(), _nondeterministic():
        # The first trace of a process gets plain class names, every later one mangled ones. The second is kept, so
        # that names are always mangled and can be renumbered.
        for _ in range(2):
            traced = _jit(torch.jit.trace, model.eval(), (example,))
    return traced


@contextlib.contextmanager
def _nondeterministic() -> Iterator[None]:
    """PyTorch's default, whatever training set before: a trace writes that flag into every convolution."""
    torch: Any = importable("torch", "export")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _canonical(data: bytes) -> bytes:
    """The same archive with everything left out or renamed that depends on the machine or on what it did before.

    Debug records and the hash over the original content go, dates are fixed, mangled class names are numbered in the
    order in which they appear.
    """
    numbers: dict[bytes, bytes] = {}

    def renumber(text: bytes) -> bytes:
        def name(match: re.Match[bytes]) -> bytes:
            return numbers.setdefault(match[0], b"___torch_mangle_%d" % len(numbers))

        return re.sub(rb"___torch_mangle_\d+", name, text)

    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as new:
        for entry in old.namelist():
            if entry.endswith((".debug_pkl", "/serialization_id")):
                continue
            content = old.read(entry)
            if entry.endswith((".py", "/data.pkl")):
                content = renumber(content)
            info = zipfile.ZipInfo(renumber(entry.encode()).decode(), date_time=(1980, 1, 1, 0, 0, 0))
            new.writestr(info, content)
    return out.getvalue()


def load_torchscript(path: Path) -> tuple[Any, Card]:
    """Open a TorchScript file: the module, in evaluation mode, and its card.

    Raises:
        CorruptModelError: broken, or not from kpedge (no card).
    """
    torch: Any = importable("torch", "train")
    extra = {EXTRA_FILE: b""}
    try:
        module = _jit(torch.jit.load, str(path), map_location="cpu", _extra_files=extra)
    except (RuntimeError, ValueError) as error:
        raise CorruptModelError(f"{path}: not a TorchScript file, or cut off") from error
    if not extra[EXTRA_FILE]:
        raise CorruptModelError(
            f"{path}: a TorchScript file without a kpedge card",
            "export it with: kpedge export CHECKPOINT --format torchscript",
        )
    return module.eval(), card_from_json(extra[EXTRA_FILE], str(path))


FORMAT = ExportFormat(
    name="torchscript",
    suffix=".torchscript.pt",
    purpose="programs, often in C++, that load it today; deprecated by PyTorch",
    modules=("torch",),
    write=write,
    signature=is_torchscript,
)
