"""From a probability to yes or no: thresholds, temperatures, and how sure they are."""

import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from keras_densenet.analysis.predictions import BINS, binned

COLDEST, HOTTEST = 1 / 20, 20  # temperatures that are tried
TINY = 1e-7  # a probability that is told from 0
RULES = ("youden", "f1", "sensitivity", "ppv")


class Interval(NamedTuple):
    """A number, and where 95 % of its values lie in samples like this one."""

    value: float
    low: float
    high: float


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


def _parsed(rule: str) -> tuple[str, float]:
    kind, _, number = rule.partition("=")
    try:
        wanted = float(number or "nan")
    except ValueError:
        wanted = math.nan
    needs_number = kind in ("sensitivity", "ppv")
    if kind not in RULES or needs_number != (0 < wanted <= 1):
        raise ValueError(
            'rule is "youden", "f1", or such as "sensitivity=0.9" or "ppv=0.8", with a '
            f"share above 0 and up to 1. Received: rule={rule!r}"
        )
    return kind, wanted


def _counts(labels: np.ndarray, probabilities: np.ndarray) -> _Counts:
    has, answers = _known(labels, probabilities)
    has = has >= 0.5
    positive, negative = int(has.sum()), int((~has).sum())
    if not positive or not negative:
        raise ValueError(
            "A threshold is chosen by pictures that have the label, and some that have "
            f"it not. Received: {positive} and {negative}."
        )
    order = np.argsort(-answers, kind="stable")
    answers, has = answers[order], has[order]
    (last,) = np.nonzero(np.append(np.diff(answers) != 0, True))  # of equal ones
    right, wrong = np.cumsum(has)[last], np.cumsum(~has)[last]
    return _Counts(answers[last], right, wrong, positive, negative)


def _last_largest(scores: np.ndarray) -> int:
    return int(np.flatnonzero(np.isclose(scores, scores.max(), rtol=0, atol=1e-12))[-1])


def temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return what logits must be divided by for probabilities that are as they say.

    It minimizes the cross-entropy of the pictures that are known (Guo et al. 2017).

    Args:
        labels: 1 or 0, and NaN where it is not known, `(N,)`.
        probabilities: Of the label, in 0..1, `(N,)`.
    """
    has, answers = _known(labels, probabilities)
    logits = _logits(answers)

    def cross_entropy(log_temperature: float) -> float:
        scaled = logits / math.exp(log_temperature)
        return float(np.mean(np.logaddexp(0, scaled) - has * scaled))

    bounds = math.log(COLDEST), math.log(HOTTEST)
    found = minimize_scalar(cross_entropy, bounds=bounds, method="bounded")
    return math.exp(found.x)


def at_temperature(probabilities: np.ndarray, temperatures: np.ndarray) -> np.ndarray:
    """Return probabilities whose logits are divided by each label's temperature.

    Args:
        probabilities: `(N, classes)`.
        temperatures: `(classes,)`.
    """
    return expit(_logits(probabilities) / temperatures)


def _logits(probabilities: np.ndarray) -> np.ndarray:
    return logit(np.clip(np.asarray(probabilities, float), TINY, 1 - TINY))


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


def area_interval(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return the area under the ROC curve with an interval of 95 %, by the bootstrap.

    Whole groups are drawn with replacement: films of one patient are alike, and the
    interval of single films would be too narrow.

    Args:
        labels: 1 or 0, and NaN where it is not known, `(N,)`.
        probabilities: Of the label, in 0..1, `(N,)`.
        groups: What belongs together, such as patients, `(N,)`; None for each picture
            by itself.
        draws: How many samples are drawn.
        seed: Of the samples.

    Returns:
        The area and the interval; NaN where all known pictures are of one kind.
    """
    has, answers = _known(labels, probabilities)
    if len(np.unique(has)) < 2:
        return Interval(math.nan, math.nan, math.nan)
    names = np.arange(len(has)) if groups is None else groups[~np.isnan(labels)]
    _, of_picture = np.unique(names, return_inverse=True)
    many = of_picture.max() + 1
    rng = np.random.default_rng(seed)
    areas = []
    for _ in range(draws):
        weights = np.bincount(rng.integers(many, size=many), minlength=many)[of_picture]
        if weights[has == 1].any() and weights[has == 0].any():
            areas.append(roc_auc_score(has, answers, sample_weight=weights))
    low, high = np.quantile(areas, (0.025, 0.975))
    return Interval(float(roc_auc_score(has, answers)), float(low), float(high))
