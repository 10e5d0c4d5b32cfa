"""What a network answers to labeled pictures."""

import heapq
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from keras_densenet.analysis.predictions import Mistake, Predictions, losses
from keras_densenet.data import DataModule

MOST_MISTAKES = 24


def predictions_of(
    model: keras.Model, dataset: tf.data.Dataset, data: DataModule
) -> Predictions:
    """Ask a network about labeled pictures, in one pass.

    Args:
        model: Gives class probabilities, or logits.
        dataset: Batches of standardized pictures and labels.
        data: Where they are from.
    """
    all_labels, all_probabilities = [], []

    def mistakes() -> Iterator[Mistake]:
        for images, labels, *_ in dataset.as_numpy_iterator():
            labels = labels.argmax(axis=1) if labels.ndim > 1 else labels.astype(int)
            answers = model.predict(images, batch_size=len(images), verbose=0)
            probabilities = _as_probabilities(answers)
            all_labels.append(labels)
            all_probabilities.append(probabilities)
            yield from _mistakes(images, labels, probabilities, data)

    # Pictures are kept of the worst alone.
    worst = heapq.nlargest(MOST_MISTAKES, mistakes(), key=lambda mistake: mistake.loss)
    return Predictions(
        np.concatenate(all_labels),
        np.concatenate(all_probabilities),
        list(data.class_names),
        worst,
    )


def _mistakes(
    images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, data: DataModule
) -> Iterator[Mistake]:
    answers = probabilities.argmax(axis=1)
    of_labels = losses(probabilities, labels)
    for n in np.flatnonzero(answers != labels):
        raw = images[n] * np.asarray(data.std) + np.asarray(data.mean)
        sure = float(probabilities[n, answers[n]])
        yield Mistake(raw, int(labels[n]), int(answers[n]), sure, float(of_labels[n]))


def _as_probabilities(outputs: np.ndarray) -> np.ndarray:
    """Return probabilities: as they are, or of logits."""
    outputs = np.asarray(outputs, "float32")
    sums = outputs.sum(axis=1)
    if (outputs >= 0).all() and np.allclose(sums, 1, atol=1e-2):
        return outputs
    exponentials = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
