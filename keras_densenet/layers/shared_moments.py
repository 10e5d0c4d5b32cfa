"""Moments belong to the feature map: the arithmetic of batch normalization.

Every batch normalization (BN) of a dense block that reads a feature map sees the
same batch of it, so the mean and the variance it needs are the same too. They are
computed once, when the map is made, and passed along as small vectors; each BN
normalizes with one affine map of its own:

    y = a x + b,    a = gamma / sqrt(variance + epsilon),    b = beta - mean a
"""

from typing import NamedTuple

import keras
from keras import ops

from keras_densenet.tensor import Tensor

if keras.backend.backend() == "tensorflow":
    from keras_densenet.layers import tensorflow_kernels


class Moments(NamedTuple):
    """Per-channel statistics of a batch of feature maps.

    Attributes:
        mean: Tensor of shape `(C,)`, float32 (float64 for float64 maps).
        variance: Biased variance, of the same shape and type.
    """

    mean: Tensor
    variance: Tensor


def batch_moments(x: Tensor, axis: int, synchronized: bool = False) -> Moments:
    """Compute the moments of each channel over all pixels of the batch.

    Args:
        x: Feature maps, of signals, pictures or volumes: a tensor of rank 3 to 5.
        axis: The channel axis.
        synchronized: Whether the batch is that of all replicas of a TensorFlow
            strategy, instead of this replica's share.

    Returns:
        The moments, in float32 at least, whatever the precision of `x`.
    """
    if keras.backend.backend() == "tensorflow":
        kernels = tensorflow_kernels
        moments_of = kernels.synchronized_moments if synchronized else kernels.moments
        return Moments(*moments_of(x))
    x = ops.cast(x, statistics_dtype(x))
    rank = len(x.shape)
    return Moments(*ops.moments(x, axes=[i for i in range(rank) if i != axis % rank]))


def concatenate_moments(first: Moments, second: Moments) -> Moments:
    """Return the moments of two stacks of maps, concatenated on the channel axis."""
    return Moments(*(ops.concatenate(pair) for pair in zip(first, second, strict=True)))


def normalize(
    x: Tensor,
    moments: Moments,
    gamma: Tensor,
    beta: Tensor,
    epsilon: float,
    axis: int,
    of_batch: bool = True,
) -> Tensor:
    """Normalize `x` with the given moments: an affine map of `x`.

    On TensorFlow one kernel computes it.

    Args:
        x: Feature maps, of signals, pictures or volumes: a tensor of rank 3 to 5.
        moments: Mean and variance of each channel.
        gamma: Scale, `(C,)`, float32 at least.
        beta: Offset, `(C,)`, float32 at least.
        epsilon: Added to the variance.
        axis: The channel axis.
        of_batch: Whether the moments are the batch's, through which gradients flow.

    Returns:
        A tensor of the shape and the type of `x`.
    """
    if _has_fused_kernels(x):
        kernels = tensorflow_kernels
        kernel = kernels.normalize_with_moments if of_batch else kernels.normalize
        return kernel(x, gamma, beta, *moments, epsilon)
    scale = gamma * ops.rsqrt(moments.variance + epsilon)  # (C,)
    offset = beta - moments.mean * scale
    shape = [1] * len(x.shape)
    shape[axis] = -1  # (C,) -> (1, 1, 1, C) or (1, C, 1, 1)
    y = ops.cast(x, scale.dtype) * ops.reshape(scale, shape)
    return ops.cast(y + ops.reshape(offset, shape), x.dtype)


def normalize_batch(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    epsilon: float,
    axis: int,
    synchronized: bool = False,
) -> tuple[Tensor, Moments]:
    """Normalize `x` with the moments of its own batch.

    Where no other layer reads `x`, this is faster than `batch_moments` and `normalize`,
    whose arguments it takes.

    Returns:
        The normalized `x`, and its moments.
    """
    if _has_fused_kernels(x) and not synchronized:
        y, mean, variance = tensorflow_kernels.normalize_batch(x, gamma, beta, epsilon)
        return y, Moments(mean, variance)
    moments = batch_moments(x, axis, synchronized)
    return normalize(x, moments, gamma, beta, epsilon, axis), moments


def statistics_dtype(x: Tensor) -> str:
    """Return the type that statistics of `x` are kept in: float32 at least."""
    dtype = keras.backend.standardize_dtype(x.dtype)
    return "float64" if dtype == "float64" else "float32"


def _has_fused_kernels(x: Tensor) -> bool:
    return keras.backend.backend() == "tensorflow" and x.dtype != "float64"
