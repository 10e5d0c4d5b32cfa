"""The stem for ImageNet: what comes before the dense blocks (paper, Table 1)."""

from math import prod
from numbers import Integral
from typing import Any

import keras
from keras import ops

from keras_densenet.layers.batch_norm import BatchNorm, freeze_parts
from keras_densenet.layers.convolution import he_convolution
from keras_densenet.layers.data_format import (
    channel_axis,
    checked_data_format,
    pixels_per_picture,
    with_channels,
)
from keras_densenet.layers.dense_layer import Stage
from keras_densenet.layers.pooling import max_pool
from keras_densenet.layers.recomputation import (
    checked_mode,
    recomputed_convolution,
    recomputed_stage,
)
from keras_densenet.layers.shared_moments import Moments
from keras_densenet.tensor import Tensor


def _check_filters(filters: int) -> None:
    if not isinstance(filters, Integral) or filters < 1:
        raise ValueError(
            "filters, the number of feature maps that the stem makes, must be a whole "
            f"number of 1 or more. Received: filters={filters!r}."
        )


@keras.saving.register_keras_serializable(package="keras_densenet")
class Stem(keras.layers.Layer):
    """7x7 convolution with stride 2, BN, ReLU, 3x3 max pooling with stride 2.

    Both are padded as in Torch, alike on all sides. Of signals the windows are 7 and 3
    steps long, of volumes 7x7x7 and 3x3x3 voxels.

    Args:
        filters: Number of feature maps, >= 1; the paper's 2k.
        memory_efficient: What training computes again instead of storing it, with the
            same result: False for nothing, True for what follows the convolution,
            `"full"` for the convolution, too.
        sync_batchnorm: Whether the batch norm normalizes over the batches of all
            replicas of a TensorFlow strategy, instead of over each replica's share.
        data_format: `"channels_last"` or `"channels_first"`; None for Keras's
            configured format.

    Call arguments:
        - x: Pictures `(N, H, W, channels)`; signals `(N, T, channels)` and volumes
            `(N, D, H, W, channels)`.
        - training: Whether to normalize with the batch's moments.

    Returns:
        Feature maps of a quarter of height and width, rounded up:
        `(N, H / 4, W / 4, filters)`.

    Examples:
        >>> Stem(64)(keras.Input((224, 224, 3))).shape
        (None, 56, 56, 64)
    """

    def __init__(
        self,
        filters: int,
        *,
        memory_efficient: bool | str = False,
        sync_batchnorm: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        # Moments must stay in float32 where features are 16-bit: no automatic casts.
        super().__init__(autocast=False, **kwargs)
        _check_filters(filters)
        self.filters = filters
        self.memory_efficient = checked_mode(memory_efficient)
        self.sync_batchnorm = sync_batchnorm
        self.data_format = checked_data_format(data_format)
        self.axis = channel_axis(self.data_format)

    def build(self, input_shape: tuple) -> None:
        """Create the weights, in the order in which they are used."""
        shared = {"data_format": self.data_format, "dtype": self.dtype_policy}
        rank = len(input_shape) - 2
        self.conv = he_convolution(
            self.filters, 7, "valid", rank, strides=2, name="conv", **shared
        )
        self.bn = BatchNorm(synchronized=self.sync_batchnorm, name="bn", **shared)
        padded = tuple(size and size + 6 for size in input_shape)
        self.conv.build(with_channels(padded, self.axis, input_shape[self.axis]))
        self.bn.build(with_channels(input_shape, self.axis, self.filters))
        freeze_parts(self)

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        """Make the feature maps that the first dense block reads."""
        return self._convolved(x, self._pooled, training)

    def with_maps(
        self, x: Tensor, training: bool | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return what a call does, and the maps before the pooling."""
        maps = self._convolved(x, self._activated, training)
        return self._pool(maps), maps

    def _convolved(self, x: Tensor, stage: Stage, training: bool | None) -> Tensor:
        """Run the convolution and the stage after it."""
        x = ops.cast(x, self.compute_dtype)
        if training and self.memory_efficient == "full":
            return recomputed_convolution(
                self, self._maps, stage, x, self.sync_batchnorm
            )
        maps = self._maps(x)  # (N, H / 2, W / 2, filters)
        if training and self.memory_efficient:
            return recomputed_stage(self, stage, maps, self.axis, self.sync_batchnorm)
        return stage(maps, None, training)

    def _maps(self, x: Tensor) -> Tensor:
        return self.conv(self._padded(x, 3))

    def _pooled(
        self, x: Tensor, moments: Moments | None, training: bool | None
    ) -> Tensor:
        # Table 1 has ReLU before the pooling. After it the result is the same to the
        # bit, as ReLU and the maximum commute, and there are fewer pixels for ReLU.
        return ops.relu(self._pool(self.bn(x, moments, training=training)))

    def _activated(
        self, x: Tensor, moments: Moments | None, training: bool | None
    ) -> Tensor:
        return ops.relu(self.bn(x, moments, training=training))

    def _pool(self, x: Tensor) -> Tensor:
        return max_pool(self._padded(x, 1), self.data_format, size=3)

    def _padded(self, x: Tensor, width: int) -> Tensor:
        """Return maps with zeros around; "same" would pad less before than after."""
        widths = [(width, width)] * len(x.shape)
        widths[0] = widths[self.axis] = (0, 0)
        return ops.pad(x, widths)

    def compute_output_shape(self, input_shape: tuple, **kwargs: Any) -> tuple:
        """Return a quarter of the height and width, and the channels."""
        return with_channels(_halved(_halved(input_shape)), self.axis, self.filters)

    def multiply_adds(self, input_shape: tuple) -> int:
        """Return the convolution's multiply-adds for one picture."""
        return self._pixels(_halved(input_shape)) * prod(self.conv.kernel.shape)

    def stored_values(self, input_shape: tuple, memory_efficient: bool | str) -> int:
        """Return how many values training stores for one picture, without the input.

        They are the pooled maps; unless it is "full" also the convolution's maps, and
        with False these once more, normalized.
        """
        halved = _halved(input_shape)
        pooled, maps = self._pixels(_halved(halved)), self._pixels(halved)
        times = {False: 2, True: 1, "full": 0}[memory_efficient]
        return (pooled + times * maps) * self.filters

    def passing_values(self, input_shape: tuple) -> int:
        """Return how many values one picture needs only while the gradient is taken.

        They are the convolution's maps and the normalized ones, or their gradients.
        """
        return 2 * self._pixels(_halved(input_shape)) * self.filters

    def _pixels(self, shape: tuple) -> int:
        return pixels_per_picture(shape, self.axis)

    def get_config(self) -> dict:
        """Return what `from_config` needs."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "memory_efficient": self.memory_efficient,
            "sync_batchnorm": self.sync_batchnorm,
            "data_format": self.data_format,
        }


@keras.saving.register_keras_serializable(package="keras_densenet")
class StemWithMaps(keras.layers.Layer):
    """A stem, which returns the maps before its pooling, too.

    These are stored for the gradient in every memory mode, since they are returned.

    Args:
        stem: The `Stem`, whose weights these are.

    Call arguments:
        - x: What the stem reads.
        - training: Whether to normalize with the batch's moments.

    Returns:
        What the stem returns, `(N, H / 4, W / 4, filters)`, and the maps before the
        pooling, `(N, H / 2, W / 2, filters)`.
    """

    def __init__(self, stem: Stem, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.stem = stem

    def build(self, input_shape: tuple) -> None:
        """Build the stem, unless it is built already."""
        if not self.stem.built:
            self.stem.build(input_shape)

    def call(self, x: Tensor, training: bool | None = None) -> tuple[Tensor, Tensor]:
        """Make the feature maps."""
        return self.stem.with_maps(x, training)

    def get_config(self) -> dict:
        """Return what `from_config` needs."""
        stem = keras.saving.serialize_keras_object(self.stem)
        return {**super().get_config(), "stem": stem}

    @classmethod
    def from_config(cls, config: dict) -> "StemWithMaps":
        """Make the layer, and its stem."""
        stem = keras.saving.deserialize_keras_object(config.pop("stem"))
        return cls(stem, **config)


def _halved(shape: tuple) -> tuple:
    """Return a batch's shape with half of each size, rounded up: what both steps do.

    It halves the channels as well, which no caller reads.

    >>> _halved((None, 224, 29, 4))
    (None, 112, 15, 2)
    """
    batch, *sizes = shape
    return (batch, *(size and (size + 1) // 2 for size in sizes))
