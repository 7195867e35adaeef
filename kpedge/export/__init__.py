"""Model file formats: write them, open them, and verify that they compute the same numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpedge.core.lazy import lazy_names

if TYPE_CHECKING:
    from kpedge.export.exporter import ExportResult as ExportResult
    from kpedge.export.exporter import export_model as export_model
    from kpedge.export.load import open_model as open_model
    from kpedge.export.verification import verify as verify

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "kpedge.export.exporter": ("ExportResult", "export_model"),
        "kpedge.export.load": ("open_model",),
        "kpedge.export.verification": ("verify",),
    },
)
__all__ = __dir__()
