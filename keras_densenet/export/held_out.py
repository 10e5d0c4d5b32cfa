"""What a network in fewer bits still answers rightly, of pictures held out."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from keras_densenet.data import DataModule
from keras_densenet.errors import MisconfigurationError
from keras_densenet.export.signatures import Preprocessing
from keras_densenet.export.verification import ExportError
from keras_densenet.model_output import output_of
from keras_densenet.pixel_classes import VOID

BATCH = 32
HELD_OUT = 2000  # pictures

Run = Callable[[np.ndarray], Mapping[str, Any]]  # answers of raw pictures


def raw_pictures(
    data: DataModule, stage: str, many: int = HELD_OUT
) -> tuple[np.ndarray, np.ndarray]:
    """Return a data module's first pictures, as they were, and their labels.

    Args:
        data: The data module, whose data are prepared.
        stage: "fit" for training pictures, "test" for test pictures.
        many: How many, if there are as many.

    Raises:
        MisconfigurationError: There are none.
    """
    data.setup(stage)
    dataset = data.train_dataset() if stage == "fit" else data.test_dataset()
    batches: list[tuple] = []
    if dataset is not None:
        batches = list(dataset.unbatch().batch(BATCH).take(-(-many // BATCH)))
    data.teardown(stage)
    if not batches:
        kind = "training" if stage == "fit" else "test"
        raise MisconfigurationError(
            "Fewer bits are tried on pictures of the data, and "
            f"{type(data).__name__} has no {kind} pictures. Give it some, or export in "
            "float32."
        )
    images = np.concatenate([images for images, *_ in batches])[:many]
    labels = np.concatenate([labels for _, labels, *_ in batches])[:many]
    return Preprocessing(data.input_shape, data.mean, data.std).raw(images), labels


def accuracy_of(run: Run, images: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of right answers.

    Of yes and no it is by decisions, if any are. Of pixels it is the mean over classes
    of the share that is right: a rare class counts as much as the background.
    """
    starts = range(0, len(images), BATCH)
    asked = (run(np.asarray(images[at : at + BATCH], "float32")) for at in starts)
    batches = [_needed(answer) for answer in asked]
    answers = {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}
    if "class_map" in answers:
        right = answers["class_map"] == labels
        there = np.setdiff1d(labels, [VOID])
        return float(np.mean([right[labels == number].mean() for number in there]))
    logits = answers["logits"]
    if labels.ndim > 1 or logits.shape[1] == 1:  # yes or no, by sigmoids
        labels = labels.reshape(logits.shape)
        known, given = ~np.isnan(labels), answers.get("decisions", logits > 0)
        return float(np.mean(given[known] == (labels >= 0.5)[known]))
    return float(np.mean(logits.argmax(axis=1) == labels))


def _needed(answer: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return what tells what is right: of pixels no probabilities, which are many."""
    names = ["class_map"] if "class_map" in answer else list(answer)
    return {name: np.asarray(answer[name]) for name in names}


def checked_pictures(
    held_out: tuple[Any, Any], model: keras.Model, max_drop: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures and labels held out as arrays, of a softmax class numbers.

    Raises:
        ValueError: They are not those of the model, or `max_drop` is no share.
    """
    images, labels = (np.asarray(part) for part in held_out)
    classes, shape = model.output_shape[-1], model.input_shape[1:]
    fits = images.ndim == len(shape) + 1 and all(
        size in (None, found)
        for size, found in zip(shape, images.shape[1:], strict=True)
    )
    if not fits or len(images) != len(labels) or len(labels) == 0:
        raise ValueError(
            f"held_out must be pictures (N, {str(shape)[1:]} and labels (N,) or (N, "
            f"{classes}), of one picture or more. Received: shapes {images.shape} and "
            f"{labels.shape}"
        )
    if not 0 <= max_drop <= 1:
        raise ValueError(
            f"max_drop must be a share in 0..1. Received: max_drop={max_drop}"
        )
    if len(model.output_shape) > 2:
        return images, _checked_masks(labels, images, classes)
    return images, _checked_labels(labels, model)


def _checked_labels(labels: np.ndarray, model: keras.Model) -> np.ndarray:
    classes = model.output_shape[-1]
    if output_of(model).is_of_each_class:
        labels = labels.reshape(len(labels), -1)
        fits = labels.shape[1] == classes and not np.isnan(labels).all()
    else:
        labels = labels.argmax(axis=1) if labels.ndim == 2 else labels
        fits = bool(((labels >= 0) & (labels < classes)).all())
    if not fits:
        raise ValueError(
            f"The labels of held_out must be those of {classes} classes: numbers in "
            f"0..{classes - 1}, or of sigmoids (N, {classes}) of 0 and 1, with NaN "
            "where a label is not known."
        )
    return labels


def _checked_masks(labels: np.ndarray, images: np.ndarray, classes: int) -> np.ndarray:
    is_class = (labels >= 0) & (labels < classes)
    fits = labels.shape == images.shape[:-1] and (is_class | (labels == VOID)).all()
    if not fits or not is_class.any():
        raise ValueError(
            f"The labels of held_out must be masks {images.shape[:-1]} of class "
            f"numbers in 0..{classes - 1}, and {VOID} where the class is not known. "
            f"Received: shape {labels.shape}"
        )
    return labels


def checked_accuracies(
    served: Run,
    expected: Run,
    held_out: tuple[np.ndarray, np.ndarray],
    max_drop: float,
) -> dict[str, float]:
    """Return the accuracy of a network in bfloat16, and that of the model in float32.

    Raises:
        ExportError: More than `max_drop` of it is lost, and more than one picture.
    """
    found, before = (accuracy_of(run, *held_out) for run in (served, expected))
    pictures = len(held_out[1])
    rounding = 1e-6
    if before - found > max(max_drop, 1 / pictures) + rounding:
        raise ExportError(
            f"In bfloat16 the network classifies {found:.2%} of {pictures} pictures "
            f"rightly, in float32 {before:.2%}: more than max_drop={max_drop} is lost, "
            "and nothing was written. Leave precision out."
        )
    return {"held_out_accuracy": found, "held_out_accuracy_in_float32": before}
