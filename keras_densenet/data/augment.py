"""The paper's pictures: standardized, mirrored, shifted (section 4.1).

Signals `(N, T, channels)` and volumes `(N, D, H, W, channels)` are treated alike, by
the axes that they have. Each function works on whole batches, and draws its random
numbers from a seed that it is given, so that a batch is the same whenever and wherever
it is made.
"""

import math
from collections.abc import Sequence

import tensorflow as tf

from keras_densenet.tensor import Tensor

WINDOW = 1  # where a window begins is drawn by a seed of its own


def standardize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return `(images - mean) / std` channel by channel, as float32.

    Args:
        images: Pictures `(N, H, W, channels)` in 0..255; or signals `(N, T, channels)`
            or volumes `(N, D, H, W, channels)`, in their own units.
        mean: Mean of each channel, in 0..255 or in these units.
        std: Standard deviation of each channel, likewise.

    Examples:
        >>> pictures = tf.constant([[[[10, 20]]]], tf.uint8)
        >>> standardize(pictures, mean=(8.0, 20.0), std=(4.0, 5.0)).numpy().tolist()
        [[[[0.5, 0.0]]]]
    """
    *size, channels = images.shape[1:]
    if None in size:
        scale = 1.0 / tf.constant(std, tf.float32)
        return (tf.cast(images, tf.float32) - tf.constant(mean, tf.float32)) * scale
    # One long row a picture: broadcasting over three channels is half as fast. Of a
    # volume each slice is a row.
    pixels = math.prod(size[-2:])
    rows = tf.reshape(tf.cast(images, tf.float32), [-1, pixels * channels])
    mean_row = tf.tile(tf.constant(mean, tf.float32), [pixels])
    scale_row = tf.tile(1.0 / tf.constant(std, tf.float32), [pixels])
    return tf.reshape((rows - mean_row) * scale_row, [-1, *size, channels])


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
    images: Tensor,
    seed: Tensor,
    padding: int = 4,
    flip: bool | Sequence[int] = True,
    size: Sequence[int] | None = None,
) -> Tensor:
    """Mirror about half of the pictures, pad all with zeros, cut windows out.

    Zero is the mean color of standardized pictures. The authors' code pads after
    standardizing too; padding raw pictures would frame them in black.

    Args:
        images: Pictures `(N, H, W, channels)`, signals `(N, T, channels)` or volumes
            `(N, D, H, W, channels)`, standardized.
        seed: Two integers, shape `(2,)`.
        padding: Pixels added on each side; a window starts anywhere in the frame.
        flip: Whether to mirror left to right; or along which axes to mirror, each with
            a chance of 1/2: 0, 1, 2 of a volume's D, H, W.
        size: Of the windows, by axis; None for that of the pictures.

    Returns:
        Windows of that size, such as `(N, H, W, channels)`.
    """
    n, *sides, _ = tf.unstack(tf.shape(images))
    axes = mirrored_axes(flip, len(sides))
    corners = tf.random.stateless_uniform(
        [n, len(sides)], seed, maxval=2 * padding + 1, dtype=tf.int32
    )
    if size is not None:  # a window begins anywhere in the picture, too
        shares = tf.random.stateless_uniform(
            [n, len(sides)], tf.random.fold_in(seed, WINDOW)
        )
        rooms = tf.cast(tf.stack(sides) - tf.constant(size) + 1, tf.float32)
        corners += tf.cast(shares * rooms, tf.int32)
    coins = tf.random.stateless_uniform([n, len(axes)], seed + 1)
    windows = tf.pad(images, [[0, 0], *[[padding, padding]] * len(sides), [0, 0]])
    for axis, side in enumerate(sides if size is None else size):
        places = tf.range(side)
        if axis in axes:  # (N, side), read from the end where the coin says so
            coin = coins[:, axes.index(axis), tf.newaxis]
            places = tf.where(coin < 0.5, places[::-1], places)
        places += corners[:, axis, tf.newaxis]
        windows = tf.gather(windows, places, axis=axis + 1, batch_dims=1)
    return windows


def mirrored_axes(flip: bool | Sequence[int], rank: int) -> tuple[int, ...]:
    """Return along which axes to mirror; True is left to right, along the last one.

    >>> mirrored_axes(True, 2), mirrored_axes(False, 2), mirrored_axes([0, 2], 3)
    ((1,), (), (0, 2))
    """
    if isinstance(flip, bool):
        return (rank - 1,) if flip else ()
    return tuple(flip)


def center_window(images: Tensor, size: Sequence[int]) -> Tensor:
    """Cut the center out: `(N, *size, channels)`.

    Args:
        images: Pictures `(N, H, W, channels)`, signals or volumes.
        size: Of the windows, by axis. Where what is cut off is odd, one more is cut
            off at the beginning, as `center_crop` does.
    """
    sides = images.shape[1:-1]
    starts = [
        (side - window + 1) // 2 for side, window in zip(sides, size, strict=True)
    ]
    return tf.slice(images, [0, *starts, 0], [-1, *size, -1])
