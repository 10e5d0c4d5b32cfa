"""Whether a loss fits what a model answers: logits or probabilities."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_densenet.errors import MisconfigurationError
from keras_densenet.model_output import (
    LossReads,
    ends_in_relu,
    last_activation,
    loss_reads,
    output_of,
)

_OWN = "In an ImageClassifier override configure_loss. "


def refuse_other_loss(model: keras.Model, loss: Any) -> None:
    """Refuse a loss that takes a model's numbers for something else, where it is sure.

    Args:
        model: Its last layers say what its numbers are.
        loss: What it is to be trained with, as `model.compile` takes it.

    Raises:
        MisconfigurationError: Logits that are taken for probabilities, or the other way
            around; a probability of each class that is taken for one class a picture; a
            softmax over one unit.
    """
    output_of(model, loss)
    reads = loss_reads(loss)
    if reads is None or reads.family == "numbers":
        return
    last = last_activation(model).name
    text = _logits(reads, last) or _probabilities(reads, last) or _relu(model)
    if text:
        raise MisconfigurationError(f"{model.name} {text}")


def _logits(reads: LossReads, last: str) -> str:
    if last not in ("linear", "log_softmax") or reads.from_logits:
        return ""
    activation = "softmax" if reads.family == "categorical" else "sigmoid"
    return (
        f"ends in logits ({last}), and its loss takes them for probabilities: it would "
        "learn nothing. Give the loss from_logits=True, or end the network in "
        f'keras.layers.Activation("{activation}"). {_OWN}'
    ).rstrip()


def _probabilities(reads: LossReads, last: str) -> str:
    if last == "sigmoid" and reads.family == "categorical":
        return (
            "ends in a sigmoid, a probability of each class by itself, and its loss is "
            "for one class a picture. End the network in a softmax over the classes, "
            "or, for several labels a picture or one unit for two classes, take "
            f"keras.losses.BinaryCrossentropy(). {_OWN}"
        ).rstrip()
    fits = {"softmax": "categorical", "sigmoid": "binary"}.get(last)
    if fits == reads.family and reads.from_logits:
        return (
            f"ends in a {last}, and its loss has from_logits=True: it would take "
            "probabilities for logits. Leave from_logits out, or the activation. "
            f"{_OWN}"
        ).rstrip()
    return ""


def _relu(model: keras.Model) -> str:
    if not ends_in_relu(model):
        return ""
    return (
        "ends in a ReLU, whose numbers are neither probabilities nor logits, and its "
        "loss is for classes. End the network in "
        'keras.layers.Activation("softmax") instead.'
    )


def refuse_numbers_below_0(
    model: keras.Model, loss: Any, input_shape: Sequence[int]
) -> None:
    """Refuse a model that is seen to give no probabilities to a loss that takes them.

    It is asked about noise where its last layers do not say what it gives, as those of
    a subclassed model do not.

    Args:
        model: Takes one batch of pictures.
        loss: What it is to be trained with.
        input_shape: Of one of the data's pictures.

    Raises:
        MisconfigurationError: Some of its numbers are below 0.
    """
    reads = loss_reads(loss)
    if reads is None or reads.family == "numbers" or reads.from_logits:
        return
    several = len(getattr(model, "inputs", None) or (0,)) > 1
    if several or last_activation(model).name != "unknown":
        return
    shape = _without_batch(getattr(model, "input_shape", None)) or input_shape
    noise = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    answers = model(noise, training=False)
    if keras.ops.is_tensor(answers) and (np.asarray(answers, "float32") < 0).any():
        raise MisconfigurationError(
            f"{model.name} gives numbers below 0, and its loss takes them for "
            "probabilities. Give the loss from_logits=True if they are logits, or end "
            f'the network in keras.layers.Activation("softmax"). {_OWN}'.rstrip()
        )


def _without_batch(shape: Any) -> Sequence[int] | None:
    """Return a model's shape of one picture; None where its sizes are not all fixed."""
    is_fixed = isinstance(shape, tuple) and all(isinstance(n, int) for n in shape[1:])
    return shape[1:] if is_fixed else None
