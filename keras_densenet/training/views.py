"""Several views of each picture to predict, of which the mean probability counts."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from keras_densenet.analysis.inside import TINY, answering_logits
from keras_densenet.decisions import Decisions
from keras_densenet.devices import Devices
from keras_densenet.errors import MisconfigurationError
from keras_densenet.model_output import ModelOutput, output_of
from keras_densenet.tensor import Tensor

Views: TypeAlias = Literal["flip", 10] | None


def checked_views(views: Any) -> Views:
    """Return what `predict` was asked for, refusing what it does not know."""
    is_ten = isinstance(views, int) and views == 10
    if views is None or is_ten or (isinstance(views, str) and views == "flip"):
        return views
    raise MisconfigurationError(
        'views is "flip", for a picture and its mirror image, 10, for four corners and '
        "the center of both, or None, for the picture as it is. Received: "
        f"views={views!r}"
    )


def asked(
    devices: Devices,
    network: keras.Model,
    batches: tf.data.Dataset,
    classes: int,
    views: Views = None,
    decisions: Decisions | None = None,
) -> np.ndarray:
    """Return probabilities `(N, classes)` of pictures, or of their views.

    Args:
        devices: Where the network lives.
        network: Of one view `(N, H, W, channels)`.
        batches: Of pictures, or of views `(N, views, H, W, channels)`.
        classes: How many classes there are.
        views: None for pictures.
        decisions: Their temperatures count; None for probabilities as they are.
    """
    output = output_of(network)
    if decisions is None:
        asks = mean_of_views(devices, network) if views else network
        output = _of_mean(output) if views else output
        return output.probabilities(asks.predict(batches, verbose=0), classes)
    with answering_logits(network) as logits_of:
        if views:
            asks = mean_of_views(devices, network, decisions)
            return asks.predict(batches, verbose=0)
        logits = logits_of(network.predict(batches, verbose=0))
    return decisions.probabilities(logits)


def mean_of_views(
    devices: Devices, network: keras.Model, decisions: Decisions | None = None
) -> keras.Model:
    """Return a model of several views that answers with their mean probabilities.

    Args:
        devices: Where it is to live.
        network: Of one view `(N, H, W, channels)`; with decisions, while it answers
            logits.
        decisions: Their temperatures count; None for probabilities as they are.

    Returns:
        The model, of views `(N, views, H, W, channels)`.

    Raises:
        MisconfigurationError: It is not known what the network answers.
    """
    if len(getattr(network, "output_shape", None) or ()) > 2:
        raise MisconfigurationError(
            f"{network.name} answers for each pixel, and the pixels of several views "
            "of a picture are at other places. Predict without views."
        )
    output = output_of(network)
    if output.kind == "unknown":
        raise MisconfigurationError(
            f"The views' probabilities are averaged, and the last layers of "
            f"{network.name} do not say whether it gives any: end it in "
            "keras.layers.Softmax(), or predict without views."
        )
    activated = output.activated
    if decisions:
        answers_logits = output.kind in ("logits", "sigmoid_logits")
        activated = partial(_at_temperatures, decisions, answers_logits)
    with devices.scope():
        model = _MeanOfViews(network, activated)
    model.jit_compile = network.jit_compile
    return model


def _of_mean(output: ModelOutput) -> ModelOutput:
    kind: Any = "sigmoid" if output.is_of_each_class else "softmax"
    return ModelOutput(kind, output.units)


def _at_temperatures(
    decisions: Decisions, answers_logits: bool, answers: Tensor
) -> Tensor:
    """Return what `Decisions.probabilities` does, as a tensor."""
    logits = keras.ops.cast(answers, "float32")
    if not answers_logits:  # but means of probabilities
        shares = keras.ops.maximum(logits, TINY)
        logits = keras.ops.log(shares)
        if decisions.of_each_label:
            logits = logits - keras.ops.log(keras.ops.maximum(1 - shares, TINY))
    scaled = logits / keras.ops.convert_to_tensor(decisions.temperatures, "float32")
    if decisions.of_each_label:
        return keras.ops.sigmoid(scaled)
    return keras.ops.softmax(scaled, axis=-1)


class _MeanOfViews(keras.Model):
    """Asks a network about one view after the other, as many pictures as in a batch.

    Args:
        network: Of one view.
        activated: Makes probabilities of its answers.
    """

    def __init__(
        self, network: keras.Model, activated: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__(name=f"{network.name}_views")
        self.network = network
        self._activated = activated

    def call(self, views: Tensor) -> Tensor:
        """Return the mean probabilities `(N, units)`."""
        each = tf.map_fn(
            lambda view: self._activated(self.network(view, training=False)),
            tf.stack(tf.unstack(views, axis=1)),  # (views, N, H, W, channels)
            fn_output_signature=keras.config.floatx(),
            parallel_iterations=1,  # or all would be in memory
        )
        return tf.reduce_mean(each, axis=0)
