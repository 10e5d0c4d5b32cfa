"""What a report shows where a picture may have several labels: each by itself."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure

from keras_densenet.analysis.class_activation import (
    class_activation,
    plot_class_activation,
)
from keras_densenet.analysis.embedded import (
    drawn_how,
    drawn_or_reason,
    embedded,
    thumbnail,
)
from keras_densenet.analysis.label_curves import (
    drawn_labels,
    plot_label_curves,
    plot_label_reliability,
)
from keras_densenet.analysis.predictions import (
    MOST_SHOWN,
    LabelExample,
    LabelPredictions,
    LabelScore,
)


def facts_of_labels(predictions: LabelPredictions) -> dict[str, str]:
    """Return what stands at the top of the page."""
    return {
        "mean AUROC": f"{predictions.mean_area:.3f}",
        "labels right": f"{100 * predictions.label_accuracy:.2f} %",
        "mean F1 of labels": f"{100 * predictions.mean_f1:.1f} %",
    }


def parts_of_labels(
    model: keras.Model, predictions: LabelPredictions
) -> dict[str, Any]:
    """Return tables, drawings and pictures of each label.

    Returns:
        "rows" of the table of labels, "curves", "reliability" and "activation", each a
        picture or the reason that there is none, "mistakes", and what `drawn_how`
        returns.
    """
    names = predictions.class_names
    examples = [*predictions.mistakes, *predictions.found]
    return {
        "rows": [_row(score) for score in predictions.label_scores()],
        "drawn": len(drawn_labels(predictions)),
        "shown": min(len(names), MOST_SHOWN),
        "groups": _groups(predictions),
        "curves": _picture(lambda: plot_label_curves(predictions)),
        "reliability": _picture(lambda: plot_label_reliability(predictions)),
        "activation": _picture(lambda: _activation(model, predictions.found, names)),
        "mistakes": [_mistake(example, names) for example in predictions.mistakes],
        **drawn_how([example.picture for example in examples]),
    }


def _picture(draw: Callable[[], Figure]) -> dict[str, Any]:
    return drawn_or_reason(lambda: {"picture": embedded(draw())})


def _groups(predictions: LabelPredictions) -> str:
    if predictions.groups is None:
        return ""
    return f"{len(np.unique(predictions.groups.astype(str))):,}"


def _row(score: LabelScore) -> dict[str, str]:
    area = score.area
    return {
        "label": score.name,
        "pictures": f"{score.pictures:,}",
        "prevalence, %": _percent(score.prevalence),
        "AUROC": _number(area.value),
        "95 % interval": ""
        if math.isnan(area.low)
        else f"{area.low:.3f} to {area.high:.3f}",
        "average precision": _number(score.average_precision),
        "threshold": "never"
        if math.isinf(score.threshold)
        else _number(score.threshold),
        "sensitivity, %": _percent(score.sensitivity),
        "specificity, %": _percent(score.specificity),
        "calibration error, %": _percent(score.calibration_error),
    }


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"


def _percent(value: float) -> str:
    return "" if math.isnan(value) else f"{100 * value:.1f}"


def _activation(
    model: keras.Model, found: Sequence[LabelExample], names: Sequence[str]
) -> Figure:
    """Draw Grad-CAM of a picture of each label to which it is rightly given."""
    if not found:
        raise ValueError("no label is rightly given to a picture.")
    pictures = np.stack([example.picture for example in found])
    heat = class_activation(
        model,
        np.stack([example.standardized for example in found]),
        np.array([example.label for example in found]),
    )
    titles = [f"{names[e.label]} {e.probability:.0%}" for e in found]
    return plot_class_activation(pictures, heat, titles)


def _mistake(example: LabelExample, names: Sequence[str]) -> dict[str, str]:
    return {
        "picture": thumbnail(example.picture),
        "label": names[example.label],
        "what": "missed" if example.has_it else "given wrongly",
        "probability": f"{example.probability:.0%}",
    }
