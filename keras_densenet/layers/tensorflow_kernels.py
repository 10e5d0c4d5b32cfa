"""What only TensorFlow has: fused kernels for feature maps of shape (N, H, W, C)."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

_EPSILON = 2.0**-10  # above cuDNN's smallest


def normalize(
    x: Any,
    gamma: Any,
    beta: Any,
    mean: Any,
    variance: Any,
    epsilon: float,
    multiple: int = 4,
) -> Any:
    """Compute `gamma (x - mean) / sqrt(variance + epsilon) + beta` in one pass over x.

    The batch norm kernel in its inference form is the one kernel of TensorFlow that
    does this, and its gradient is one pass too, but for the moments, for which it has
    none. It computes in float32 and reads and writes `x`'s own type, so 16-bit maps
    need no casts.
    """
    groups = _groups(x, multiple)
    gamma, beta, mean, variance = _repeated([gamma, beta, mean, variance], groups)
    y = tf.raw_ops.FusedBatchNormV3(
        x=_grouped(x, groups),
        scale=gamma,
        offset=beta,
        mean=mean,
        variance=variance,
        epsilon=epsilon,
        is_training=False,
    ).y
    return _ungrouped(y, x, groups)


def normalize_with_moments(
    x: Any, gamma: Any, beta: Any, mean: Any, variance: Any, epsilon: float
) -> Any:
    """Do what `normalize` does, with gradients by the moments too.

    The kernel has none for them. So its mean is a constant, its variance is 1, and it
    is its scale and its offset that depend on the moments.
    """
    centre = tf.stop_gradient(mean)
    scale = gamma * tf.math.rsqrt(variance + epsilon)
    offset = beta - (mean - centre) * scale  # is beta, but has the mean's gradient
    return affine(x, scale, offset, centre)


def affine(x: Any, scale: Any, offset: Any, centre: Any, multiple: int = 8) -> Any:
    """Compute `scale (x - centre) + offset`, with no gradient by `centre`."""
    # With epsilon it is exactly 1, in float32.
    one = np.full(centre.shape, 1.0 - _EPSILON, "float32")
    return normalize(x, scale, offset, centre, one, _EPSILON, multiple)


# On CPUs the kernels are two to three times slower where the number of channels is no
# multiple of 4, or of 8 in the gradient. But 2 pixels of 12 channels are one of 24.


def _groups(x: Any, multiple: int) -> int:
    """Give how many pixels to take as one for such a multiple, 1 if it cannot be."""
    groups = multiple // math.gcd(multiple, x.shape[-1])
    height, width = x.shape[1:3]
    return groups if height and width and height * width % groups == 0 else 1


def _grouped(x: Any, groups: int) -> Any:
    if groups == 1:
        return x
    _, height, width, channels = x.shape
    return tf.reshape(x, [-1, height * width // groups, 1, groups * channels])


def _ungrouped(y: Any, x: Any, groups: int) -> Any:
    return y if groups == 1 else tf.reshape(y, [-1, *x.shape[1:]])


def _repeated(vectors: list, groups: int) -> list:
    if groups == 1:
        return vectors
    return tf.unstack(tf.tile(tf.stack(vectors), [1, groups]))


def normalize_batch(
    x: Any, gamma: Any, beta: Any, epsilon: float
) -> tuple[Any, Any, Any]:
    """Normalise `x` with its own moments; give it with its mean and biased variance.

    The batch norm kernel in its training form: one kernel forward, one backward. It
    has no float64, and gives no gradient by way of the moments.
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
    return y, mean, variance - variance / _pixels(x, mean.dtype)


def _pixels(x: Any, dtype: Any) -> Any:
    """Give N H W of `(N, H, W, C)`, as a number where it is known."""
    known = x.shape[:3].num_elements()
    return known or tf.cast(tf.size(x, tf.int64), dtype) / x.shape[-1]


@tf.custom_gradient
def _moments(x: Any) -> Any:
    # The fastest kernel for both; what it normalises is thrown away.
    ones, zeros = (np.full(x.shape[-1], value, "float32") for value in (1.0, 0.0))
    _, mean, variance = normalize_batch(x, ones, zeros, epsilon=1e-3)

    @tf.custom_gradient
    def gradient(x: Any, d_mean: Any, d_variance: Any) -> Any:
        d_x = moments_gradient(x, mean, d_mean, d_variance)
        return d_x, functools.partial(_second_derivative, x, d_mean, d_variance)

    return (mean, variance), functools.partial(gradient, x)


def moments(x: Any) -> tuple[Any, Any]:
    """Compute mean and biased variance of each channel, `(C,)`, at least float32."""
    if x.dtype == tf.float64:  # of which the kernel has none
        mean = tf.reduce_mean(x, [0, 1, 2])
        return mean, tf.reduce_mean(tf.square(x - mean), [0, 1, 2])
    return _moments(x)


def moments_gradient(
    x: Any, mean: Any, d_mean: Any, d_variance: Any, n: Any = None
) -> Any:
    """Give the gradient by `x`, of which `mean` is the mean, from those by its moments.

    d mean / dx = 1 / n and d variance / dx = 2 (x - mean) / n: together an affine map
    of x, one pass where automatic differentiation takes four. `n` is N H W, or that of
    all replicas.
    """
    n = _pixels(x, mean.dtype) if n is None else n
    slope, offset = (d_variance + d_variance) / n, d_mean / n
    if x.dtype == tf.float64:
        return slope * (x - mean) + offset
    return affine(x, slope, offset, mean)


def _second_derivative(x: Any, d_mean: Any, d_variance: Any, d_d_x: Any) -> list:
    """Give the gradients of `moments_gradient`, of which the mean depends on x."""
    inputs = [x, d_mean, d_variance]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        wide = tf.cast(x, d_mean.dtype)
        centred = wide - tf.reduce_mean(wide, [0, 1, 2])
        d_x = (2.0 * d_variance * centred + d_mean) / _pixels(x, d_mean.dtype)
        d_x = tf.cast(d_x, x.dtype)
    return tape.gradient(d_x, inputs, d_d_x)


def synchronized_moments(x: Any) -> tuple[Any, Any]:
    """Compute the moments of the batches of all replicas, each pixel counting once."""
    reduce_sum = _replica_sum()
    if reduce_sum is None:
        return moments(x)

    @tf.custom_gradient
    def shared_moments(x: Any) -> Any:
        mean, variance = moments(x)
        n = _pixels_of_replica(x, mean.dtype)
        sums = reduce_sum(tf.concat([n * mean, n], 0))
        shared, all_pixels = sums[:-1] / sums[-1], sums[-1]
        # Around the shared mean: squares of the means would cancel.
        variance = reduce_sum(n * (variance + tf.square(mean - shared))) / all_pixels

        @tf.custom_gradient
        def gradient(x: Any, *d_moments: Any) -> Any:
            return synchronized_moments_gradient(x, shared, *d_moments), _refuse

        return (shared, variance), functools.partial(gradient, x)

    return shared_moments(x)


def synchronized_moments_gradient(
    x: Any, mean: Any, d_mean: Any, d_variance: Any
) -> Any:
    """Do what `moments_gradient` does for moments of the batches of all replicas."""
    reduce_sum = _replica_sum()
    if reduce_sum is None:
        return moments_gradient(x, mean, d_mean, d_variance)
    # Each replica's loss depends on the shared moments.
    n = _pixels_of_replica(x, mean.dtype)
    sums = reduce_sum(tf.concat([d_mean, d_variance, n], 0))
    d_mean, d_variance, n = tf.split(sums, [mean.shape[0], mean.shape[0], 1])
    return moments_gradient(x, mean, d_mean, d_variance, n)


def _pixels_of_replica(x: Any, dtype: Any) -> Any:
    """Give N H W as a tensor `(1,)`, to be summed up with vectors."""
    return tf.reshape(tf.cast(_pixels(x, dtype), dtype), [1])


def _refuse(*_: Any) -> None:
    raise NotImplementedError(
        "A synchronised batch norm has no second derivative. Use sync_batchnorm=False."
    )


def _replica_sum() -> Callable[[Any], Any] | None:
    """Give the function to a tensor's sum over the replicas, None for one replica."""
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return None
    return functools.partial(replica.all_reduce, tf.distribute.ReduceOp.SUM)


def narrow_convolution(x: Any, kernel: Any) -> Any:
    """Convolve with an odd kernel, padded to the same size, that makes few maps.

    Its gradient by the kernel trades the roles of the maps read and the maps made. That
    is the same sum, mirrored; but the kernels' vectors run over the maps made, and of
    fewer than 16 they stay part empty.
    """

    @tf.custom_gradient
    def convolution(x: Any, kernel: Any) -> Any:
        def gradient(d_y: Any) -> tuple[Any, Any]:
            d_x = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(x),
                filter=kernel,
                out_backprop=d_y,
                strides=[1] * 4,
                padding="SAME",
            )
            height, width, read, made = kernel.shape
            mirrored = tf.raw_ops.Conv2DBackpropFilter(
                input=d_y,
                filter_sizes=[height, width, made, read],
                out_backprop=x,
                strides=[1] * 4,
                padding="SAME",
            )
            return d_x, tf.transpose(tf.reverse(mirrored, [0, 1]), [0, 1, 3, 2])

        return tf.nn.conv2d(x, kernel, 1, "SAME"), gradient

    return convolution(x, tf.convert_to_tensor(kernel))
