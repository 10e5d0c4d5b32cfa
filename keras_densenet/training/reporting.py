"""What `Trainer.report` writes: a page about what a network answers, and how it is."""

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_densenet.analysis.predictions import Mistake, Predictions, losses
from keras_densenet.analysis.profile import profile
from keras_densenet.checkpoint_file import LAST
from keras_densenet.data import DataModule
from keras_densenet.errors import MisconfigurationError
from keras_densenet.training.flags import Flags
from keras_densenet.training.limits import take
from keras_densenet.training.run_folder import CHECKPOINTS

HELD_OUT = {"test": "test", "validate": "validation"}  # stages, and their pictures
MOST_MISTAKES = 24
MOST_PICTURES = 32  # whose gradients are taken,
MOST_MEMORY = 1e9  # in bytes, or as many as have room in this


def held_out(flags: Flags, data: DataModule) -> tuple[str, tf.data.Dataset]:
    """Return "test" and the test pictures; if there are none, those to validate on.

    Raises:
        MisconfigurationError: There are neither, or several views of each picture.
    """
    data.prepare_data()
    data.setup("test")
    stage, dataset = "test", take(data.test_dataset(), flags.limit_test_batches)
    if dataset is None or int(dataset.cardinality()) == 0:
        data.setup("validate")
        stage, dataset = "validate", take(data.val_dataset(), flags.limit_val_batches)
    if dataset is None or int(dataset.cardinality()) == 0:
        raise MisconfigurationError(
            "There is nothing to report on: the data module has neither test nor "
            "validation pictures, or the trainer's limits are 0 batches."
        )
    shape = dataset.element_spec[0].shape
    if shape.rank != 4:
        raise MisconfigurationError(
            "report needs batches of pictures, (N, H, W, channels). Received: "
            f"{type(data).__name__} with {shape}. Of ten views give the data module of "
            "one, and the network in them."
        )
    return stage, dataset


def command_to_report(run: Path | None) -> str:
    """Return the command that reports on a run of several machines in one process."""
    folder = run or Path("runs/...")
    return (
        "A report is written in one process, without TF_CONFIG: python -m "
        f"keras_densenet report --config {folder / 'config.yaml'} --ckpt_path "
        f"{folder / CHECKPOINTS / LAST} --trainer.strategy auto --trainer.num_nodes 1"
    )


def predictions_of(
    model: keras.Model, dataset: tf.data.Dataset, data: DataModule
) -> Predictions:
    """Ask a network about labelled pictures, in one pass.

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


def some_pictures(model: keras.Model, dataset: tf.data.Dataset) -> tuple[Any, Any]:
    """Return few enough pictures and labels for gradients to be taken of them."""
    try:
        room = profile(model).training_bytes(False)
    except ValueError:  # nobody knows
        room = 0
    # Each reader's own copies of the maps come on top: about as much again.
    count = min(MOST_PICTURES, int(MOST_MEMORY // max(1, 2 * room)))
    images, labels, *_ = next(iter(dataset))
    return images[: max(2, count)], labels[: max(2, count)]
