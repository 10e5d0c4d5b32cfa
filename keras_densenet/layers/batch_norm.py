"""Batch normalization that takes the batch's moments instead of computing them."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
from keras import ops

from keras_densenet.layers.data_format import channel_axis, checked_data_format
from keras_densenet.layers.shared_moments import (
    Moments,
    normalize,
    normalize_batch,
    statistics_dtype,
)
from keras_densenet.tensor import Tensor

EPSILON = 1e-5  # Torch's, and the paper's; Keras's own default is 1e-3
MOMENTUM = 0.9  # Torch writes it as 0.1; Keras's own default is 0.99

_is_second_run = ContextVar("_is_second_run", default=False)


@contextmanager
def second_run() -> Iterator[None]:
    """Leave moving statistics alone within this context: the first run updated them."""
    token = _is_second_run.set(True)
    try:
        yield
    finally:
        _is_second_run.reset(token)


def freeze_parts(layer: keras.layers.Layer) -> None:
    """Freeze the layers within a layer that was created with `trainable=False`.

    Keras freezes them when `trainable` is set, but not when a layer is created frozen,
    as from its config: their batch norms would go on with the statistics of the batch.
    """
    if not layer.trainable:
        layer.trainable = True  # TensorFlow ignores a value that is False already
        layer.trainable = False


def checked_synchronization(synchronized: bool) -> bool:
    """Return `synchronized` as it is.

    Raises:
        ValueError: It is True on a backend that has no TensorFlow strategies.
    """
    if synchronized and keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Synchronized batch norm needs the TensorFlow backend: set "
            "KERAS_BACKEND=tensorflow, or leave batch norms unsynchronized. "
            f"Received: synchronized={synchronized} on the "
            f"{keras.backend.backend()} backend."
        )
    return synchronized


@keras.saving.register_keras_serializable(package="keras_densenet")
class BatchNorm(keras.layers.Layer):
    """Batch normalization (BN) with moments computed elsewhere, or here.

    In training it normalizes with the batch's moments and updates its moving
    statistics once; in inference, and when `trainable` is False, it uses the moving
    statistics and leaves them alone. Its weights, `gamma`, `beta`, `moving_mean` and
    `moving_variance`, are those of `keras.layers.BatchNormalization`, in that order
    and in float32 under every mixed precision.

    Args:
        epsilon: Added to the variance, > 0.
        momentum: Share of the old value in a moving statistic's update, in [0, 1].
        synchronized: Whether the batch is that of all replicas of a TensorFlow
            strategy; otherwise each replica normalizes with its own share.
        data_format: `"channels_last"` or `"channels_first"`; None for Keras's
            configured format.

    Call arguments:
        - x: Feature maps of shape `(N, H, W, C)`, or `(N, C, H, W)`; of signals and
            volumes they have one axis less, or more.
        - moments: The batch's `Moments` of `x`, used in training; computed if None.
        - training: Whether to normalize with the batch's moments.
    """

    def __init__(
        self,
        epsilon: float = EPSILON,
        momentum: float = MOMENTUM,
        synchronized: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        # Moments must stay in float32 where features are 16-bit: no automatic casts.
        super().__init__(autocast=False, **kwargs)
        self.epsilon = epsilon
        self.momentum = momentum
        self.synchronized = checked_synchronization(synchronized)
        self.data_format = checked_data_format(data_format)
        self.axis = channel_axis(self.data_format)

    def build(self, input_shape: tuple) -> None:
        """Create the four vectors of shape `(C,)`."""
        shape = (input_shape[self.axis],)
        self.gamma = self._add_vector("gamma", "ones", shape)
        self.beta = self._add_vector("beta", "zeros", shape)
        self.moving_mean = self._add_vector("moving_mean", "zeros", shape, False)
        self.moving_variance = self._add_vector("moving_variance", "ones", shape, False)

    def _add_vector(
        self, name: str, initializer: str, shape: tuple, trainable: bool = True
    ) -> keras.Variable:
        return self.add_weight(
            shape=shape,
            initializer=initializer,
            trainable=trainable,
            autocast=False,
            name=name,
        )

    def call(
        self, x: Tensor, moments: Moments | None = None, training: bool | None = None
    ) -> Tensor:
        """Normalize `x`, channel by channel."""
        x = ops.cast(x, self.compute_dtype)
        gamma, beta = (self._cast(vector, x) for vector in (self.gamma, self.beta))
        if not (training and self.trainable):
            moving = (self.moving_mean, self.moving_variance)
            moments = Moments(*(self._cast(vector, x) for vector in moving))
            return normalize(
                x, moments, gamma, beta, self.epsilon, self.axis, of_batch=False
            )
        if moments is None:
            y, moments = normalize_batch(
                x, gamma, beta, self.epsilon, self.axis, self.synchronized
            )
        else:
            y = normalize(x, moments, gamma, beta, self.epsilon, self.axis)
        if not _is_second_run.get():
            self._update(self.moving_mean, moments.mean)
            self._update(self.moving_variance, moments.variance)
        return y

    def _cast(self, vector: keras.Variable, x: Tensor) -> Tensor:
        return ops.cast(vector, statistics_dtype(x))

    def _update(self, moving: keras.Variable, value: Tensor) -> None:
        value = ops.cast(ops.stop_gradient(value), moving.dtype)
        old = ops.cast(moving, moving.dtype)  # so that the variable is read once
        moving.assign(old + (value - old) * (1.0 - self.momentum))

    def compute_output_shape(self, input_shape: tuple, **kwargs: Any) -> tuple:
        """Return the input's shape, which BN keeps."""
        return input_shape

    def get_config(self) -> dict:
        """Return what `from_config` needs."""
        return {
            **super().get_config(),
            "epsilon": self.epsilon,
            "momentum": self.momentum,
            "synchronized": self.synchronized,
            "data_format": self.data_format,
        }
