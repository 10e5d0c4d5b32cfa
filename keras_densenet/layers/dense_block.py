"""The dense block: every layer reads all the maps before it (paper, section 3)."""

from math import prod
from typing import Any

import keras
from keras import ops

from keras_densenet.layers.batch_norm import freeze_parts
from keras_densenet.layers.data_format import (
    channel_axis,
    checked_data_format,
    pixels_per_picture,
    with_channels,
)
from keras_densenet.layers.dense_layer import DenseLayer
from keras_densenet.layers.recomputation import checked_mode, recomputed_block
from keras_densenet.layers.shared_moments import (
    Moments,
    batch_moments,
    concatenate_moments,
)
from keras_densenet.tensor import Tensor


@keras.saving.register_keras_serializable(package="keras_densenet")
class DenseBlock(keras.layers.Layer):
    """L dense layers, each reading the concatenation of all the maps before it.

    With k0 maps at the input, layer l reads k0 + (l - 1) k maps and adds k; the block
    returns them all, k0 + L k. The batch's moments of a map are computed once, when the
    map is made, and serve every layer that reads it.

    Args:
        num_layers: L, the number of dense layers, >= 1.
        growth_rate: k, the number of feature maps that each layer adds, >= 1.
        bottleneck: Whether each layer begins with a 1x1 convolution (B).
        bn_size: Maps that the 1x1 convolution makes, divided by k, >= 1; the paper's 4.
        dropout_rate: Share of values dropped after each convolution, in [0, 1).
        dilation_rate: How far apart the pixels are that the 3x3 convolutions read, in
            each direction, >= 1.
        kernel_initializer: Name of Keras's initializer of the convolutions, such as
            "he_uniform"; None for the paper's, He-normal by fan-out.
        memory_efficient: What training computes again instead of storing it, with the
            same result: False for nothing, True for concatenation, normalization and
            ReLU, `"full"` for whole layers, of which only the k new maps are stored.
        sync_batchnorm: Whether batch norms normalize over the batches of all replicas
            of a TensorFlow strategy, instead of over each replica's share.
        data_format: `"channels_last"` or `"channels_first"`; None for Keras's
            configured format.

    Call arguments:
        - x: Feature maps of shape `(N, H, W, k0)`; `(N, T, k0)` of signals, and
            `(N, D, H, W, k0)` of volumes.
        - training: Whether to normalize with the batch's moments, and to apply dropout.

    Returns:
        Feature maps of shape `(N, H, W, k0 + L k)`: the input's, then each layer's.

    Examples:
        >>> DenseBlock(num_layers=6, growth_rate=32)(keras.Input((56, 56, 64))).shape
        (None, 56, 56, 256)
    """

    def __init__(
        self,
        num_layers: int,
        growth_rate: int,
        *,
        bottleneck: bool = True,
        bn_size: int = 4,
        dropout_rate: float = 0.0,
        dilation_rate: int = 1,
        kernel_initializer: str | None = None,
        memory_efficient: bool | str = False,
        sync_batchnorm: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        # Gradients must be summed in the weights' precision: no automatic casts.
        super().__init__(autocast=False, **kwargs)
        if num_layers < 1:
            raise ValueError(
                "num_layers, the number of dense layers in the block, must be 1 or "
                f"more. Received: num_layers={num_layers}."
            )
        self.num_layers = num_layers
        self.growth_rate = growth_rate
        self.bottleneck = bottleneck
        self.bn_size = bn_size
        self.dropout_rate = dropout_rate
        self.dilation_rate = dilation_rate
        self.kernel_initializer = kernel_initializer
        self.memory_efficient = checked_mode(memory_efficient)
        self.sync_batchnorm = sync_batchnorm
        self.data_format = checked_data_format(data_format)
        self.axis = channel_axis(self.data_format)
        self.dense_layers = [self._dense_layer(i + 1) for i in range(num_layers)]

    def _dense_layer(self, number: int) -> DenseLayer:
        return DenseLayer(
            self.growth_rate,
            self.bottleneck,
            bn_size=self.bn_size,
            dropout_rate=self.dropout_rate,
            dilation_rate=self.dilation_rate,
            kernel_initializer=self.kernel_initializer,
            sync_batchnorm=self.sync_batchnorm,
            data_format=self.data_format,
            dtype=self.dtype_policy,
            name=f"layer{number}",
        )

    def build(self, input_shape: tuple) -> None:
        """Build the layers, layer l on k0 + (l - 1) k channels."""
        channels = input_shape[self.axis]
        for i, layer in enumerate(self.dense_layers):
            layer.build(
                with_channels(input_shape, self.axis, channels + i * self.growth_rate)
            )
        freeze_parts(self)

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        """Let each layer add its k maps to all the maps before it."""
        x = ops.cast(x, self.compute_dtype)
        if training and self.memory_efficient:
            return recomputed_block(
                self.dense_layers,
                x,
                self.memory_efficient,
                self.axis,
                self.sync_batchnorm,
            )
        moments = self._moments(x) if training else None  # always those of x
        for layer in self.dense_layers:
            new = layer(x, moments, training=training)  # (N, H, W, k)
            x = ops.concatenate([x, new], axis=self.axis)  # (N, H, W, C + k)
            if moments is not None:
                moments = concatenate_moments(moments, self._moments(new))
        return x

    def _moments(self, x: Tensor) -> Moments:
        return batch_moments(x, self.axis, self.sync_batchnorm)

    def compute_output_shape(self, input_shape: tuple, **kwargs: Any) -> tuple:
        """Return the input's shape with L k more channels."""
        channels = input_shape[self.axis] + self.num_layers * self.growth_rate
        return with_channels(input_shape, self.axis, channels)

    def multiply_adds(self, input_shape: tuple) -> int:
        """Return the multiply-adds of all convolutions for one picture."""
        kernels = [w for w in self.weights if w.name == "kernel"]
        return pixels_per_picture(input_shape, self.axis) * sum(
            prod(w.shape) for w in kernels
        )

    def stored_values(self, input_shape: tuple, memory_efficient: bool | str) -> int:
        """Return how many values training stores for one picture, without the input.

        With False each layer stores the maps that it reads and its bottleneck's maps
        twice, as they are and normalized, and its new maps; with True its bottleneck's
        and its new maps; with "full" only its new maps.
        """
        k, bottleneck = self.growth_rate, self._bottleneck_maps()
        reads = [input_shape[self.axis] + i * k for i in range(self.num_layers)]
        maps = {
            False: sum(2 * read + 2 * bottleneck + k for read in reads),
            True: self.num_layers * (bottleneck + k),
            "full": self.num_layers * k,
        }
        return maps[memory_efficient] * pixels_per_picture(input_shape, self.axis)

    def passing_values(self, input_shape: tuple) -> int:
        """Return how many values one picture needs only while the gradient is taken.

        They are the gradient of all maps and, of the most maps that a layer normalizes
        (all maps, or its bottleneck's), these maps as they are read, as they are
        normalized, and their gradient.
        """
        maps = self.compute_output_shape(input_shape)[self.axis]
        widest = max(maps, self._bottleneck_maps())
        return (maps + 3 * widest) * pixels_per_picture(input_shape, self.axis)

    def _bottleneck_maps(self) -> int:
        """Return how many maps each layer's bottleneck makes, 0 without one."""
        return self.bn_size * self.growth_rate if self.bottleneck else 0

    def get_config(self) -> dict:
        """Return what `from_config` needs."""
        return {
            **super().get_config(),
            "num_layers": self.num_layers,
            "growth_rate": self.growth_rate,
            "bottleneck": self.bottleneck,
            "bn_size": self.bn_size,
            "dropout_rate": self.dropout_rate,
            "dilation_rate": self.dilation_rate,
            "kernel_initializer": self.kernel_initializer,
            "memory_efficient": self.memory_efficient,
            "sync_batchnorm": self.sync_batchnorm,
            "data_format": self.data_format,
        }
