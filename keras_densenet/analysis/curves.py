"""The learning curves of a run, as a picture."""

import csv
import math
import os
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_NOT_DRAWN = ("epoch", "images_per_second", "peak_memory_mb")


def plot_curves(
    metrics: str | os.PathLike, picture: str | os.PathLike | None = None
) -> Figure | None:
    """Draw each metric against the epochs, training beside validation.

    Args:
        metrics: A run's `metrics.csv`.
        picture: Where to save the picture, if at all; its ending, such as `.png`, names
            the format.

    Returns:
        The figure, or None where there is nothing to draw.
    """
    curves = read_metrics(metrics)
    epochs = [epoch + 1 for epoch in curves.get("epoch", [])]
    names = [n for n in curves if n not in _NOT_DRAWN and not n.startswith("val_")]
    names.sort(key=lambda name: (name != "loss", name == "learning_rate", name))
    if not epochs or not names:
        return None
    figure = Figure(figsize=(4.6 * len(names), 3.6), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for axis, name in zip(axes, names, strict=True):
        _draw(axis, epochs, name, curves)
    if picture:
        figure.savefig(picture, dpi=120)
    return figure


def read_metrics(metrics: str | os.PathLike) -> dict[str, list[float]]:
    """Return the columns of a `metrics.csv`, with NaN where an epoch has no value.

    If the last line is incomplete, it is left out.

    Raises:
        ValueError: The file is not such a table.
    """
    try:
        with Path(metrics).open(newline="") as file:
            rows = list(csv.DictReader(file))
        if rows and None in rows[-1].values():
            rows.pop()
        names = rows[0] if rows else ()
        return {name: [_number(row[name]) for row in rows] for name in names}
    except (ValueError, TypeError, csv.Error) as error:
        raise ValueError(
            f"{metrics} is no table of numbers ({error}). Give a run's metrics.csv."
        ) from error


def _number(text: str) -> float:
    return math.nan if text in ("", "NA") else float(text)


def _draw(axis: Axes, epochs: list[float], name: str, curves: dict) -> None:
    marker = "o" if len(epochs) < 20 else ""
    values = {"training": curves[name], "validation": curves.get(f"val_{name}", [])}
    for label, series in values.items():
        known = [
            (epoch, value)
            for epoch, value in zip(epochs, series, strict=False)
            if not math.isnan(value)
        ]
        if known:
            axis.plot(
                *zip(*known, strict=True), marker=marker, markersize=3, label=label
            )
    axis.set_title(name.replace("_", " "))
    axis.set_xlabel("epoch")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    if name == "learning_rate" and any(rate > 0 for rate in curves[name]):
        axis.set_yscale("log")
    elif len(axis.lines) > 1:
        axis.legend()
