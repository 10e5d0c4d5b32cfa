"""What only TensorFlow has: fused kernels for feature maps of shape (N, H, W, C)."""

import functools
from typing import Any

import tensorflow as tf

# The batch norm kernel divides by sqrt(variance + epsilon). These two add up to
# exactly 1 in float32, and epsilon is above cuDNN's smallest.
_EPSILON = 2.0**-10
_VARIANCE = 1.0 - _EPSILON


def affine(x: Any, scale: Any, offset: Any, mean: Any = None) -> Any:
    """Compute `scale * (x - mean) + offset` in one pass over `x`.

    The batch norm kernel in its inference form is the one kernel of TensorFlow that
    does this, and its gradient is one pass too. It computes in float32 and reads and
    writes `x`'s own type, so 16-bit maps need no casts.
    """
    mean = tf.zeros(scale.shape) if mean is None else mean
    return tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=scale,
        offset=offset,
        mean=mean,
        variance=tf.constant(_VARIANCE, shape=scale.shape),
        epsilon=_EPSILON,
        is_training=False,
    ).y


def normalize(x: Any, gamma: Any, beta: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """Normalise `x` with its own moments; give it with its mean and biased variance.

    The batch norm kernel in its training form: one kernel forward, one backward. It
    has no float64.
    """
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=gamma,
        offset=beta,
        mean=[],
        variance=[],
        epsilon=epsilon,
        is_training=True,
    )
    # It normalises with the biased variance and gives back the unbiased one.
    n = tf.cast(tf.size(x) // tf.size(mean), variance.dtype)
    return y, mean, variance * ((n - 1.0) / n)


@tf.custom_gradient
def _moments(x: Any) -> Any:
    mean = tf.reduce_mean(x, [0, 1, 2])
    variance = tf.reduce_mean(tf.math.squared_difference(x, mean), [0, 1, 2])

    def gradient(d_mean: Any, d_variance: Any) -> Any:
        # d mean / dx = 1 / n and d variance / dx = 2 (x - mean) / n: together an
        # affine map of x, one pass where automatic differentiation takes four.
        n = tf.cast(tf.size(x) // tf.size(mean), x.dtype)
        return affine(x, 2.0 * d_variance / n, d_mean / n, mean)

    return (mean, variance), gradient


def moments(x: Any) -> tuple[Any, Any]:
    """Compute mean and biased variance of each channel, `(C,)`, at least float32."""
    if x.dtype == tf.float64:  # the fused kernel of the gradient has no float64
        return tf.nn.moments(x, [0, 1, 2])
    return _moments(tf.cast(x, tf.float32))


def synchronized_moments(x: Any) -> tuple[Any, Any]:
    """Compute the moments of the batches of all replicas, which are of equal size."""
    mean, variance = moments(x)
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return mean, variance
    reduce_mean = functools.partial(replica.all_reduce, tf.distribute.ReduceOp.MEAN)
    shared_mean = reduce_mean(mean)
    # Around the shared mean: squares of the means would cancel.
    return shared_mean, reduce_mean(variance + tf.square(mean - shared_mean))
