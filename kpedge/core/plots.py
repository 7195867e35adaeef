"""Charts: one look, and no display needed. Imports matplotlib, so it is imported only where a chart is drawn."""

from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter


def new_figure(count: int, inches: tuple[float, float], columns: int | None = None) -> tuple[Figure, list[Any]]:
    """A figure with so many axes, all side by side or `columns` of them in a row: light grid, no frame on top and
    right.
    """
    columns = columns or count
    figure = Figure(figsize=inches, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(-(-count // columns), columns, number + 1) for number in range(count)]
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def count_along_x(axis: Any) -> None:
    """Mark whole numbers only on the horizontal axis: there is no epoch 2.5."""
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))


def plain_log_ticks(axis: Any) -> None:
    """Mark 0.1, 0.2, 0.5, 1 and so on along a logarithmic axis, without exponents."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))


def legend_below(axis: Any) -> None:
    """Put the legend under the axis, where it covers no curve."""
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, frameon=False, fontsize=9)
