"""What `Trainer.calibrate` chooses, and what of it other methods take."""

import math
from collections.abc import Callable
from typing import Any

import keras
from rich.table import Table

from keras_densenet.data import DataModule
from keras_densenet.decisions import Decisions, are_outdated, decisions_of
from keras_densenet.errors import MisconfigurationError
from keras_densenet.model_output import output_of


def kept_decisions(model: keras.Model, say: Callable[[str], Any]) -> Decisions | None:
    """Return what was chosen for a model's weights; None for nothing.

    Args:
        model: It may have been trained on since.
        say: Takes a line to print, where it was.
    """
    if are_outdated(model):
        say(
            f"The decisions of {model.name} were chosen for other weights than it has "
            "now, and are left out: calibrate it again."
        )
    return decisions_of(model)


def refuse_shares(model: keras.Model, data: DataModule) -> None:
    """Refuse a network whose answers are not what the data's labels are.

    With sigmoids for one class a picture their probabilities are not what is served.
    """
    if data.labels == "one" and output_of(model).is_of_each_class:
        raise MisconfigurationError(
            f"{model.name} gives each class its own probability, and the pictures of "
            f"{type(data).__name__} have one class each: end it in a softmax, with "
            "classes=2 for two, or say that pictures have several labels, as "
            'kd.data.Datasets(train, ..., labels="several") does.'
        )


def table_of(decisions: Decisions) -> Table:
    """Return what a person reads of decisions."""
    table = Table("label", "temperature", "threshold", title=f"By {decisions.rule}")
    for name, temperature, threshold in zip(
        decisions.class_names,
        decisions.temperatures,
        decisions.thresholds,
        strict=True,
    ):
        never = math.isinf(threshold)
        table.add_row(
            name, f"{temperature:.3f}", "never" if never else f"{threshold:.4f}"
        )
    return table
