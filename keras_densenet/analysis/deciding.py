"""Choosing thresholds and temperatures by what a network answers to pictures."""

import math
import warnings
from dataclasses import replace

import numpy as np

from keras_densenet.analysis.calibration import (
    COLDEST,
    refuse_other_rules,
    temperature,
    temperature_of_classes,
    threshold,
)
from keras_densenet.analysis.mask_predictions import MaskPredictions
from keras_densenet.analysis.predictions import LabelPredictions, Predictions
from keras_densenet.decisions import Decisions
from keras_densenet.errors import few

UNDECIDED = 0.5  # the threshold where pictures say nothing of a label


def decide(
    predictions: Predictions | LabelPredictions | MaskPredictions,
    rule: str = "youden",
    with_temperature: bool = True,
) -> Decisions:
    """Choose from which probability on each label is given.

    First the temperature is chosen, by the cross-entropy of all pictures, and then the
    threshold, by the probabilities at that temperature. It is halfway between the
    lowest probability that is to be enough and the next lower one, so that rounding
    changes no answer. Where each picture has one class, each class is told from all
    others.

    Args:
        predictions: With logits, of pictures that the network was not trained on.
        rule: See `keras_densenet.analysis.calibration.threshold`.
        with_temperature: Whether temperatures are chosen; else they are 1.

    Raises:
        ValueError: It is no rule, or there are no logits, or they are of pixels.
    """
    refuse_other_rules(rule)
    if isinstance(predictions, MaskPredictions):
        raise ValueError(
            "Temperatures and thresholds are chosen for the labels of whole pictures. "
            "Received: predictions of masks, which have a class for each pixel."
        )
    labels, logits = _by_label(predictions), predictions.logits
    if logits is None:
        raise ValueError(
            "Temperatures and thresholds are chosen by logits (N, classes): give "
            "predictions that have them. Received: logits=None."
        )
    empty = [len(np.unique(has[~np.isnan(has)])) < 2 for has in labels.T]
    names = predictions.class_names
    several = isinstance(predictions, LabelPredictions)
    chosen = Decisions.undecided(names, several)
    if with_temperature:
        found = _temperatures(predictions, logits, labels, empty)
        chosen = replace(chosen, temperatures=found)
    shares = chosen.probabilities(logits)
    chosen = replace(
        chosen,
        thresholds=_thresholds(labels, shares, empty, rule),
        rule=rule,
        pictures=len(labels),
        not_chosen=tuple(
            n for n, is_empty in zip(names, empty, strict=True) if is_empty
        ),
    )
    _warn_of_undecided(chosen)
    _warn_of_coldest(chosen)
    return chosen


def _by_label(predictions: Predictions | LabelPredictions) -> np.ndarray:
    """Return 1, 0 and NaN for each picture and label, `(N, classes)`."""
    if isinstance(predictions, LabelPredictions):
        return np.asarray(predictions.labels, float)
    return np.eye(len(predictions.class_names))[predictions.labels]


def _temperatures(
    predictions: Predictions | LabelPredictions,
    logits: np.ndarray,
    labels: np.ndarray,
    empty: list[bool],
) -> tuple[float, ...]:
    if isinstance(predictions, Predictions):
        found = temperature_of_classes(predictions.labels, logits)
        return (found,) * labels.shape[1]
    return tuple(
        1.0 if is_empty else temperature(has, answers)
        for has, answers, is_empty in zip(labels.T, logits.T, empty, strict=True)
    )


def _thresholds(
    labels: np.ndarray, shares: np.ndarray, empty: list[bool], rule: str
) -> tuple[float, ...]:
    return tuple(
        UNDECIDED if is_empty else _between(threshold(has, answers, rule), answers)
        for has, answers, is_empty in zip(labels.T, shares.T, empty, strict=True)
    )


def _between(enough: float, answers: np.ndarray) -> float:
    """Return what is halfway between a probability and the next lower one, or 0.

    It is a number of float32, as probabilities are: what is served compares them.

    >>> _between(0.5, np.array([0.25, 0.5, 0.75])), _between(0.5, np.array([0.5]))
    (0.375, 0.25)
    """
    if math.isinf(enough):
        return enough
    lower = float(answers[answers < enough].max(initial=0.0))
    halfway = float(np.float32((enough + lower) / 2))
    return halfway if halfway > lower else enough  # nothing is between neighbors


def _warn_of_coldest(decisions: Decisions) -> None:
    """Tell of temperatures that would be lower still, were lower ones tried."""
    pairs = zip(decisions.class_names, decisions.temperatures, strict=True)
    names = [name for name, number in pairs if number < 1.01 * COLDEST]
    if names:
        warnings.warn(
            f"The temperature of {few(names)} is {COLDEST:g}, the lowest that is "
            f"tried: the {decisions.pictures:,} pictures are all told apart, or the "
            "network has hardly learned it. Do not believe these probabilities: hold "
            "out more pictures, train on, or calibrate with temperature=False.",
            stacklevel=4,
        )


def _warn_of_undecided(decisions: Decisions) -> None:
    if decisions.not_chosen:
        warnings.warn(
            f"No threshold can be chosen for {few(decisions.not_chosen)}, as all of "
            f"the {decisions.pictures:,} pictures have the label, or none has it: it "
            "is 1/2 there. Hold out more pictures.",
            stacklevel=4,
        )
    pairs = zip(decisions.class_names, decisions.thresholds, strict=True)
    never = [name for name, number in pairs if math.isinf(number)]
    if never:
        warnings.warn(
            f"No threshold reaches {decisions.rule} for {few(never)}: these decisions "
            "never give such a label. Ask for less, train on, or hold out more "
            "pictures.",
            stacklevel=4,
        )
