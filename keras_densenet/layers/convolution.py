"""The paper's convolutions: no bias, He-normal weights, 1x1 as a matrix product."""

from numbers import Integral
from typing import Any

import keras
from keras import ops

from keras_densenet.tensor import Tensor

if keras.backend.backend() == "tensorflow":
    from keras_densenet.layers import tensorflow_kernels

FEW_MAPS = 16  # the lanes of the convolution kernels' vectors: fewer maps waste some


class _Pointwise(keras.layers.Layer):
    """A 1x1 convolution, computed as the product of matrices that it is.

    It has the arguments and the weights of Keras's convolution. The product and the
    two products of its gradient are each one call of the fastest kernel that there is;
    TensorFlow's convolution takes twice as long for the gradient by the weights.
    """

    def call(self, inputs: Tensor) -> Tensor:
        """Mix the channels of each pixel: `(N, H, W, C)` to `(N, H, W, filters)`."""
        if self.data_format == "channels_first" or not _is_bare(self):
            return super().call(inputs)
        kernel = ops.reshape(self.kernel, (-1, self.filters))  # (C, filters)
        pixels = ops.reshape(inputs, (-1, kernel.shape[0]))  # (N H W, C)
        # A known size saves asking the tensor for it at each step.
        size = inputs.shape[1:-1]
        batch_and_size = (-1, *size) if all(size) else ops.shape(inputs)[:-1]
        return ops.reshape(pixels @ kernel, (*batch_and_size, self.filters))


@keras.saving.register_keras_serializable(package="keras_densenet")
class PointwiseConvolution1D(_Pointwise, keras.layers.Conv1D):
    """That of signals: `keras.layers.Conv1D` of size 1, as a product of matrices."""


@keras.saving.register_keras_serializable(package="keras_densenet")
class PointwiseConvolution(_Pointwise, keras.layers.Conv2D):
    """That of pictures: `keras.layers.Conv2D` of size 1, as a product of matrices."""


@keras.saving.register_keras_serializable(package="keras_densenet")
class PointwiseConvolution3D(_Pointwise, keras.layers.Conv3D):
    """That of volumes: `keras.layers.Conv3D` of size 1, as a product of matrices."""


@keras.saving.register_keras_serializable(package="keras_densenet")
class NarrowConvolution(keras.layers.Conv2D):
    """A convolution to few maps, with a gradient that is faster on TensorFlow.

    It has the arguments and the weights of `keras.layers.Conv2D`.
    """

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Convolve: `(N, H, W, C)` to `(N, H, W, filters)`."""
        if not training or not _is_bare(self) or self.padding != "same":
            return super().call(inputs)
        return tensorflow_kernels.narrow_convolution(inputs, self.kernel)


def of_rank(kind: str, rank: int) -> type[keras.layers.Layer]:
    """Return Keras's layer of a kind for a rank, such as `MaxPooling3D`."""
    return getattr(keras.layers, f"{kind}{rank}D")


# By the rank of a picture: signals, pictures, volumes.
CONVOLUTIONS = {rank: of_rank("Conv", rank) for rank in (1, 2, 3)}
POINTWISE = {
    1: PointwiseConvolution1D,
    2: PointwiseConvolution,
    3: PointwiseConvolution3D,
}


def _is_bare(layer: keras.layers.Layer) -> bool:
    """Return whether it is odd-sized, without stride, bias and activation."""
    sizes = {*layer.strides, *layer.dilation_rate, layer.groups}
    is_odd = all(size % 2 for size in layer.kernel_size)
    is_linear = layer.activation is keras.activations.linear
    return sizes == {1} and is_odd and is_linear and not layer.use_bias


def checked_initializer(name: str | None) -> str | None:
    """Return the name of one of Keras's initializers, or None, as it is.

    Raises:
        ValueError: There is no such initializer. One that is made already would draw
            the same weights for each layer.
    """
    if name is not None and not isinstance(name, str):
        raise ValueError(
            "kernel_initializer is the name of one of Keras's initializers, such as "
            f"'he_uniform'. Received: kernel_initializer={name!r}."
        )
    keras.initializers.get(name)
    return name


def check_dilation_rate(dilation_rate: int) -> None:
    """Raise a `ValueError` for a distance of pixels below 1."""
    if not isinstance(dilation_rate, Integral) or dilation_rate < 1:
        raise ValueError(
            "dilation_rate, how far apart the pixels are that are read, must be a "
            f"whole number of 1 or more. Received: dilation_rate={dilation_rate!r}."
        )


def he_convolution(
    filters: int,
    kernel_size: int,
    padding: str = "same",
    rank: int = 2,
    kernel_initializer: str | None = None,
    **kwargs: Any,
) -> keras.layers.Layer:
    """Make a convolution without bias, initialized as in the paper (section 4.2).

    Weights are drawn from N(0, 2 / (kernel_size^rank * filters)), He et al.'s (2015)
    variance by fan-out, as in the authors' code.

    Args:
        filters: Number of maps that it makes.
        kernel_size: Its size in each direction.
        padding: "same" or "valid".
        rank: 1 for signals, 2 for pictures, 3 for volumes.
        kernel_initializer: Name of another initializer; None for that one.
        **kwargs: Other arguments of Keras's convolution.

    Raises:
        ValueError: There are no convolutions of such a rank.
    """
    if rank not in CONVOLUTIONS:
        raise ValueError(
            "Feature maps are (N, T, C) of signals, (N, H, W, C) of pictures or "
            f"(N, D, H, W, C) of volumes. Received: {rank} axes beside N and C."
        )
    convolution = CONVOLUTIONS[rank]
    if kernel_size == 1:
        convolution = POINTWISE[rank]
    elif rank == 2 and keras.backend.backend() == "tensorflow" and filters < FEW_MAPS:
        convolution = NarrowConvolution
    by_fan_out = keras.initializers.VarianceScaling(
        scale=2.0, mode="fan_out", distribution="untruncated_normal"
    )
    return convolution(
        filters,
        kernel_size,
        padding=padding,
        use_bias=False,
        kernel_initializer=kernel_initializer or by_fan_out,
        **kwargs,
    )
