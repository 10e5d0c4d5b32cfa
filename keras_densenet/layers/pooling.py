"""Pooling of signals, pictures and volumes, in every precision."""

from typing import Any

import keras
from keras import ops

from keras_densenet.tensor import Tensor

if keras.backend.backend() == "tensorflow":
    from keras_densenet.layers import tensorflow_kernels


def average_pool(x: Tensor, data_format: str) -> Tensor:
    """Average each two pixels along each axis: `(N, H, W, C)` to `(N, H/2, W/2, C)`."""
    if _lacks_kernel(x):
        return tensorflow_kernels.average_pool_volumes(x, 2)
    return ops.average_pool(x, 2, 2, data_format=data_format)


@keras.saving.register_keras_serializable(package="keras_densenet")
class MaxPoolingOfVolumes(keras.layers.MaxPooling3D):
    """`keras.layers.MaxPooling3D` with strides of 2, in every precision."""

    def call(self, inputs: Tensor) -> Tensor:
        """Return the largest value of each window."""
        if _lacks_kernel(inputs):
            return tensorflow_kernels.max_pool_volumes(inputs, self.pool_size[0])
        return super().call(inputs)


def max_pooling(rank: int, **kwargs: Any) -> keras.layers.Layer:
    """Make the layer that takes the largest of 3 pixels along each axis, 2 apart.

    Args:
        rank: 1 for signals, 2 for pictures, 3 for volumes.
        **kwargs: Other arguments of Keras's layer.
    """
    layers = {1: keras.layers.MaxPooling1D, 2: keras.layers.MaxPooling2D}
    return layers.get(rank, MaxPoolingOfVolumes)(3, strides=2, **kwargs)


def _lacks_kernel(x: Tensor) -> bool:
    """Return whether TensorFlow cannot pool such volumes: in float64, or CPUs in 16."""
    if keras.backend.backend() != "tensorflow" or len(x.shape) != 5:
        return False
    return x.dtype == "float64" or (
        x.dtype == "float16" and not tensorflow_kernels.has_gpu()
    )
