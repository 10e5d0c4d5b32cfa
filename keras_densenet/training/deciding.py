"""What `Trainer.calibrate` chooses, and what of it other methods take."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
from rich.table import Table

from keras_densenet.checkpoint_file import refuse_plain, write_decisions
from keras_densenet.data import DataModule
from keras_densenet.decisions import Decisions, are_outdated, decisions_of
from keras_densenet.errors import MisconfigurationError
from keras_densenet.model_output import output_of
from keras_densenet.one_owner import held_alone


def kept_decisions(model: keras.Model, say: Callable[[str], Any]) -> Decisions | None:
    """Return what was chosen for a model's weights; None for nothing.

    Args:
        model: It may have been trained on since.
        say: Takes a line to print, where it was.
    """
    decisions = decisions_of(model)
    if decisions is None and are_outdated(model):
        say(
            f"The decisions of {model.name} were chosen for other weights than it has "
            "now, and are left out: calibrate it again."
        )
    return decisions


def refuse_shares(model: keras.Model, data: DataModule) -> None:
    """Refuse a network whose answers are not what the data's labels are.

    With sigmoids for one class a picture their probabilities are not what is served.
    """
    if data.labels == "pixels":
        raise MisconfigurationError(
            "Temperatures and thresholds are of pictures, and those of "
            f"{type(data).__name__} have a class for each pixel: calibrate has nothing "
            "to choose."
        )
    if data.labels == "one" and output_of(model).is_of_each_class:
        raise MisconfigurationError(
            f"{model.name} gives each class its own probability, and the pictures of "
            f"{type(data).__name__} have one class each: end it in a softmax, with "
            "classes=2 for two, or say that pictures have several labels, as "
            'kd.data.Datasets(train, ..., labels="several") does.'
        )


@contextmanager
def held_for_decisions(checkpoint: Path | None) -> Iterator[None]:
    """Let a checkpoint be the same until it has the decisions that are chosen for it.

    Raises:
        MisconfigurationError: It has no place for them, or a training that goes on may
            write it anew, with other weights.
    """
    if checkpoint is None:
        yield
        return
    refuse_plain(checkpoint)
    with held_alone([checkpoint.parent], "calibrate a copy of the checkpoint"):
        yield


def write_into(checkpoint: Path, decisions: Decisions) -> None:
    """Let a checkpoint have decisions.

    Raises:
        OSError: It could not be written, and is as it was.
    """
    try:
        write_decisions(checkpoint, decisions.to_json())
    except OSError as error:
        raise OSError(
            f"{checkpoint} could not be written and is as it was: "
            f"{error.strerror or error}. "
            "The decisions are lost where this process ends: calibrate a copy of the "
            "checkpoint in another folder, or export the model now."
        ) from error


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
