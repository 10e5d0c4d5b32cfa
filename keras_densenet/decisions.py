"""From what a network answers to yes or no: a temperature and a threshold a label.

They belong to a model's weights: a model keeps them, and no longer has them once its
weights are others.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from scipy.special import expit, softmax

_KEPT = "_keras_densenet_decisions"  # the attribute of a model that has them


@dataclass(frozen=True)
class Decisions:
    """From which probability on each label is given; `keras_densenet.calibrate`.

    Attributes:
        class_names: Names of the labels.
        thresholds: A label is given where its probability, at its temperature, is as
            high or higher; infinity where it is never given.
        temperatures: What logits are divided by, one number a label. Where a picture
            has one class, all are the same.
        rule: What chose the thresholds, such as "youden".
        of_each_label: Whether each label has a probability by itself, by a sigmoid;
            else they are those of one class a picture, by a softmax.
        pictures: How many pictures they were chosen by.
        not_chosen: Names of labels that these pictures say nothing of, since all of
            them have it or none: their thresholds are 1/2.
    """

    class_names: Sequence[str]
    thresholds: Sequence[float]
    temperatures: Sequence[float]
    rule: str
    of_each_label: bool
    pictures: int
    not_chosen: Sequence[str] = ()

    @classmethod
    def undecided(cls, class_names: Sequence[str], of_each_label: bool) -> "Decisions":
        """Return those that choose nothing: 1/2, and temperatures of 1."""
        many = len(class_names)
        halves, ones = (0.5,) * many, (1.0,) * many
        return cls(tuple(class_names), halves, ones, "", of_each_label, 0)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return the probabilities of logits `(N, classes)`, at the temperatures.

        They are float32, as they are served: what is nearer to 1 than 6e-8 is 1, here
        as there, so that all decide alike.
        """
        scaled = np.asarray(logits, "float64") / np.asarray(self.temperatures)
        shares = expit(scaled) if self.of_each_label else softmax(scaled, axis=-1)
        return shares.astype("float32")

    def given(self, probabilities: np.ndarray) -> np.ndarray:
        """Return which labels are given, bool `(N, classes)`.

        Args:
            probabilities: At the temperatures.
        """
        return np.asarray(probabilities) >= np.asarray(self.thresholds)

    def to_json(self) -> dict[str, Any]:
        """Return numbers, texts and lists, of which `from_json` makes the same."""
        facts = {
            name: list(value) if isinstance(value, tuple | list) else value
            for name, value in vars(self).items()
        }
        thresholds = [None if math.isinf(t) else t for t in self.thresholds]
        return facts | {"thresholds": thresholds}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> "Decisions":
        """Return what `to_json` was of."""
        found: dict[str, Any] = {
            n: tuple(v) if isinstance(v, list) else v for n, v in facts.items()
        }
        found["thresholds"] = tuple(
            math.inf if t is None else t for t in facts["thresholds"]
        )
        return cls(**found)


# --- what a model keeps ----------------------------------------------------------


def keep_decisions(model: keras.Model, decisions: Decisions | None) -> None:
    """Let a model have decisions as long as its weights are what they are now."""
    kept = (decisions, _checksum(model)) if decisions else None
    setattr(model, _KEPT, kept)


def decisions_of(model: keras.Model) -> Decisions | None:
    """Return what was chosen for a model's weights; None for nothing."""
    decisions, checksum = getattr(model, _KEPT, None) or (None, "")
    return decisions if decisions and checksum == _checksum(model) else None


def are_outdated(model: keras.Model) -> bool:
    """Return whether a model has decisions that were chosen for other weights."""
    return bool(getattr(model, _KEPT, None)) and decisions_of(model) is None


def _checksum(model: keras.Model) -> str:
    digest = hashlib.sha256()
    for weight in model.weights:
        digest.update(keras.ops.convert_to_numpy(weight).tobytes())
    return digest.hexdigest()
