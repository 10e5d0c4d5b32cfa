"""What a network answers to labeled pictures."""

import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_densenet.analysis.drawn_pictures import raw_picture
from keras_densenet.analysis.inside import answering_logits
from keras_densenet.analysis.mask_predictions import (
    MaskPredictions,
    mask_predictions_of,
)
from keras_densenet.analysis.predictions import (
    MOST_SHOWN,
    LabelExample,
    LabelPredictions,
    Mistake,
    Predictions,
    losses,
)
from keras_densenet.data import DataModule
from keras_densenet.decisions import Decisions
from keras_densenet.errors import MisconfigurationError
from keras_densenet.model_output import ModelOutput, output_of

MOST_MISTAKES = 24
EACH = 3  # pictures of each label that are missed, and so many that are given wrongly


def predictions_of(
    model: keras.Model,
    dataset: tf.data.Dataset,
    data: DataModule,
    decisions: Decisions | None = None,
    groups: np.ndarray | None = None,
) -> Predictions | LabelPredictions | MaskPredictions:
    """Ask a network about labeled pictures, in one pass.

    Args:
        model: Gives probabilities or logits of one class a picture, or of each class by
            itself, by sigmoids.
        dataset: Batches of standardized pictures and labels: class numbers `(N,)`, or
            `(N, classes)`, whose rows sum to 1 for one class a picture.
        data: Where they are from.
        decisions: Temperatures and thresholds; None for probabilities as the model
            answers them, without logits, and 1/2.
        groups: What belongs together, of the first N or more pictures; None for each
            picture by itself.

    Returns:
        For one class a picture the predictions of classes. Of a network that answers
        for each class by itself, their shares of the sum. Where pictures have several
        labels, or none, the predictions of each label; where they have masks, of each
        pixel.

    Raises:
        ValueError: Pictures have several labels, and the network gives one class a
            picture; or what it gives is not known, and is no probabilities.
    """
    if data.labels == "pixels":
        return mask_predictions_of(model, dataset, data)
    output = output_of(model)
    rows: list[_Rows] = []
    thresholds = decisions.thresholds if decisions else None
    examples = Examples(data, thresholds)

    def mistakes() -> Iterator[Mistake]:
        for images, some in _answers(model, output, dataset, data, decisions):
            rows.append(some)
            if _are_of_one_class(some.labels, data):
                shares = _shares(output, some.probabilities)
                yield from _mistakes(images, _numbers(some.labels), shares, data)
            else:
                examples.look_at(images, some.labels, some.probabilities)

    # Pictures are kept of the worst alone.
    worst = heapq.nlargest(MOST_MISTAKES, mistakes(), key=lambda mistake: mistake.loss)
    names = list(data.class_names)
    labels, probabilities, logits = (np.concatenate(c) for c in zip(*rows, strict=True))
    known: dict[str, Any] = {
        "groups": None if groups is None else groups[: len(labels)],
        "logits": logits if decisions else None,
    }
    if _are_of_one_class(labels, data):
        shares = _shares(output, probabilities)
        return Predictions(_numbers(labels), shares, names, worst, **known)
    _refuse_one_class_a_picture(model, output, data)
    known["mistakes"] = examples.of("missed", "given wrongly")
    known["found"] = examples.of("found")
    return LabelPredictions(labels, probabilities, names, thresholds, **known)


class _Rows(NamedTuple):
    """What is known of some pictures."""

    labels: np.ndarray
    probabilities: np.ndarray
    logits: np.ndarray


def _answers(
    model: keras.Model,
    output: ModelOutput,
    dataset: tf.data.Dataset,
    data: DataModule,
    decisions: Decisions | None,
) -> Iterator[tuple[np.ndarray, _Rows]]:
    """Iterate over batches of pictures, and what is known of them.

    Without decisions there are no logits: answers stand in their place.
    """
    with ExitStack() as stack:
        logits_of = stack.enter_context(answering_logits(model)) if decisions else None
        for images, labels, *_ in dataset.as_numpy_iterator():
            if data.labels == "one" and labels.shape[1:] == (1,):
                labels = labels[:, 0]
            answers = model.predict(images, batch_size=len(images), verbose=0)
            _refuse_no_probabilities(model, output, answers)
            if decisions and logits_of:
                answers = logits_of(answers)
                probabilities = decisions.probabilities(answers)
            else:
                answers = np.asarray(answers, "float32")
                probabilities = output.probabilities(answers, len(data.class_names))
            yield images, _Rows(labels, probabilities, answers)


def _refuse_one_class_a_picture(
    model: keras.Model, output: ModelOutput, data: DataModule
) -> None:
    if not output.is_of_each_class:
        raise MisconfigurationError(
            f"Rows of labels of {type(data).__name__} do not sum to 1, so that its "
            f"pictures have several labels or none, but {model.name} gives one class a "
            "picture. End it in keras.layers.Dense(classes, activation='sigmoid') and "
            "train it with keras.losses.BinaryCrossentropy(), or give rows that sum to "
            "1."
        )


class Examples:
    """Keeps a few pictures of each label: the worst mistakes, and one that is right.

    Args:
        data: Where they are from.
        thresholds: A label is given where its probability is as high or higher; None
            for 1/2.
    """

    def __init__(self, data: DataModule, thresholds: Sequence[float] | None) -> None:
        self._data = data
        self._thresholds = thresholds
        self._kept: dict[tuple[str, int], list] = defaultdict(list)
        self._number = itertools.count()

    def look_at(
        self, images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray
    ) -> None:
        """Keep what is worse, or better, than what is kept.

        Args:
            images: Standardized pictures `(N, H, W, channels)`, signals
                `(N, T, channels)` or volumes `(N, D, H, W, channels)`.
            labels: 1, 0 or NaN, `(N, classes)`.
            probabilities: `(N, classes)`.
        """
        for number in range(min(labels.shape[1], probabilities.shape[1], MOST_SHOWN)):
            has, shares = labels[:, number], probabilities[:, number]
            given = shares >= (self._thresholds[number] if self._thresholds else 0.5)
            for kind, mask, scores in (
                ("missed", (has == 1) & ~given, -shares),
                ("given wrongly", (has == 0) & given, shares),
                ("found", (has == 1) & given, shares),
            ):
                for n in np.flatnonzero(mask):
                    make = partial(
                        self._example, images[n], number, bool(has[n]), float(shares[n])
                    )
                    self._keep((kind, number), float(scores[n]), make)

    def of(self, *kinds: str) -> list[LabelExample]:
        """Return the pictures of some kinds, by label, the worst or the best first."""
        keys = [key for key in self._kept if key[0] in kinds]
        return [
            example
            for key in sorted(keys, key=lambda key: (key[1], kinds.index(key[0])))
            for *_, example in sorted(self._kept[key], reverse=True)
        ]

    def _keep(
        self,
        key: tuple[str, int],
        score: float,
        make: Callable[[], LabelExample],
    ) -> None:
        heap, most = self._kept[key], 1 if key[0] == "found" else EACH
        if len(heap) == most and score <= heap[0][0]:
            return
        # The number, since examples have no order; of equal ones the first is kept.
        heapq.heappush(heap, (score, -next(self._number), make()))
        if len(heap) > most:
            heapq.heappop(heap)

    def _example(
        self, image: np.ndarray, label: int, has_it: bool, probability: float
    ) -> LabelExample:
        return LabelExample(
            raw_picture(image, self._data), image, label, has_it, probability
        )


def _are_of_one_class(labels: np.ndarray, data: DataModule) -> bool:
    """Return whether pictures have one class each.

    Where the data do not say that they have several labels, labels are numbers then, or
    rows that sum to 1.
    """
    return data.labels == "one" and _are_shares(labels)


def _are_shares(rows: np.ndarray) -> bool:
    return rows.ndim == 1 or np.allclose(rows.sum(axis=1), 1, atol=1e-2)


def _numbers(labels: np.ndarray) -> np.ndarray:
    return labels.argmax(axis=1) if labels.ndim > 1 else labels.astype(int)


def _refuse_no_probabilities(
    model: keras.Model, output: ModelOutput, answers: np.ndarray
) -> None:
    """Refuse answers that nobody knows, where they cannot be those of one class."""
    is_known = output.kind != "unknown"
    if not is_known and ((answers < 0).any() or not _are_shares(answers)):
        raise MisconfigurationError(
            f"{model.name} returns numbers that are no probabilities, and its last "
            "layers do not say what they are. If they are logits, end it in "
            "keras.layers.Softmax()."
        )


def _shares(output: ModelOutput, probabilities: np.ndarray) -> np.ndarray:
    """Return rows that sum to 1: of classes by themselves each one's share."""
    if not output.is_of_each_class:
        return probabilities
    tiny = np.finfo("float32").tiny
    return probabilities / np.maximum(probabilities.sum(axis=1, keepdims=True), tiny)


def _mistakes(
    images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, data: DataModule
) -> Iterator[Mistake]:
    answers = probabilities.argmax(axis=1)
    of_labels = losses(probabilities, labels)
    for n in np.flatnonzero(answers != labels):
        raw = raw_picture(images[n], data)
        sure = float(probabilities[n, answers[n]])
        yield Mistake(raw, int(labels[n]), int(answers[n]), sure, float(of_labels[n]))
