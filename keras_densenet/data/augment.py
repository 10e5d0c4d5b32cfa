"""The paper's pictures: standardized, mirrored, shifted (section 4.1).

Each function works on whole batches, and draws its random numbers from a seed that it
is given, so that a batch is the same whenever and wherever it is made.
"""

from collections.abc import Sequence

import tensorflow as tf

from keras_densenet.tensor import Tensor


def standardize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return `(images - mean) / std` channel by channel, as float32.

    Args:
        images: Pictures `(N, H, W, channels)` in 0..255.
        mean: Mean of each channel, in 0..255.
        std: Standard deviation of each channel, in 0..255.

    Example:
        >>> pictures = tf.constant([[[[10, 20]]]], tf.uint8)
        >>> standardize(pictures, mean=(8.0, 20.0), std=(4.0, 5.0)).numpy().tolist()
        [[[[0.5, 0.0]]]]
    """
    height, width, channels = images.shape[1:]
    if height is None or width is None:
        scale = 1.0 / tf.constant(std, tf.float32)
        return (tf.cast(images, tf.float32) - tf.constant(mean, tf.float32)) * scale
    # One long row a picture: broadcasting over three channels is half as fast.
    rows = tf.reshape(tf.cast(images, tf.float32), [-1, height * width * channels])
    mean_row = tf.tile(tf.constant(mean, tf.float32), [height * width])
    scale_row = tf.tile(1.0 / tf.constant(std, tf.float32), [height * width])
    return tf.reshape((rows - mean_row) * scale_row, [-1, height, width, channels])


def mirror(images: Tensor, seed: Tensor) -> Tensor:
    """Mirror about half of the pictures left to right.

    Args:
        images: Pictures `(N, H, W, channels)`.
        seed: Two integers, shape `(2,)`.
    """
    n = tf.shape(images)[0]
    coins = tf.random.stateless_uniform([n, 1], seed)
    # One long row a picture, which is chosen from in a third of the time.
    rows, mirrored = (
        tf.reshape(pictures, [n, -1])
        for pictures in (images, tf.reverse(images, axis=[2]))
    )
    chosen = tf.where(coins < 0.5, mirrored, rows)
    return tf.ensure_shape(tf.reshape(chosen, tf.shape(images)), images.shape)


def mirror_and_shift(
    images: Tensor, seed: Tensor, padding: int = 4, flip: bool = True
) -> Tensor:
    """Mirror about half of the pictures, pad all with zeros, cut windows out.

    Zero is the mean color of standardized pictures. The authors' code pads after
    standardizing too; padding raw pictures would frame them in black.

    Args:
        images: Pictures `(N, H, W, channels)`, standardized.
        seed: Two integers, shape `(2,)`.
        padding: Pixels added on each side; a window starts anywhere in the frame.
        flip: Whether to mirror left to right.
    """
    n, height, width, _ = tf.unstack(tf.shape(images))
    corners = tf.random.stateless_uniform(
        [n, 2], seed, maxval=2 * padding + 1, dtype=tf.int32
    )
    coins = tf.random.stateless_uniform([n, 1], seed + 1)
    rows, columns = tf.range(height), tf.range(width)
    if flip:  # (N, W), read right to left where the coin says so
        columns = tf.where(coins < 0.5, columns[::-1], columns)
    frame = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
    windows = tf.pad(images, frame)
    windows = tf.gather(windows, rows + corners[:, :1], axis=1, batch_dims=1)
    return tf.gather(windows, columns + corners[:, 1:], axis=2, batch_dims=1)
