"""A network's answers to labeled pictures: what it confuses, how sure it is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)

from keras_densenet.analysis.calibration import BINS, binned, calibration_error
from keras_densenet.analysis.drawn_names import drawn_names
from keras_densenet.analysis.intervals import Interval, area_interval, mean_interval

MOST_NUMBERS = 20  # up to so many classes a confusion matrix shows its percentages
MOST_SHOWN = 30  # labels of which pictures are kept: the first ones
MOST_NAMES = 50  # up to so many classes it shows their names


class Mistake(NamedTuple):
    """A picture that was taken for something else.

    Attributes:
        picture: The raw picture, `(H, W, channels)` in 0..255; or a signal
            `(T, channels)` or a volume `(D, H, W, channels)` in their own units.
        label: Number of its class.
        answer: Number of the class that it was taken for.
        probability: The network's probability of the answer.
        loss: Cross-entropy of the label.
    """

    picture: np.ndarray
    label: int
    answer: int
    probability: float
    loss: float


class LabelExample(NamedTuple):
    """A picture and one of its labels, rightly or wrongly given.

    Attributes:
        picture: The raw picture, `(H, W, channels)` in 0..255; or a signal
            `(T, channels)` or a volume `(D, H, W, channels)` in their own units.
        standardized: The same as the network reads it.
        label: Number of the label.
        has_it: Whether the picture has it.
        probability: The network's probability of it.
    """

    picture: np.ndarray
    standardized: np.ndarray
    label: int
    has_it: bool
    probability: float


class Counted(Protocol):
    """What counts how often each class is taken for each: of pictures, or of pixels."""

    @property
    def class_names(self) -> Sequence[str]:
        """A name for each class."""

    def confusion_matrix(self) -> np.ndarray:
        """Count those of each class (row) that are taken for each (column)."""


class ClassScore(NamedTuple):
    """How well one class is recognized.

    Attributes:
        name: Name of the class.
        precision: Share of the class in the pictures that were taken for it.
        recall: Share of the class's pictures that were taken for it.
        f1: Harmonic mean of precision and recall.
        pictures: Number of the class's pictures.
    """

    name: str
    precision: float
    recall: float
    f1: float
    pictures: int


class LabelRows(NamedTuple):
    """The pictures of which one label is known, K of them.

    Attributes:
        has: Whether each has it, bool `(K,)`.
        probabilities: Of the label, `(K,)`.
        given: Whether it is given to each, bool `(K,)`.
        groups: What each belongs to, `(K,)`; None for each picture by itself.
    """

    has: np.ndarray
    probabilities: np.ndarray
    given: np.ndarray
    groups: np.ndarray | None

    @property
    def are_of_both_kinds(self) -> bool:
        """Whether some have the label, and some have it not."""
        return len(np.unique(self.has)) == 2


class LabelScore(NamedTuple):
    """How well one label is told from its absence.

    All is of the pictures of which it is known, and NaN where that needs pictures that
    have it, or some that have it not, and there are none.

    Attributes:
        name: Name of the label.
        pictures: How many of them there are.
        prevalence: Share of them that have it.
        area: Area under the ROC curve, with its interval of 95 %.
        average_precision: See `sklearn.metrics.average_precision_score`.
        threshold: From which probability on it is given.
        sensitivity: Share of those that have it to which it is given.
        specificity: Share of those that have it not to which it is not given.
        calibration_error: See `calibration_error`.
    """

    name: str
    pictures: int
    prevalence: float
    area: Interval
    average_precision: float
    threshold: float
    sensitivity: float
    specificity: float
    calibration_error: float


@dataclass(frozen=True)
class Predictions:
    """Class probabilities of labeled pictures.

    Attributes:
        labels: Class numbers `(N,)`.
        probabilities: An array `(N, classes)`, whose rows sum to 1.
        class_names: A name for each class.
        mistakes: Some of the worst mistakes, the highest loss first.
        groups: What belongs together, such as the patient of each picture, `(N,)`; None
            for each picture by itself.
        logits: What the probabilities were made of, `(N, classes)`; None where they are
            not known.

    Raises:
        ValueError: The shapes do not fit each other, or there are no pictures.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    class_names: Sequence[str]
    mistakes: Sequence[Mistake] = field(default=(), repr=False)
    groups: np.ndarray | None = field(default=None, repr=False)
    logits: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Raise a `ValueError` for shapes that do not fit each other."""
        expected = len(self.labels), len(self.class_names)
        if not len(self.labels) or np.shape(self.probabilities) != expected:
            raise ValueError(
                "Predictions need labels (N,), probabilities (N, classes) and a name "
                "for each class, with N of 1 or more. Received: labels "
                f"{np.shape(self.labels)}, probabilities "
                f"{np.shape(self.probabilities)}, {len(self.class_names)} names."
            )
        _refuse_other_groups(self.groups, self.labels)
        if not 0 <= np.min(self.labels) <= np.max(self.labels) < expected[1]:
            raise ValueError(
                f"Labels must be in 0..{expected[1] - 1}, one number for each class "
                f"name. Received: {np.min(self.labels)}..{np.max(self.labels)}."
            )

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.labels)

    @property
    def answers(self) -> np.ndarray:
        """The most probable class of each picture, `(N,)`."""
        return self.probabilities.argmax(axis=1)

    @property
    def accuracy(self) -> float:
        """Share of the pictures whose most probable class is right."""
        return float(np.mean(self.answers == self.labels))

    def error_interval(self) -> Interval:
        """Return the share of wrong answers with an interval of 95 %."""
        return mean_interval((self.answers != self.labels).astype(float), self.groups)

    def top_k_accuracy(self, k: int) -> float:
        """Return the share of pictures whose class is among the k most probable."""
        ordered = np.argsort(-self.probabilities, axis=1, kind="stable")
        return float(np.mean((ordered[:, :k] == self.labels[:, None]).any(axis=1)))

    @property
    def cross_entropy(self) -> float:
        """Mean loss, without label smoothing or class weights."""
        return float(losses(self.probabilities, self.labels).mean())

    def confusion_matrix(self) -> np.ndarray:
        """Count the pictures of each class (row) that are taken for each (column)."""
        numbers = range(len(self.class_names))
        return confusion_matrix(self.labels, self.answers, labels=numbers)

    def most_confused(self, count: int = 10) -> list[tuple[str, str, int]]:
        """Return the commonest mistakes.

        Args:
            count: Largest number of mistakes to return.

        Returns:
            The class, what it was taken for, and the number of pictures, for each.
        """
        wrong = self.confusion_matrix()
        np.fill_diagonal(wrong, 0)
        found = np.argsort(-wrong, axis=None, kind="stable")[:count]
        pairs = [divmod(int(place), len(self.class_names)) for place in found]
        return [
            (
                self.class_names[label],
                self.class_names[answer],
                int(wrong[label, answer]),
            )
            for label, answer in pairs
            if wrong[label, answer]
        ]

    def class_scores(self) -> list[ClassScore]:
        """Return precision and recall of each class, 0 where there are no pictures."""
        numbers = range(len(self.class_names))
        columns: Any = precision_recall_fscore_support(
            self.labels, self.answers, labels=numbers, zero_division=0
        )
        return _scores(self.class_names, columns)

    def reliability(self, bins: int = BINS) -> "Reliability":
        """Compare how sure the network is with how often it is right.

        Args:
            bins: Number of bins of equal width that the probability of the answer is
                sorted into.
        """
        confidences = self.probabilities.max(axis=1)
        return _reliability(confidences, self.answers == self.labels, bins)


@dataclass(frozen=True)
class LabelPredictions:
    """Probabilities of several labels a picture, each of them by itself.

    Attributes:
        labels: An array `(N, classes)`, 1 where a picture has a label, 0 where it has
            not, NaN where that is not known: these count nowhere.
        probabilities: An array `(N, classes)`, whose rows have any sum.
        class_names: A name for each class.
        thresholds: A label is given where its probability is as high or higher,
            `(classes,)`; None for 1/2.
        groups: What belongs together, such as the patient of each picture, `(N,)`; None
            for each picture by itself.
        mistakes: Some of the worst mistakes of each label: those that have it with a
            low probability, and those that have it not with a high one.
        found: Of each label a picture that has it, and its probability is high.
        logits: What the probabilities were made of, `(N, classes)`; None where they are
            not known.

    Raises:
        ValueError: The shapes do not fit each other, or there are no pictures.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    class_names: Sequence[str]
    thresholds: Sequence[float] | None = None
    groups: np.ndarray | None = field(default=None, repr=False)
    mistakes: Sequence[LabelExample] = field(default=(), repr=False)
    found: Sequence[LabelExample] = field(default=(), repr=False)
    logits: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Raise a `ValueError` for shapes that do not fit each other."""
        expected = len(self.labels), len(self.class_names)
        shapes = {np.shape(self.labels), np.shape(self.probabilities)}
        if not len(self.labels) or shapes != {expected}:
            raise ValueError(
                "LabelPredictions need labels and probabilities (N, classes) and a "
                "name for each class, with N of 1 or more. Received: labels "
                f"{np.shape(self.labels)}, probabilities "
                f"{np.shape(self.probabilities)}, {len(self.class_names)} names."
            )
        _refuse_other_groups(self.groups, self.labels)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.labels)

    @property
    def answers(self) -> np.ndarray:
        """Whether each label is given, `(N, classes)`."""
        return self.probabilities >= self.least

    @property
    def least(self) -> np.ndarray:
        """From which probability on each label is given, `(classes,)`."""
        if self.thresholds is None:
            return np.full(len(self.class_names), 0.5)
        return np.asarray(self.thresholds)

    @property
    def known(self) -> np.ndarray:
        """Whether it is known if each picture has each label, `(N, classes)`."""
        return ~np.isnan(np.asarray(self.labels, float))

    @property
    def label_accuracy(self) -> float:
        """Share of all labels of all pictures that are rightly given, or not given."""
        is_right = self.answers == (self.labels >= 0.5)
        return float(np.mean(is_right[self.known]))

    def class_scores(self) -> list[ClassScore]:
        """Return precision and recall of each label, 0 where there are no pictures."""
        # Who is not known is neither said to have a label nor has it. Of one alone
        # scikit-learn would count two classes: those with it, and those without.
        has, given = (self.labels >= 0.5) & self.known, self.answers & self.known
        right = (has & given).sum(axis=0)
        wrong = (has != given).sum(axis=0)
        columns = (
            right / np.maximum(given.sum(axis=0), 1),
            right / np.maximum(has.sum(axis=0), 1),
            2 * right / np.maximum(2 * right + wrong, 1),
            has.sum(axis=0),
        )
        return _scores(self.class_names, columns)

    def areas(self) -> list[float]:
        """Return the area under each label's ROC curve; NaN where it has but one kind.

        See `sklearn.metrics.roc_auc_score`.
        """
        found = (self.of_label(number) for number in range(len(self.class_names)))
        return [
            float(roc_auc_score(rows.has, rows.probabilities))
            if rows.are_of_both_kinds
            else math.nan
            for rows in found
        ]

    def of_label(self, number: int) -> LabelRows:
        """Return the pictures of which it is known whether they have a label."""
        labels = np.asarray(self.labels[:, number], float)
        known = ~np.isnan(labels)
        shares = self.probabilities[known, number]
        groups = None if self.groups is None else self.groups[known]
        return LabelRows(
            labels[known] >= 0.5, shares, shares >= self.least[number], groups
        )

    @property
    def mean_area(self) -> float:
        """Mean of the areas under the labels' ROC curves, of those that have one."""
        areas = [area for area in self.areas() if not math.isnan(area)]
        return float(np.mean(areas)) if areas else math.nan

    def label_scores(self) -> list[LabelScore]:
        """Return how well each label is told from its absence, in their order."""
        return [self._score(number) for number in range(len(self.class_names))]

    def _score(self, number: int) -> LabelScore:
        has, shares, given, groups = self.of_label(number)
        return LabelScore(
            self.class_names[number],
            pictures=len(has),
            prevalence=_share(has),
            area=area_interval(has.astype(float), shares, groups),
            average_precision=(
                float(average_precision_score(has, shares)) if has.any() else math.nan
            ),
            threshold=float(self.least[number]),
            sensitivity=_share(given[has]),
            specificity=_share(~given[~has]),
            calibration_error=(
                calibration_error(has.astype(float), shares) if len(has) else math.nan
            ),
        )

    def reliability(self, number: int, bins: int = BINS) -> "Reliability":
        """Compare a label's probabilities with the shares of pictures that have it.

        Args:
            number: Of the label.
            bins: Number of bins of equal width that the probabilities are sorted into.
        """
        rows = self.of_label(number)
        return _reliability(rows.probabilities, rows.has, bins)

    @property
    def mean_f1(self) -> float:
        """Mean of the labels' F1, in 0..1."""
        return float(np.mean([score.f1 for score in self.class_scores()]))


def _refuse_other_groups(groups: np.ndarray | None, labels: np.ndarray) -> None:
    if groups is not None and np.shape(groups) != (len(labels),):
        raise ValueError(
            f"groups need a name for each of the {len(labels)} pictures, (N,). "
            f"Received: {np.shape(groups)}"
        )


def _share(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


def _scores(names: Sequence[str], columns: Any) -> list[ClassScore]:
    return [
        ClassScore(name, float(precision), float(recall), float(f1), int(pictures))
        for name, precision, recall, f1, pictures in zip(names, *columns, strict=True)
    ]


class Reliability(NamedTuple):
    """How sure a network is, and how often it is right (Guo et al. 2017).

    Attributes:
        edges: Edges of the bins of confidence, `(bins + 1,)`.
        pictures: Number of pictures in each bin.
        confidence: Mean probability of the answers in each bin, or of one label; NaN in
            an empty one.
        accuracy: Share of the answers in each bin that are right, or of the pictures
            that have the label; NaN in an empty one.
    """

    edges: np.ndarray
    pictures: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def expected_calibration_error(self) -> float:
        """Mean distance of accuracy and confidence over all pictures, in 0..1."""
        gaps = np.nan_to_num(np.abs(self.accuracy - self.confidence))
        return float(gaps @ self.pictures / self.pictures.sum())


def _reliability(shares: np.ndarray, right: np.ndarray, bins: int) -> Reliability:
    number = binned(shares, bins)
    pictures = np.bincount(number, minlength=bins)
    some = np.where(pictures, pictures, np.nan)
    return Reliability(
        np.linspace(0, 1, bins + 1),
        pictures,
        np.bincount(number, shares.astype("float64"), bins) / some,
        np.bincount(number, right.astype("float64"), bins) / some,
    )


def losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the cross-entropy of each picture, `(N,)`."""
    of_labels = probabilities[np.arange(len(labels)), labels].astype("float64")
    return -np.log(np.maximum(of_labels, np.finfo("float32").tiny))


def plot_confusion(predictions: Counted) -> Figure:
    """Draw what is taken for what, each row in percent of its class.

    The color follows the square root of the percentage, so that few mistakes can be
    seen, too.
    """
    counts = predictions.confusion_matrix()
    percent = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    classes = len(counts)
    side = float(np.clip(2.5 + 0.45 * classes, 4.5, 11))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axis = figure.subplots()
    norm = PowerNorm(0.5, 0, 100)
    image = axis.imshow(percent, cmap="Blues", norm=norm)
    axis.set_xlabel("taken for")
    axis.set_ylabel("is")
    if classes <= MOST_NAMES:
        names, families = drawn_names(predictions.class_names)
        axis.set_xticks(range(classes), names, rotation=90, fontfamily=families)
        axis.set_yticks(range(classes), names, fontfamily=families)
    if classes <= MOST_NUMBERS:
        for (row, column), value in np.ndenumerate(percent):
            color = "white" if norm(value) > 0.6 else "black"
            text = _percent(value)
            axis.text(column, row, text, ha="center", va="center", color=color)
    figure.colorbar(image, ax=axis, label="% of the class", shrink=0.8)
    return figure


def _percent(value: float) -> str:
    """Write a percentage in at most three characters, and none for 0."""
    return "" if value == 0 else f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def plot_reliability(reliability: Reliability) -> Figure:
    """Draw accuracy against confidence, and below it the pictures in each bin."""
    figure = Figure(figsize=(5.4, 5.8), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    middles = (reliability.edges[:-1] + reliability.edges[1:]) / 2
    width = np.diff(reliability.edges)
    style: Any = {"width": width, "edgecolor": "white"}
    above.plot([0, 1], [0, 1], "--", color="gray", label="as sure as right")
    above.bar(middles, np.nan_to_num(reliability.accuracy), **style)
    known = reliability.pictures > 0
    above.plot(
        reliability.confidence[known],
        reliability.accuracy[known],
        "o",
        color="tab:orange",
        label="mean of a bin",
    )
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that is right")
    above.legend(loc="upper left")
    below.bar(middles, reliability.pictures, **style)
    below.set(xlabel="probability of the answer", ylabel="pictures")
    return figure
