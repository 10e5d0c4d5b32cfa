"""Drawings of several labels a picture: curves of each, and how far to believe them."""

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from keras_densenet.analysis.drawn_names import drawn_names
from keras_densenet.analysis.predictions import LabelPredictions, Reliability

COLORS = "tab20"
MOST_LABELS = 20  # that are drawn in one figure, each in a color of its own
COLUMNS = 5  # of small drawings


def drawn_labels(predictions: LabelPredictions) -> list[int]:
    """Return the numbers of the first labels that some pictures have, and some not."""
    every = range(len(predictions.class_names))
    both = [n for n in every if predictions.of_label(n).are_of_both_kinds]
    return both[:MOST_LABELS]


def plot_label_curves(predictions: LabelPredictions) -> Figure:
    """Draw the ROC curve and the precision-recall curve of each label.

    A dot marks the threshold from which on the label is given.

    Raises:
        ValueError: There is no label that some pictures have, and some have not.
    """
    numbers = _some(predictions)
    figure = Figure(figsize=(10.5, 4.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    names, families = drawn_names([predictions.class_names[n] for n in numbers])
    colors = colormaps[COLORS](np.arange(len(numbers)) % MOST_LABELS)
    for number, name, color in zip(numbers, names, colors, strict=True):
        _draw_curves(left, right, predictions, number, name, color)
    left.plot([0, 1], [0, 1], "--", color="gray", linewidth=1)
    left.set(xlabel="1 - specificity", ylabel="sensitivity", title="ROC")
    right.set(
        xlabel="sensitivity (recall)", ylabel="precision", title="Precision-recall"
    )
    for axis in (left, right):
        axis.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    lines, texts = left.get_legend_handles_labels()
    figure.legend(
        lines, texts, loc="outside right center", fontsize=8, prop={"family": families}
    )
    return figure


def _draw_curves(
    left: Axes,
    right: Axes,
    predictions: LabelPredictions,
    number: int,
    name: str,
    color: Any,
) -> None:
    has, shares, given, _ = predictions.of_label(number)
    style: Any = {"color": color, "linewidth": 1.3}
    false_positives, found, _ = roc_curve(has, shares)
    left.plot(false_positives, found, label=name, **style)
    precision, recall, _ = precision_recall_curve(has, shares)
    right.plot(recall, precision, **style)
    sensitivity, wrongly = given[has].mean(), given[~has].mean()
    left.plot(wrongly, sensitivity, "o", color=color, markersize=5)
    if given.any():
        right.plot(sensitivity, has[given].mean(), "o", color=color, markersize=5)


def plot_label_reliability(predictions: LabelPredictions) -> Figure:
    """Draw for each label the share of pictures that have it against its probability.

    Raises:
        ValueError: There is no label that some pictures have, and some have not.
    """
    numbers = _some(predictions)
    columns = min(COLUMNS, len(numbers))
    rows = -(-len(numbers) // columns)
    figure = Figure(
        figsize=(2.1 * columns + 0.5, 2.2 * rows + 0.5), layout="constrained"
    )
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    names, families = drawn_names([predictions.class_names[n] for n in numbers])
    for axis in grid.flat[len(numbers) :]:
        axis.axis("off")
    for axis, number, name in zip(grid.flat, numbers, names, strict=False):
        _draw_reliability(axis, predictions.reliability(number))
        axis.set_title(name, fontsize=9, fontfamily=families)
    figure.supxlabel("probability of the label", fontsize=10)
    figure.supylabel("share that has it", fontsize=10)
    return figure


def _draw_reliability(axis: Axes, reliability: Reliability) -> None:
    """Draw the means of bins, each with the share of the pictures as its area."""
    some = reliability.pictures > 0
    size = 10 + 120 * np.sqrt(reliability.pictures[some] / reliability.pictures.sum())
    axis.plot([0, 1], [0, 1], "--", color="gray", linewidth=1)
    means = reliability.confidence[some], reliability.accuracy[some]
    axis.plot(*means, "-", color="tab:blue", linewidth=1)
    axis.scatter(*means, size, color="tab:orange", zorder=2)
    axis.set(xlim=(0, 1), ylim=(0, 1), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])


def _some(predictions: LabelPredictions) -> list[int]:
    numbers = drawn_labels(predictions)
    if not numbers:
        raise ValueError(
            "there is no label that some of the pictures have, and some have not."
        )
    return numbers
