"""Thresholds and temperatures, chosen by labeled pictures, and how far they are off."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

BINS = 15  # as in Guo et al. 2017
COLDEST, HOTTEST = 1 / 20, 20  # temperatures that are tried
RULES = ("youden", "f1", "sensitivity", "ppv")


class _Counts(NamedTuple):
    """What each threshold would say, from the highest on, `(T,)`.

    Attributes:
        thresholds: A label is given where its probability is as high, or higher.
        right: How many pictures that have the label are said to have it.
        wrong: How many that have it not.
        positive: How many have it.
        negative: How many have it not.
    """

    thresholds: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    positive: int
    negative: int


def threshold(labels: np.ndarray, probabilities: np.ndarray, rule: str) -> float:
    """Return the probability from which on a label is given.

    Args:
        labels: 1 or 0, and NaN where it is not known, `(N,)`.
        probabilities: Of the label, in 0..1, `(N,)`.
        rule: What the pictures that are known decide:

            - "youden": the largest sum of sensitivity and specificity
            - "f1": the largest F1
            - "sensitivity=0.9": the highest that finds so large a share of the
              pictures that have the label
            - "ppv=0.8": the lowest at which so large a share of the pictures that are
              said to have it have it

    Returns:
        One of the probabilities: of equally good ones the lowest, which misses least;
        infinity where none fulfills the rule.

    Raises:
        ValueError: It is another rule, or all known pictures are of one kind.
    """
    kind, wanted = _parsed(rule)
    counts = _counts(labels, probabilities)
    sensitivity = counts.right / counts.positive
    precision = counts.right / (counts.right + counts.wrong)
    if kind == "youden":
        best = _last_largest(sensitivity - counts.wrong / counts.negative)
    elif kind == "f1":
        said = counts.right + counts.wrong + counts.positive
        best = _last_largest(2 * counts.right / said)
    elif kind == "sensitivity":
        best = int(np.argmax(sensitivity >= wanted))  # the first that does
    else:
        (enough,) = np.nonzero(precision >= wanted)
        if not len(enough):
            return math.inf
        best = int(enough[-1])
    return float(counts.thresholds[best])


def _known(
    labels: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and probabilities of the pictures of which the label is known."""
    known = ~np.isnan(labels)
    return labels[known], probabilities[known]


def refuse_other_rules(rule: str) -> None:
    """Raise a `ValueError` that names the rules, unless it is one."""
    _parsed(rule)


def _parsed(rule: str) -> tuple[str, float]:
    kind, _, number = rule.partition("=")
    try:
        wanted = float(number or "nan")
    except ValueError:
        wanted = math.nan
    needs_number = kind in ("sensitivity", "ppv")
    if kind not in RULES or needs_number != (0 < wanted <= 1):
        raise ValueError(
            'rule must be "youden", "f1", or a demand such as "sensitivity=0.9" or '
            '"ppv=0.8", whose number is above 0 and at most 1. Received: '
            f"rule={rule!r}"
        )
    return kind, wanted


def _counts(labels: np.ndarray, probabilities: np.ndarray) -> _Counts:
    has, answers = _known(labels, probabilities)
    has = has >= 0.5
    positive, negative = int(has.sum()), int((~has).sum())
    if not positive or not negative:
        raise ValueError(
            "A threshold is chosen by pictures with the label and pictures without "
            "it: give at least one of each. Received: "
            f"{positive} with the label, {negative} without."
        )
    order = np.argsort(-answers, kind="stable")
    answers, has = answers[order], has[order]
    (last,) = np.nonzero(np.append(np.diff(answers) != 0, True))  # of equal ones
    right, wrong = np.cumsum(has)[last], np.cumsum(~has)[last]
    return _Counts(answers[last], right, wrong, positive, negative)


def _last_largest(scores: np.ndarray) -> int:
    return int(np.flatnonzero(np.isclose(scores, scores.max(), rtol=0, atol=1e-12))[-1])


def temperature(labels: np.ndarray, logits: np.ndarray) -> float:
    """Return what logits must be divided by for probabilities that are as they say.

    It minimizes the cross-entropy of the pictures that are known (Guo et al. 2017).

    Args:
        labels: 1 or 0, and NaN where it is not known, `(N,)`.
        logits: Of the label, `(N,)`.
    """
    has, answers = _known(labels, logits)

    def cross_entropy(temperature: float) -> float:
        scaled = answers / temperature
        return float(np.mean(np.logaddexp(0, scaled) - has * scaled))

    return _best(cross_entropy)


def temperature_of_classes(labels: np.ndarray, logits: np.ndarray) -> float:
    """Return the same of a softmax, whose logits all are divided by one number.

    Args:
        labels: Class numbers `(N,)`.
        logits: Of the classes, `(N, classes)`.
    """
    rows = np.arange(len(labels))

    def cross_entropy(temperature: float) -> float:
        return float(-log_softmax(logits / temperature, axis=1)[rows, labels].mean())

    return _best(cross_entropy)


def _best(cross_entropy: Callable[[float], float]) -> float:
    bounds = math.log(COLDEST), math.log(HOTTEST)
    found = minimize_scalar(
        lambda log_temperature: cross_entropy(math.exp(log_temperature)),
        bounds=bounds,
        method="bounded",
    )
    best = math.exp(found.x)
    # Where all are told apart, many temperatures have a cross-entropy of 0 in float64.
    return COLDEST if cross_entropy(COLDEST) <= cross_entropy(best) else best


def binned(probabilities: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Return in which of some bins of equal width each probability is, `(N,)`.

    Each bin is open below and closed above, as in Guo et al. 2017.
    """
    edges = np.linspace(0, 1, bins + 1)
    return np.clip(np.searchsorted(edges, probabilities) - 1, 0, bins - 1)


def calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return how far probabilities are from shares, on average, in 0..1.

    The pictures that are known are put into 15 bins of equal width by the probability
    of the label; in each the mean probability is compared with the share of pictures
    that have it (Guo et al. 2017).

    Args:
        labels: 1 or 0, and NaN where it is not known, `(N,)`.
        probabilities: Of the label, in 0..1, `(N,)`.
    """
    has, answers = _known(labels, probabilities)
    gaps = np.bincount(
        binned(answers), answers - has, BINS
    )  # of sums: each bin by its size
    return float(np.abs(gaps).sum() / max(len(answers), 1))
