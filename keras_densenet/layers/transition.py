"""The transition between dense blocks: fewer maps, half the size (section 3)."""

from math import prod
from typing import Any, Literal

import keras
from keras import ops

from keras_densenet.layers.batch_norm import BatchNorm, freeze_parts
from keras_densenet.layers.convolution import (
    check_dilation_rate,
    checked_initializer,
    he_convolution,
)
from keras_densenet.layers.data_format import (
    channel_axis,
    checked_data_format,
    pixels_per_picture,
    with_channels,
)
from keras_densenet.layers.pooling import average_neighbors, average_pool, max_pool
from keras_densenet.layers.recomputation import checked_mode, recomputed_stage
from keras_densenet.layers.shared_moments import Moments
from keras_densenet.tensor import Tensor


def kept_maps(compression: float, maps: int) -> int:
    """Return floor(theta m), how many of its maps a transition keeps.

    0.29 * 100 is 28.999999999999996 in binary, and 29 is meant:

    Examples:
        >>> kept_maps(0.29, 100), kept_maps(0.5, 57)
        (29, 28)
    """
    return int(compression * maps + 1e-6)


def check_compression(compression: float) -> None:
    """Raise a `ValueError` for a compression theta outside (0, 1]."""
    if not 0 < compression <= 1:
        raise ValueError(
            "compression, the share of feature maps that a transition keeps, must be "
            "above 0 and at most 1; DenseNet-C and -BC use 0.5, 1 keeps all. Received: "
            f"compression={compression}."
        )


def _check_pooling(pooling: str, strides: int, dilation_rate: int) -> None:
    if pooling not in ("avg", "max"):
        raise ValueError(
            "pooling must be 'avg', as in DenseNet, or 'max', as in FC-DenseNet. "
            f"Received: pooling={pooling!r}."
        )
    if strides not in (1, 2):
        raise ValueError(
            "strides must be 2, which halves the maps, or 1, which keeps their size. "
            f"Received: strides={strides!r}."
        )
    if strides == 1 and pooling == "max":
        raise ValueError(
            "pooling='max' always halves the maps, so that strides must be 2: leave "
            "strides out, or use pooling='avg'. Received: pooling='max', strides=1."
        )
    if strides == 2 and dilation_rate != 1:
        raise ValueError(
            "A transition is dilated only where it keeps the size of the maps: give "
            "strides=1, or leave dilation_rate out. Received: strides=2, "
            f"dilation_rate={dilation_rate}."
        )


@keras.saving.register_keras_serializable(package="keras_densenet")
class Transition(keras.layers.Layer):
    """BN-ReLU-1x1 convolution, then 2x2 average pooling.

    Of signals it pools 2 steps, of volumes 2x2x2 voxels.

    With `strides=1` the maps keep their size, and what follows can be dilated instead:
    every second pixel is then what the transition would make with strides 2, as far as
    the size is a multiple of twice the dilation rate.

    Args:
        compression: theta in (0, 1]; m maps become floor(theta m).
        dropout_rate: Share of values dropped after the convolution, in [0, 1).
        pooling: "avg", or "max" for FC-DenseNet's transition down.
        strides: 2, or 1 for maps of the size of before.
        dilation_rate: With strides 1, how far apart the pixels are that are pooled.
        kernel_initializer: Name of Keras's initializer of the convolutions, such as
            "he_uniform"; None for the paper's, He-normal by fan-out.
        memory_efficient: Whether training computes the transition again instead of
            storing it, with the same result; True and `"full"` are the same here.
        sync_batchnorm: Whether batch norms normalize over the batches of all replicas
            of a TensorFlow strategy, instead of over each replica's share.
        data_format: `"channels_last"` or `"channels_first"`; None for Keras's
            configured format.

    Call arguments:
        - x: Feature maps of shape `(N, H, W, m)`; `(N, T, m)` of signals, and
            `(N, D, H, W, m)` of volumes.
        - training: Whether to normalize with the batch's moments, and to apply dropout.

    Returns:
        Feature maps of shape `(N, H // 2, W // 2, floor(theta m))`, with strides 1
        `(N, H, W, floor(theta m))`.

    Examples:
        >>> Transition(compression=0.5)(keras.Input((56, 56, 256))).shape
        (None, 28, 28, 128)
    """

    def __init__(
        self,
        compression: float = 0.5,
        *,
        dropout_rate: float = 0.0,
        pooling: Literal["avg", "max"] = "avg",
        strides: int = 2,
        dilation_rate: int = 1,
        kernel_initializer: str | None = None,
        memory_efficient: bool | str = False,
        sync_batchnorm: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        # Gradients must be summed in the weights' precision: no automatic casts.
        super().__init__(autocast=False, **kwargs)
        check_compression(compression)
        _check_pooling(pooling, strides, dilation_rate)
        check_dilation_rate(dilation_rate)
        self.compression = compression
        self.dropout_rate = dropout_rate
        self.pooling = pooling
        self.strides = strides
        self.dilation_rate = dilation_rate
        self.kernel_initializer = checked_initializer(kernel_initializer)
        self.memory_efficient = checked_mode(memory_efficient)
        self.sync_batchnorm = sync_batchnorm
        self.data_format = checked_data_format(data_format)
        self.axis = channel_axis(self.data_format)
        self.bn = BatchNorm(
            synchronized=sync_batchnorm,
            data_format=self.data_format,
            dtype=self.dtype_policy,
            name="bn",
        )
        self.dropout = keras.layers.Dropout(dropout_rate, dtype=self.dtype_policy)

    def build(self, input_shape: tuple) -> None:
        """Create the weights, and the convolution, which needs to know m."""
        self.bn.build(input_shape)
        self.conv = he_convolution(
            self._kept(input_shape[self.axis]),
            1,
            rank=len(input_shape) - 2,
            kernel_initializer=self.kernel_initializer,
            data_format=self.data_format,
            dtype=self.dtype_policy,
            name="conv",
        )
        self.conv.build(input_shape)
        freeze_parts(self)

    def _kept(self, maps: int) -> int:
        kept = kept_maps(self.compression, maps)
        if kept < 1:
            raise ValueError(
                f"compression={self.compression} leaves none of {maps} feature maps. "
                f"Use {1 / maps:.3g} or more."
            )
        return kept

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        """Mix m maps into floor(theta m), and pool them."""
        x = ops.cast(x, self.compute_dtype)
        if training and self.memory_efficient:
            return recomputed_stage(
                self, self._mixtures, x, self.axis, self.sync_batchnorm
            )
        return self._mixtures(x, None, training)

    def _mixtures(
        self, x: Tensor, moments: Moments | None, training: bool | None
    ) -> Tensor:
        x = ops.relu(self.bn(x, moments, training=training))
        if self.pooling == "max" or (training and self.dropout_rate):
            x = self.dropout(self.conv(x), training=training)
            return self.pool(x)  # of (N, H, W, floor(theta m))
        # A mean of mixtures is a mixture of means, and pooling first leaves a quarter
        # of the pixels to mix.
        return self.conv(self.pool(x))

    def pool(self, x: Tensor) -> Tensor:
        """Pool maps, as the transition does before or after its convolution."""
        if self.strides == 1:
            return average_neighbors(x, self.data_format, self.dilation_rate)
        if self.pooling == "max":
            return max_pool(x, self.data_format, size=2)
        return average_pool(x, self.data_format)

    def compute_output_shape(self, input_shape: tuple, **kwargs: Any) -> tuple:
        """Return the height and width divided by the strides, and the channels."""
        batch, *sizes = input_shape
        pooled = (batch, *(size and size // self.strides for size in sizes))
        return with_channels(pooled, self.axis, self._kept(input_shape[self.axis]))

    def multiply_adds(self, input_shape: tuple) -> int:
        """Return the convolution's multiply-adds for one picture, as in the paper.

        There it comes before the pooling; after it, as here, they are a quarter (of
        signals a half, of volumes an eighth).
        """
        return pixels_per_picture(input_shape, self.axis) * prod(self.conv.kernel.shape)

    def stored_values(self, input_shape: tuple, memory_efficient: bool | str) -> int:
        """Return how many values training stores for one picture.

        They are the pooled mixtures; with False also the normalized maps, before and
        after the pooling.
        """
        maps = input_shape[self.axis]
        output_shape = self.compute_output_shape(input_shape)
        kept = prod(output_shape[1:])
        if memory_efficient:
            return kept
        pixels, pooled = (
            pixels_per_picture(shape, self.axis)
            for shape in (input_shape, output_shape)
        )
        return kept + maps * (pixels + pooled)

    def passing_values(self, input_shape: tuple) -> int:
        """Return how many values one picture needs only while the gradient is taken.

        They are the normalized maps, their gradient, and the gradient of the input.
        """
        return 3 * input_shape[self.axis] * pixels_per_picture(input_shape, self.axis)

    def get_config(self) -> dict:
        """Return what `from_config` needs."""
        return {
            **super().get_config(),
            "compression": self.compression,
            "dropout_rate": self.dropout_rate,
            "pooling": self.pooling,
            "strides": self.strides,
            "dilation_rate": self.dilation_rate,
            "kernel_initializer": self.kernel_initializer,
            "memory_efficient": self.memory_efficient,
            "sync_batchnorm": self.sync_batchnorm,
            "data_format": self.data_format,
        }
