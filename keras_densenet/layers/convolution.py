"""The paper's convolutions: no bias, He-normal weights, 1x1 as a matrix product."""

from typing import Any

import keras
from keras import ops

from keras_densenet.tensor import Tensor

if keras.backend.backend() == "tensorflow":
    from keras_densenet.layers import tensorflow_kernels

FEW_MAPS = 16  # the lanes of the convolution kernels' vectors: fewer maps waste some


@keras.saving.register_keras_serializable(package="keras_densenet")
class PointwiseConvolution(keras.layers.Conv2D):
    """A 1x1 convolution, computed as the product of matrices that it is.

    It has the arguments and the weights of `keras.layers.Conv2D`. The product and the
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
        size = inputs.shape[1:3]
        batch_and_size = (-1, *size) if all(size) else ops.shape(inputs)[:3]
        return ops.reshape(pixels @ kernel, (*batch_and_size, self.filters))


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


def _is_bare(layer: keras.layers.Conv2D) -> bool:
    """Return whether it is odd-sized, without stride, bias and activation."""
    sizes = {*layer.strides, *layer.dilation_rate, layer.groups}
    is_odd = all(size % 2 for size in layer.kernel_size)
    is_linear = layer.activation is keras.activations.linear
    return sizes == {1} and is_odd and is_linear and not layer.use_bias


def he_convolution(
    filters: int, kernel_size: int, padding: str = "same", **kwargs: Any
) -> keras.layers.Conv2D:
    """Make a convolution without bias, initialized as in the paper (section 4.2).

    Weights are drawn from N(0, 2 / (kernel_size^2 * filters)), He et al.'s (2015)
    variance by fan-out, as in the authors' code.
    """
    convolution = keras.layers.Conv2D
    if kernel_size == 1:
        convolution = PointwiseConvolution
    elif keras.backend.backend() == "tensorflow" and filters < FEW_MAPS:
        convolution = NarrowConvolution
    initializer = keras.initializers.VarianceScaling(
        scale=2.0, mode="fan_out", distribution="untruncated_normal"
    )
    return convolution(
        filters,
        kernel_size,
        padding=padding,
        use_bias=False,
        kernel_initializer=initializer,
        **kwargs,
    )
