"""The dense layer H_l: what a dense block repeats (paper, section 3)."""

from collections.abc import Callable
from numbers import Integral
from typing import Any, TypeAlias

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
    with_channels,
)
from keras_densenet.layers.shared_moments import Moments
from keras_densenet.tensor import Tensor

# A part of a layer: from maps, their moments, and `training`, to new maps.
Stage: TypeAlias = Callable[[Tensor, Moments | None, bool | None], Tensor]


def check_growth_rate(growth_rate: int) -> None:
    """Raise a `ValueError` for a growth rate k below 1."""
    if not isinstance(growth_rate, Integral) or growth_rate < 1:
        raise ValueError(
            "growth_rate, the number of feature maps that a dense layer adds, must be "
            f"a whole number of 1 or more. Received: growth_rate={growth_rate}."
        )


def check_bn_size(bn_size: int, bottleneck: bool) -> None:
    """Raise a `ValueError` for a width that no bottleneck has, or without one."""
    if not isinstance(bn_size, Integral) or bn_size < 1:
        raise ValueError(
            "bn_size must be a whole number of 1 or more: a bottleneck makes bn_size * "
            f"growth_rate feature maps. Received: bn_size={bn_size}."
        )
    if bn_size != 4 and not bottleneck:
        raise ValueError(
            "bn_size is the width of bottlenecks, and there are none. Say "
            f"bottleneck=True, or leave bn_size out. Received: bn_size={bn_size}, "
            "bottleneck=False."
        )


@keras.saving.register_keras_serializable(package="keras_densenet")
class DenseLayer(keras.layers.Layer):
    """BN-ReLU-1x1 convolution (bn_size k maps), BN-ReLU-3x3 convolution (k maps).

    Without the bottleneck (DenseNet without B) it is BN-ReLU-3x3 convolution alone.
    Dropout, if any, follows each convolution.

    Args:
        growth_rate: k, the number of new feature maps, >= 1.
        bottleneck: Whether the 1x1 convolution comes first.
        bn_size: Maps that the 1x1 convolution makes, divided by k, >= 1; the paper's 4.
        dropout_rate: Share of values dropped in training, in [0, 1).
        dilation_rate: How far apart the pixels are that the 3x3 convolution reads, in
            each direction, >= 1.
        kernel_initializer: Name of Keras's initializer of the convolutions, such as
            "he_uniform"; None for the paper's, He-normal by fan-out.
        sync_batchnorm: Whether batch norms normalize over the batches of all replicas
            of a TensorFlow strategy, instead of over each replica's share.
        data_format: `"channels_last"` or `"channels_first"`; None for Keras's
            configured format.

    Call arguments:
        - x: The concatenated feature maps of all earlier layers, `(N, H, W, C)`;
            `(N, T, C)` of signals, and `(N, D, H, W, C)` of volumes.
        - moments: The batch's `Moments` of `x`, used in training; computed if None.
        - training: Whether to normalize with the batch's moments, and to apply dropout.

    Returns:
        The k new feature maps, `(N, H, W, k)`; the block concatenates them.

    Examples:
        >>> DenseLayer(growth_rate=12)(keras.Input((8, 8, 24))).shape
        (None, 8, 8, 12)
    """

    def __init__(
        self,
        growth_rate: int,
        bottleneck: bool = True,
        *,
        bn_size: int = 4,
        dropout_rate: float = 0.0,
        dilation_rate: int = 1,
        kernel_initializer: str | None = None,
        sync_batchnorm: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        # Moments must stay in float32 where features are 16-bit: no automatic casts.
        super().__init__(autocast=False, **kwargs)
        check_growth_rate(growth_rate)
        check_bn_size(bn_size, bottleneck)
        check_dilation_rate(dilation_rate)
        self.growth_rate = growth_rate
        self.bottleneck = bottleneck
        self.bn_size = bn_size
        self.dropout_rate = dropout_rate
        self.dilation_rate = dilation_rate
        self.kernel_initializer = checked_initializer(kernel_initializer)
        self.sync_batchnorm = sync_batchnorm
        self.data_format = checked_data_format(data_format)
        self.axis = channel_axis(self.data_format)

    def _make_sublayers(self, rank: int) -> None:
        shared: dict[str, Any] = {
            "data_format": self.data_format,
            "dtype": self.dtype_policy,
        }
        bn = {"synchronized": self.sync_batchnorm, **shared}
        drawn = {"kernel_initializer": self.kernel_initializer, "rank": rank, **shared}
        if self.bottleneck:
            self.bottleneck_bn = BatchNorm(name="bottleneck_bn", **bn)
            wide = self.bn_size * self.growth_rate
            self.bottleneck_conv = he_convolution(
                wide, 1, name="bottleneck_conv", **drawn
            )
        self.bn = BatchNorm(name="bn", **bn)
        self.conv = he_convolution(
            self.growth_rate,
            3,
            dilation_rate=self.dilation_rate,
            name="conv",
            **drawn,
        )
        self.dropout = keras.layers.Dropout(self.dropout_rate, dtype=self.dtype_policy)

    def build(self, input_shape: tuple) -> None:
        """Create the weights, in the order in which they are used."""
        self._make_sublayers(rank=len(input_shape) - 2)
        shape = list(input_shape)
        if self.bottleneck:
            self.bottleneck_bn.build(tuple(shape))
            self.bottleneck_conv.build(tuple(shape))
            shape[self.axis] = self.bottleneck_conv.filters
        self.bn.build(tuple(shape))
        self.conv.build(tuple(shape))
        freeze_parts(self)

    def call(
        self, x: Tensor, moments: Moments | None = None, training: bool | None = None
    ) -> Tensor:
        """Make k new feature maps from all the maps before."""
        for stage in self.stages:
            x, moments = stage(x, moments, training), None  # the next reads new maps
        return x

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The layer's parts, each called on `(x, moments, training)`."""
        return (self.bottleneck_maps, self.new_maps)[not self.bottleneck :]

    def bottleneck_maps(
        self, x: Tensor, moments: Moments | None = None, training: bool | None = None
    ) -> Tensor:
        """Make bn_size k maps from all the maps before: the bottleneck, B."""
        x = ops.relu(self.bottleneck_bn(x, moments, training=training))
        return self.bottleneck_conv(x)  # (N, H, W, bn_size k)

    def new_maps(
        self, x: Tensor, moments: Moments | None = None, training: bool | None = None
    ) -> Tensor:
        """Make k new maps, from the bottleneck's or from all the maps before."""
        if self.bottleneck:
            x = self.dropout(x, training=training)
        x = ops.relu(self.bn(x, moments, training=training))
        x = self.conv(x)  # (N, H, W, k)
        return self.dropout(x, training=training)

    def compute_output_shape(self, input_shape: tuple, **kwargs: Any) -> tuple:
        """Return the input's shape with k channels."""
        return with_channels(input_shape, self.axis, self.growth_rate)

    def get_config(self) -> dict:
        """Return what `from_config` needs."""
        return {
            **super().get_config(),
            "growth_rate": self.growth_rate,
            "bottleneck": self.bottleneck,
            "bn_size": self.bn_size,
            "dropout_rate": self.dropout_rate,
            "dilation_rate": self.dilation_rate,
            "kernel_initializer": self.kernel_initializer,
            "sync_batchnorm": self.sync_batchnorm,
            "data_format": self.data_format,
        }
