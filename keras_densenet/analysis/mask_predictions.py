"""A network's answers for each pixel, and how far they are the masks."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_densenet.analysis.drawn_pictures import raw_picture
from keras_densenet.data import DataModule
from keras_densenet.pixel_classes import VOID

WORST, BEST = 8, 4  # pictures that are kept


class MaskExample(NamedTuple):
    """A picture, its mask, and what a network answers.

    Attributes:
        picture: The raw picture, `(H, W, channels)` in 0..255; or a volume
            `(D, H, W, channels)` or a signal `(T, channels)` in its own units.
        mask: Class numbers, 255 where they are not known: `(H, W)`.
        answer: Class numbers, `(H, W)`.
        iou: The mean intersection over union of the classes that are in either.
    """

    picture: np.ndarray
    mask: np.ndarray
    answer: np.ndarray
    iou: float


class PixelScore(NamedTuple):
    """How well the pixels of one class are told.

    Attributes:
        name: Name of the class.
        iou: Intersection over union of its pixels and of those that are taken for it;
            NaN where there are none of either.
        precision: Share of it among the pixels that are taken for it, 0 of none.
        recall: Share of its pixels that are taken for it, 0 of none.
        share: Its share of all pixels whose class is known.
    """

    name: str
    iou: float
    precision: float
    recall: float
    share: float


@dataclass(frozen=True)
class MaskPredictions:
    """What a network answers for the pixels of pictures with masks.

    Attributes:
        counts: The pixels of each class (row) that are taken for each (column), of
            those whose class is known: `(classes, classes)`.
        class_names: A name for each class.
        pictures: How many there are.
        worst: Some of those with the lowest mean intersection over union, the lowest
            first.
        best: Some of those with the highest, the highest first.
    """

    counts: np.ndarray
    class_names: Sequence[str]
    pictures: int
    worst: Sequence[MaskExample] = field(default=(), repr=False)
    best: Sequence[MaskExample] = field(default=(), repr=False)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return self.pictures

    def confusion_matrix(self) -> np.ndarray:
        """Return the pixels of each class (row) that are taken for each (column)."""
        return self.counts

    @property
    def mean_iou(self) -> float:
        """Mean over classes of intersection over union, NaN where nothing is known."""
        return _mean_iou(self.counts)

    @property
    def pixel_accuracy(self) -> float:
        """Share of the pixels whose class is right, of those where it is known."""
        return float(np.trace(self.counts) / max(self.counts.sum(), 1))

    def pixel_scores(self) -> list[PixelScore]:
        """Return how well each class is told."""
        right = np.diag(self.counts)
        said, there = self.counts.sum(axis=0), self.counts.sum(axis=1)
        columns = (
            _ious(self.counts),
            right / np.maximum(said, 1),
            right / np.maximum(there, 1),
            there / max(there.sum(), 1),
        )
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [
            PixelScore(name, *row)
            for name, row in zip(self.class_names, rows, strict=True)
        ]


def mask_predictions_of(
    model: keras.Model, dataset: tf.data.Dataset, data: DataModule
) -> MaskPredictions:
    """Ask a network about the pixels of pictures with masks, in one pass.

    Args:
        model: Gives probabilities or logits of each pixel's classes.
        dataset: Batches of standardized pictures and class numbers `(N, H, W)`.
        data: Where they are from.
    """
    classes = len(data.class_names)
    counts = np.zeros((classes, classes), np.int64)
    pictures = 0
    worst: list[MaskExample] = []
    best: list[MaskExample] = []
    for image, mask, answer in _pixels_of(model, dataset):
        own = _counted(mask, answer, classes)
        counts, pictures = counts + own, pictures + 1
        if own.any():
            # Copies, as a part of a batch would keep the whole batch in memory.
            shown = image.copy(), mask.copy(), answer.copy()
            example = MaskExample(*shown, _mean_iou(own))
            worst = heapq.nsmallest(WORST, [*worst, example], _iou)
            best = heapq.nlargest(BEST, [*best, example], _iou)
    names = list(data.class_names)
    return MaskPredictions(counts, names, pictures, _raw(worst, data), _raw(best, data))


def _raw(examples: Sequence[MaskExample], data: DataModule) -> list[MaskExample]:
    """Return the examples with raw pictures in place of standardized ones."""
    return [one._replace(picture=raw_picture(one.picture, data)) for one in examples]


def _iou(example: MaskExample) -> float:
    return example.iou


def _pixels_of(
    model: keras.Model, dataset: tf.data.Dataset
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Iterate over pictures, their masks, and the most probable classes."""
    for images, masks, *_ in dataset.as_numpy_iterator():
        answers = model.predict(images, batch_size=len(images), verbose=0).argmax(-1)
        yield from zip(images, masks, answers, strict=True)


def _counted(mask: np.ndarray, answer: np.ndarray, classes: int) -> np.ndarray:
    """Count the pixels of each class (row) that are taken for each (column)."""
    known = mask != VOID
    pairs = mask[known].astype(np.int64) * classes + answer[known]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def _ious(counts: np.ndarray) -> np.ndarray:
    """Return the intersection over union of each class; NaN where it has no union."""
    right = np.diag(counts)
    union = counts.sum(axis=0) + counts.sum(axis=1) - right
    return np.where(union > 0, right / np.maximum(union, 1), np.nan)


def _mean_iou(counts: np.ndarray) -> float:
    return float(np.nanmean(_ious(counts))) if counts.any() else float("nan")
