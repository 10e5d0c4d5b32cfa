"""Moments belong to the feature map: the arithmetic of batch normalisation.

Every batch normalisation (BN) of a dense block that reads a feature map sees the
same batch of it, so the mean and the variance it needs are the same too. They are
computed once, when the map is made, and passed along as small vectors; each BN
normalises with one affine map of its own:

    y = a x + b,    a = gamma / sqrt(variance + epsilon),    b = beta - mean a
"""

from typing import Any, NamedTuple

import keras
from keras import ops

if keras.backend.backend() == "tensorflow":
    from keras_densenet.layers import tensorflow_kernels


class Moments(NamedTuple):
    """Per-channel statistics of a batch of feature maps.

    Attributes:
        mean: Tensor of shape `(C,)`, float32 (float64 for float64 maps).
        variance: Biased variance, of the same shape and type.
    """

    mean: Any
    variance: Any


def batch_moments(x: Any, axis: int, synchronized: bool = False) -> Moments:
    """Compute the moments of each channel over batch, height and width.

    Args:
        x: Feature maps, a tensor of rank 4.
        axis: The channel axis.
        synchronized: Whether the batch is that of all replicas of a TensorFlow
            strategy, instead of this replica's share of it.

    Returns:
        The moments, in float32 at least, whatever the precision of `x`.
    """
    if keras.backend.backend() == "tensorflow":
        kernels = tensorflow_kernels
        moments_of = kernels.synchronized_moments if synchronized else kernels.moments
        return Moments(*moments_of(x))
    x = ops.cast(x, statistics_dtype(x))
    return Moments(*ops.moments(x, axes=_all_but(axis)))


def concatenate_moments(first: Moments, second: Moments) -> Moments:
    """Give the moments of two feature maps concatenated on the channel axis."""
    return Moments(*(ops.concatenate(pair) for pair in zip(first, second, strict=True)))


def normalize(
    x: Any,
    moments: Moments,
    gamma: Any,
    beta: Any,
    epsilon: float,
    axis: int,
    of_batch: bool = True,
) -> Any:
    """Normalise `x` with the given moments: an affine map of `x`.

    On TensorFlow it is one kernel.

    Args:
        x: Feature maps, a tensor of rank 4.
        moments: Mean and variance of each channel.
        gamma: Scale, `(C,)`, float32 at least.
        beta: Offset, `(C,)`, float32 at least.
        epsilon: Added to the variance.
        axis: The channel axis.
        of_batch: Whether the moments depend on the batch, and need a gradient.

    Returns:
        A tensor of the shape and the type of `x`.
    """
    if _has_fused_kernels(x):
        kernels = tensorflow_kernels
        kernel = kernels.normalize_with_moments if of_batch else kernels.normalize
        return kernel(x, gamma, beta, *moments, epsilon)
    scale = gamma * ops.rsqrt(moments.variance + epsilon)  # (C,)
    offset = beta - moments.mean * scale
    shape = [1, 1, 1, 1]
    shape[axis] = -1  # (C,) -> (1, 1, 1, C) or (1, C, 1, 1)
    y = ops.cast(x, scale.dtype) * ops.reshape(scale, shape)
    return ops.cast(y + ops.reshape(offset, shape), x.dtype)


def normalize_batch(
    x: Any,
    gamma: Any,
    beta: Any,
    epsilon: float,
    axis: int,
    synchronized: bool = False,
) -> tuple[Any, Moments]:
    """Normalise `x` with the moments of its own batch; give it with them.

    Arguments are those of `normalize` and `batch_moments`. Where no other layer reads
    `x`, this is faster than the two of them.
    """
    if _has_fused_kernels(x) and not synchronized:
        y, mean, variance = tensorflow_kernels.normalize_batch(x, gamma, beta, epsilon)
        return y, Moments(mean, variance)
    moments = batch_moments(x, axis, synchronized)
    return normalize(x, moments, gamma, beta, epsilon, axis), moments


def statistics_dtype(x: Any) -> str:
    """Name the type that statistics of `x` are kept in: float32 at least."""
    dtype = keras.backend.standardize_dtype(x.dtype)
    return "float64" if dtype == "float64" else "float32"


def _has_fused_kernels(x: Any) -> bool:
    return keras.backend.backend() == "tensorflow" and x.dtype != "float64"


def _all_but(axis: int) -> list[int]:
    return [i for i in range(4) if i != axis % 4]
