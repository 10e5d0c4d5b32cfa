"""What a network answers to labeled pictures."""

import heapq
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from keras_densenet.analysis.predictions import (
    LabelPredictions,
    Mistake,
    Predictions,
    losses,
)
from keras_densenet.data import DataModule
from keras_densenet.errors import MisconfigurationError
from keras_densenet.model_output import ModelOutput, output_of

MOST_MISTAKES = 24


def predictions_of(
    model: keras.Model, dataset: tf.data.Dataset, data: DataModule
) -> Predictions | LabelPredictions:
    """Ask a network about labeled pictures, in one pass.

    Args:
        model: Gives probabilities or logits of one class a picture, or of each class by
            itself, by sigmoids.
        dataset: Batches of standardized pictures and labels: class numbers `(N,)`, or
            `(N, classes)`, whose rows sum to 1 for one class a picture.
        data: Where they are from.

    Returns:
        For one class a picture the predictions of classes. Of a network that answers
        for each class by itself, their shares of the sum. Where pictures have several
        labels, or none, the predictions of each label.

    Raises:
        ValueError: Pictures have several labels, and the network gives one class a
            picture; or what it gives is not known, and is no probabilities.
    """
    output = output_of(model)
    all_labels: list[np.ndarray] = []
    all_probabilities: list[np.ndarray] = []

    def mistakes() -> Iterator[Mistake]:
        for images, labels, *_ in dataset.as_numpy_iterator():
            answers = model.predict(images, batch_size=len(images), verbose=0)
            probabilities = _probabilities(model, output, answers, data)
            labels = labels[:, 0] if labels.shape[1:] == (1,) else labels
            all_labels.append(labels)
            all_probabilities.append(probabilities)
            if _are_of_one_class(labels, data):
                shares = _shares(output, probabilities)
                yield from _mistakes(images, _numbers(labels), shares, data)

    # Pictures are kept of the worst alone.
    worst = heapq.nlargest(MOST_MISTAKES, mistakes(), key=lambda mistake: mistake.loss)
    names = list(data.class_names)
    labels = np.concatenate(all_labels)
    probabilities = np.concatenate(all_probabilities)
    if _are_of_one_class(labels, data):
        shares = _shares(output, probabilities)
        return Predictions(_numbers(labels), shares, names, worst)
    if not output.is_of_each_class:
        raise MisconfigurationError(
            f"Rows of labels of {type(data).__name__} do not sum to 1: pictures have "
            f"several labels or none, and {model.name} gives one class a picture. End "
            "it in keras.layers.Dense(classes, activation='sigmoid') and train it with "
            "keras.losses.BinaryCrossentropy(), or give rows that sum to 1."
        )
    return LabelPredictions(labels, probabilities, names)


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


def _probabilities(
    model: keras.Model, output: ModelOutput, answers: np.ndarray, data: DataModule
) -> np.ndarray:
    """Return the probability of each class, `(N, classes)`."""
    answers = np.asarray(answers, "float32")
    is_known = output.kind != "unknown"
    if not is_known and ((answers < 0).any() or not _are_shares(answers)):
        raise MisconfigurationError(
            f"{model.name} returns numbers that are no probabilities, and its last "
            "layers do not say what they are. If they are logits, end it in "
            "keras.layers.Softmax()."
        )
    return output.probabilities(answers, len(data.class_names))


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
        raw = images[n] * np.asarray(data.std) + np.asarray(data.mean)
        sure = float(probabilities[n, answers[n]])
        yield Mistake(raw, int(labels[n]), int(answers[n]), sure, float(of_labels[n]))
