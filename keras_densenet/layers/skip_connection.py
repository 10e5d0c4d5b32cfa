"""What a network with a way up has besides: parts of maps, and maps from the way down.

Jegou et al. 2017, "The One Hundred Layers Tiramisu" (arXiv 1611.09326), section 3.
"""

from typing import Any

import keras
from keras import ops

from keras_densenet.layers.data_format import (
    channel_axis,
    checked_data_format,
    with_channels,
)
from keras_densenet.tensor import Tensor


@keras.saving.register_keras_serializable(package="keras_densenet")
class ChannelSlice(keras.layers.Layer):
    """Some of the maps, by their numbers: those from `begin` on, before `end`.

    A dense block returns the maps that it reads and those of each of its layers, in
    this order. So what is inside a block is a slice of what it returns.

    Args:
        begin: Number of the first map, from 0.
        end: Number of the first map that is left out; None for none.
        data_format: `"channels_last"` or `"channels_first"`; None for Keras's
            configured format.

    Examples:
        >>> ChannelSlice(24, 36)(keras.Input((8, 8, 60))).shape
        (None, 8, 8, 12)
    """

    def __init__(
        self,
        begin: int,
        end: int | None = None,
        *,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.begin = begin
        self.end = end
        self.data_format = checked_data_format(data_format)
        self.axis = channel_axis(self.data_format)

    def call(self, x: Tensor) -> Tensor:
        """Return the maps of these numbers."""
        maps = slice(self.begin, self.end)
        return x[:, maps] if self.axis == 1 else x[..., maps]

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the input's shape with fewer channels."""
        maps = len(range(input_shape[self.axis])[self.begin : self.end])
        return with_channels(input_shape, self.axis, maps)

    def get_config(self) -> dict:
        """Return what `from_config` needs."""
        return {
            **super().get_config(),
            "begin": self.begin,
            "end": self.end,
            "data_format": self.data_format,
        }


@keras.saving.register_keras_serializable(package="keras_densenet")
class SkipConnection(keras.layers.Layer):
    """The concatenation of upsampled maps, and of maps from the way down.

    A pooling halves odd sizes downwards, so that upsampled maps can be a pixel larger
    than those before the pooling were: they lose what they have more, at the end of
    each axis, as in the authors' code.

    Args:
        data_format: `"channels_last"` or `"channels_first"`; None for Keras's
            configured format.

    Call arguments:
        - inputs: The upsampled maps `(N, H', W', C)`, and those of the way down,
            `(N, H, W, C')`, with H <= H' and W <= W'; of signals and volumes they have
            one axis less, or more.

    Returns:
        Feature maps of shape `(N, H, W, C + C')`.

    Examples:
        >>> SkipConnection()([keras.Input((9, 9, 8)), keras.Input((8, 8, 4))]).shape
        (None, 8, 8, 12)
    """

    def __init__(self, *, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = checked_data_format(data_format)
        self.axis = channel_axis(self.data_format)

    def call(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """Cut the upsampled maps to the size of the others, and concatenate them."""
        upsampled, maps = inputs
        sizes = zip(maps.shape, ops.shape(maps), strict=True)
        cut = [slice(known or size) for known, size in sizes]
        cut[0] = cut[self.axis] = slice(None)
        return ops.concatenate([upsampled[tuple(cut)], maps], axis=self.axis)

    def compute_output_shape(self, input_shape: list[tuple]) -> tuple:
        """Return the size of the maps of the way down, and all channels."""
        upsampled, maps = input_shape
        channels = upsampled[self.axis] + maps[self.axis]
        return with_channels(tuple(maps), self.axis, channels)

    def get_config(self) -> dict:
        """Return what `from_config` needs."""
        return {**super().get_config(), "data_format": self.data_format}
