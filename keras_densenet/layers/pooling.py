"""Pooling of signals, pictures and volumes, in every precision."""

import keras
from keras import ops

from keras_densenet.layers.data_format import channel_axis
from keras_densenet.tensor import Tensor

if keras.backend.backend() == "tensorflow":
    from keras_densenet.layers import tensorflow_kernels


def average_pool(x: Tensor, data_format: str) -> Tensor:
    """Average each two pixels along each axis: `(N, H, W, C)` to `(N, H/2, W/2, C)`."""
    if _lacks_kernel(x):
        return tensorflow_kernels.average_pool_volumes(x, 2)
    return ops.average_pool(x, 2, 2, data_format=data_format)


def average_neighbors(x: Tensor, data_format: str, distance: int) -> Tensor:
    """Average each pixel with that `distance` after it, along each axis.

    It is `average_pool` without its stride: the size stays the same, and with distance
    1 every second pixel is what `average_pool` returns. A pixel that has no such
    neighbor, at the end of an axis, stays as it is along that axis.
    """
    rank = len(x.shape)
    for axis in {*range(1, rank)} - {channel_axis(data_format) % rank}:
        before = (slice(None),) * axis
        inner, last = x[*before, distance:], x[*before, -distance:]
        x = (x + ops.concatenate([inner, last], axis=axis)) / 2
    return x


def max_pool(x: Tensor, data_format: str, size: int) -> Tensor:
    """Return the largest of `size` pixels along each axis, 2 apart, not padded."""
    if _lacks_kernel(x):
        return tensorflow_kernels.max_pool_volumes(x, size)
    return ops.max_pool(x, size, 2, data_format=data_format)


def _lacks_kernel(x: Tensor) -> bool:
    """Return whether TensorFlow cannot pool such volumes: in float64, or CPUs in 16."""
    if keras.backend.backend() != "tensorflow" or len(x.shape) != 5:
        return False
    return x.dtype == "float64" or (
        x.dtype == "float16" and not tensorflow_kernels.has_gpu()
    )
