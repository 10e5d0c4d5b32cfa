"""Pooling of signals, pictures and volumes, in every precision."""

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


def max_pool(x: Tensor, data_format: str) -> Tensor:
    """Return the largest of 3 pixels along each axis, 2 apart, without padding."""
    if _lacks_kernel(x):
        return tensorflow_kernels.max_pool_volumes(x, 3)
    return ops.max_pool(x, 3, 2, data_format=data_format)


def _lacks_kernel(x: Tensor) -> bool:
    """Return whether TensorFlow cannot pool such volumes: in float64, or CPUs in 16."""
    if keras.backend.backend() != "tensorflow" or len(x.shape) != 5:
        return False
    return x.dtype == "float64" or (
        x.dtype == "float16" and not tensorflow_kernels.has_gpu()
    )
