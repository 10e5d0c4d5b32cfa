"""What only TensorFlow has: fused kernels for feature maps of shape (N, H, W, C).

Those of signals `(N, T, C)` and of volumes `(N, D, H, W, C)` are taken for pictures of
one column, `(N, pixels, 1, C)`: to a batch norm a pixel's place does not matter.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_densenet import processor
from keras_densenet.tensor import Tensor

_EPSILON = 2.0**-10  # exact in float32, and above the least that cuDNN accepts


def normalize(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    variance: Tensor,
    epsilon: float,
    in_training: bool = False,
) -> Tensor:
    """Compute `gamma (x - mean) / sqrt(variance + epsilon) + beta` in one pass over x.

    The batch norm kernel in its inference form is the one kernel of TensorFlow that
    does this, and its gradient is one pass, too. It has no gradient by the moments. It
    computes in float32 and reads and writes `x`'s own type, so that 16-bit maps need no
    casts. `in_training` says whether its gradient should be fast, too.
    """
    multiples = _multiples()
    groups = _groups(x, multiples.in_training if in_training else multiples.forward)
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
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    variance: Tensor,
    epsilon: float,
) -> Tensor:
    """Do what `normalize` does, with gradients by the moments, too.

    The kernel has no gradient by its mean and its variance. So it gets a constant mean
    and a variance of 1, and a scale and an offset that depend on the moments.
    """
    center = tf.stop_gradient(mean)
    scale = gamma * tf.math.rsqrt(variance + epsilon)
    offset = beta - (mean - center) * scale  # equals beta, but has the mean's gradient
    return affine(x, scale, offset, center)


def affine(
    x: Tensor, scale: Tensor, offset: Tensor, center: Tensor, in_training: bool = True
) -> Tensor:
    """Compute `scale (x - center) + offset`, with no gradient by `center`."""
    # The kernel adds epsilon: the sum is exactly 1, in float32.
    one = np.full(center.shape, 1.0 - _EPSILON, "float32")
    return normalize(x, scale, offset, center, one, _EPSILON, in_training)


# On CPUs the kernels are two to three times slower where the channels do not fill the
# processor's vectors. But 2 pixels of 12 channels are one of 24. docs/speed.md
# has the times.


class _Multiples(NamedTuple):
    """What the number of channels should be a multiple of."""

    forward: int
    in_training: int  # forward, and in the gradient
    of_moments: int  # in the batch norm kernel's training form


_MULTIPLES = {  # by the numbers that a vector holds
    8: _Multiples(forward=4, in_training=8, of_moments=1),
    16: _Multiples(forward=16, in_training=16, of_moments=16),
}


def _multiples() -> _Multiples:
    return _MULTIPLES[processor.vector_lanes()]


def _groups(x: Tensor, multiple: int) -> int:
    """Return how many pixels to take as one to have such a multiple of channels.

    It is 1 where the size is unknown, or does not divide into groups of pixels.
    """
    groups = multiple // math.gcd(multiple, x.shape[-1])
    pixels = x.shape[1:-1].num_elements()
    return groups if pixels and pixels % groups == 0 else 1


def _grouped(x: Tensor, groups: int) -> Tensor:
    """Return maps as those of pictures, with so many pixels taken as one."""
    if groups == 1 and x.shape.rank == 4:
        return x
    channels, pixels = x.shape[-1], x.shape[1:-1].num_elements()
    if pixels is None:
        return tf.reshape(x, [tf.shape(x)[0], -1, 1, channels])
    return tf.reshape(x, [-1, pixels // groups, 1, groups * channels])


def _ungrouped(y: Tensor, x: Tensor, groups: int) -> Tensor:
    """Return what `_grouped` was given as it was, of the shape of `x`."""
    if groups == 1 and x.shape.rank == 4:
        return y
    if x.shape[1:].is_fully_defined():
        return tf.reshape(y, [-1, *x.shape[1:]])
    return tf.ensure_shape(tf.reshape(y, tf.shape(x)), x.shape)


def _repeated(vectors: list[Tensor], groups: int) -> list[Tensor]:
    if groups == 1:
        return vectors
    return tf.unstack(tf.tile(tf.stack(vectors), [1, groups]))


def normalize_batch(
    x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalize `x` with its own moments.

    This is the batch norm kernel in its training form: one kernel forward, one
    backward. It has no float64, and no gradient flows through the returned moments.
    Where its channels do not fill the processor's vectors, two kernels that take some
    pixels as one are faster.

    Returns:
        The normalized `x`, its mean and its biased variance, `(C,)` each.
    """
    if _groups(x, _multiples().of_moments) > 1:
        mean, variance = _moments(x)
        y = normalize_with_moments(x, gamma, beta, mean, variance, epsilon)
        return y, tf.stop_gradient(mean), tf.stop_gradient(variance)
    y, mean, variance = _training_form(_grouped(x, 1), gamma, beta, epsilon)
    return _ungrouped(y, x, 1), mean, variance


def _training_form(
    x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=gamma,
        offset=beta,
        mean=[],
        variance=[],
        epsilon=epsilon,
        is_training=True,
    )
    # The kernel normalizes with the biased variance, and returns the unbiased one.
    return y, mean, variance - variance / pixels(x, mean.dtype)


def pixels(x: Tensor, dtype: tf.DType) -> Tensor:
    """Return N H W of `(N, H, W, C)`: a number where it is known, else a tensor."""
    known = x.shape[:-1].num_elements()
    return known or tf.cast(tf.size(x, tf.int64), dtype) / x.shape[-1]


@tf.custom_gradient
def _moments(x: Tensor) -> Tensor:
    # No kernel is faster for the two of them; the normalized maps are thrown away.
    groups = _groups(x, _multiples().of_moments)
    maps = _grouped(x, groups)
    ones, zeros = (np.full(maps.shape[-1], value, "float32") for value in (1.0, 0.0))
    _, mean, variance = _training_form(maps, ones, zeros, epsilon=1e-3)
    if groups > 1:
        mean, variance = _of_all_pixels(mean, variance, groups)

    @tf.custom_gradient
    def gradient(x: Tensor, d_mean: Tensor, d_variance: Tensor) -> Tensor:
        d_x = moments_gradient(x, mean, d_mean, d_variance)
        return d_x, functools.partial(_second_derivative, x, d_mean, d_variance)

    return (mean, variance), functools.partial(gradient, x)


def _of_all_pixels(
    means: Tensor, variances: Tensor, groups: int
) -> tuple[Tensor, Tensor]:
    """Combine the moments of equally many pixels each: `(groups C,)` to `(C,)`."""
    means, variances = (tf.reshape(v, [groups, -1]) for v in (means, variances))
    mean = tf.reduce_mean(means, 0)
    between = tf.reduce_mean(tf.math.squared_difference(means, mean), 0)
    return mean, tf.reduce_mean(variances, 0) + between


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mean and biased variance of each channel, `(C,)`, at least float32."""
    if x.dtype == tf.float64:  # which the kernel lacks
        mean = _mean_of_pixels(x)
        return mean, _mean_of_pixels(tf.square(x - mean))
    return _moments(x)


def _mean_of_pixels(x: Tensor) -> Tensor:
    return tf.reduce_mean(x, list(range(x.shape.rank - 1)))


def moments_gradient(
    x: Tensor, mean: Tensor, d_mean: Tensor, d_variance: Tensor, n: Tensor | None = None
) -> Tensor:
    """Turn the gradients by the moments of `x` into the gradient by `x`.

    d mean / dx = 1 / n and d variance / dx = 2 (x - mean) / n: together an affine map
    of x, one pass where automatic differentiation takes four. `mean` is that of `x`;
    `n` is N H W, by default of `x`, else of all replicas.
    """
    n = pixels(x, mean.dtype) if n is None else n
    slope, offset = (d_variance + d_variance) / n, d_mean / n
    if x.dtype == tf.float64:
        return slope * (x - mean) + offset
    return affine(x, slope, offset, mean)


def _second_derivative(
    x: Tensor, d_mean: Tensor, d_variance: Tensor, d_d_x: Tensor
) -> list[Tensor]:
    """Return the gradients of `moments_gradient` by `x`, `d_mean` and `d_variance`.

    The mean is computed from `x` here, so that its share of the gradient is counted.
    """
    inputs = [x, d_mean, d_variance]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        wide = tf.cast(x, d_mean.dtype)
        centered = wide - _mean_of_pixels(wide)
        d_x = (2.0 * d_variance * centered + d_mean) / pixels(x, d_mean.dtype)
        d_x = tf.cast(d_x, x.dtype)
    return tape.gradient(d_x, inputs, d_d_x)


def synchronized_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the moments over the batches of all replicas, of whatever sizes."""
    reduce_sum = _replica_sum()
    if reduce_sum is None:
        return moments(x)

    @tf.custom_gradient
    def shared_moments(x: Tensor) -> Tensor:
        mean, variance = moments(x)
        n = _as_vector(pixels(x, mean.dtype), mean.dtype)
        sums = reduce_sum(tf.concat([n * mean, n], 0))
        shared, all_pixels = sums[:-1] / sums[-1], sums[-1]
        # Around the shared mean: squares of the means would cancel.
        variance = reduce_sum(n * (variance + tf.square(mean - shared))) / all_pixels

        @tf.custom_gradient
        def gradient(x: Tensor, *d_moments: Tensor) -> Tensor:
            return synchronized_moments_gradient(x, shared, *d_moments), _refuse

        return (shared, variance), functools.partial(gradient, x)

    return shared_moments(x)


def synchronized_moments_gradient(
    x: Tensor, mean: Tensor, d_mean: Tensor, d_variance: Tensor
) -> Tensor:
    """Do what `moments_gradient` does, for moments over the batches of all replicas."""
    n = pixels(x, mean.dtype)
    return moments_gradient(x, mean, *total_of_replicas(d_mean, d_variance, n))


def total_of_replicas(
    d_mean: Tensor, d_variance: Tensor, n: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Add up the gradients by shared moments, and the pixels `n` of each replica.

    The loss of every replica depends on the shared moments.
    """
    reduce_sum = _replica_sum()
    if reduce_sum is None:
        return d_mean, d_variance, n
    n = _as_vector(n, d_mean.dtype)
    sums = reduce_sum(tf.concat([d_mean, d_variance, n], 0))
    d_mean, d_variance, n = tf.split(sums, [d_mean.shape[0], d_mean.shape[0], 1])
    return d_mean, d_variance, n


def _as_vector(n: Tensor, dtype: tf.DType) -> Tensor:
    """Return a number as a tensor `(1,)`, which can be concatenated to vectors."""
    return tf.reshape(tf.cast(n, dtype), [1])


def _refuse(*_: Tensor) -> None:
    raise NotImplementedError(
        "A synchronized batch norm has no second derivative. Build the model with "
        "sync_batchnorm=False, and take the second derivative of that model."
    )


def _replica_sum() -> Callable[[Tensor], Tensor] | None:
    """Return a function that sums a tensor over the replicas, None if there is one."""
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return None
    return functools.partial(replica.all_reduce, tf.distribute.ReduceOp.SUM)


def narrow_convolution(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolve to few maps: an odd kernel, padded so that the size stays the same.

    The gradient by the kernel trades the roles of the maps that are read and the maps
    that are made. That is the same sum, mirrored; but TensorFlow's vectors run over the
    maps that are made, and fewer than 16 of them leave the vectors part empty.
    """

    @tf.custom_gradient
    def convolution(x: Tensor, kernel: Tensor) -> Tensor:
        def gradient(d_y: Tensor) -> tuple[Tensor, Tensor]:
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


def has_gpu() -> bool:
    """Return whether TensorFlow sees a GPU, whose kernels have other types."""
    return bool(tf.config.list_physical_devices("GPU"))


def average_pool_volumes(x: Tensor, size: int) -> Tensor:
    """Average windows of `size` along each axis, 2 apart: `(N, D, H, W, C)`."""
    return _pool_volumes(tf.nn.avg_pool2d, x, size)


def max_pool_volumes(x: Tensor, size: int) -> Tensor:
    """Return the largest values of windows of `size` along each axis, 2 apart."""
    return _pool_volumes(tf.nn.max_pool2d, x, size)


def _pool_volumes(pool: Callable, x: Tensor, size: int) -> Tensor:
    """Pool height and width, then the depth, as pictures are.

    The kernels for volumes have no float64, and on CPUs no float16; those for pictures
    have both.
    """
    n, depth, height, width, channels = tf.unstack(tf.shape(x))
    slices = tf.reshape(x, [n * depth, height, width, channels])
    slices = pool(slices, size, 2, "VALID")
    height, width = tf.unstack(tf.shape(slices)[1:3])
    columns = tf.reshape(slices, [n, depth, height * width, channels])
    columns = pool(columns, (size, 1), (2, 1), "VALID")
    y = tf.reshape(columns, [n, -1, height, width, channels])
    sides = [side and (side - size) // 2 + 1 for side in x.shape[1:-1]]
    return tf.ensure_shape(y, [x.shape[0], *sides, x.shape[-1]])
