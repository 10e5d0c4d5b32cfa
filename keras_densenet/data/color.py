"""Colors changed at random, as fb.resnet.torch does for ImageNet (paper, section 4.1).

Each function changes a whole batch at once. Brightness, contrast and saturation, in
whatever order, come to a sum of three: a share of the picture, a share of the picture
in gray, and a gray that is the same everywhere.
"""

from collections.abc import Callable
from functools import partial

import tensorflow as tf

from keras_densenet.tensor import Tensor

GRAY = (0.299, 0.587, 0.114)  # how bright red, green and blue are
# Principal components of ImageNet's colors in 0..1 (Krizhevsky et al. 2012).
EIGENVALUES = (0.2175, 0.0188, 0.0045)
EIGENVECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


def color_jitter(
    images: Tensor,
    seed: Tensor,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
) -> Tensor:
    """Change brightness, contrast and saturation, in an order drawn for each picture.

    Each becomes `a` times what it was, with `a` uniform in 1 - x .. 1 + x: a picture is
    blended with black, with its mean gray, with itself in gray. As in fb.resnet.torch,
    nothing is cut off at 0 or 255. A gray picture stays one when its saturation
    changes, and alpha stays as it is.

    Args:
        images: Gray, RGB or RGBA in 0..255, `(N, H, W, channels)`, of a known size.
        seed: Two integers, shape `(2,)`.
        brightness: The x of brightness, 0 or more.
        contrast: The x of contrast, 0 or more.
        saturation: The x of saturation, 0 or more.

    Returns:
        float32 `(N, H, W, channels)`.
    """
    change = partial(_jittered, seed=seed, strengths=(brightness, contrast, saturation))
    return _beside_alpha(images, change)


def _beside_alpha(images: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Change the colors of pictures alone, where these have alpha, too."""
    if images.shape[-1] != 4:
        return change(images)
    alpha = tf.cast(images[..., 3:], tf.float32)
    return tf.concat([change(images[..., :3]), alpha], axis=-1)


def _jittered(
    images: Tensor, seed: Tensor, strengths: tuple[float, float, float]
) -> Tensor:
    n, (height, width, channels) = tf.shape(images)[0], images.shape[1:]
    drawn = tf.random.stateless_uniform([2, n, 3], seed)
    factors = 1 + tf.constant(strengths, tf.float32) * (2 * drawn[0] - 1)  # (N, 3)
    order = tf.argsort(drawn[1], axis=1)  # (N, 3)
    pixels = tf.reshape(tf.cast(images, tf.float32), [-1, channels])
    # One long row a picture: broadcasting over three channels is half as fast.
    colors = tf.reshape(pixels, [n, height * width * channels])
    grays = colors
    if channels == 3:
        to_gray = tf.tile(tf.constant(GRAY)[:, tf.newaxis], [1, 3])
        grays = tf.reshape(tf.matmul(pixels, to_gray), tf.shape(colors))
    own, gray, shift = _blend(tf.reduce_mean(grays, axis=1), factors, order)
    mixed = own * colors + gray * grays + shift
    return tf.reshape(mixed, [-1, height, width, channels])


def _blend(
    mean: Tensor, factors: Tensor, order: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Make one blend of the three, in their order.

    Args:
        mean: Mean gray of each picture, `(N,)`.
        factors: Factor `a` of brightness, contrast and saturation, `(N, 3)`.
        order: Which of the three comes first, second and third, `(N, 3)`.

    Returns:
        The share of the picture, the share of its gray, and the gray that is added,
        each `(N, 1)`.
    """
    own, gray, shift = tf.ones_like(mean), tf.zeros_like(mean), tf.zeros_like(mean)
    for turn in range(3):
        kind = order[:, turn]
        a = tf.gather(factors, kind, batch_dims=1)
        now = (own + gray) * mean + shift  # the mean gray of what it has become
        contrasted = a * shift + (1 - a) * now
        # What is gray, as the shift is, stays as it is when saturation changes.
        shift = tf.where(kind == 0, a * shift, tf.where(kind == 1, contrasted, shift))
        gray = tf.where(kind == 2, gray + (1 - a) * own, a * gray)
        own = a * own
    return own[:, tf.newaxis], gray[:, tf.newaxis], shift[:, tf.newaxis]


def pca_lighting(images: Tensor, seed: Tensor, std: float = 0.1) -> Tensor:
    """Add to each picture a color drawn along the principal axes of ImageNet's.

    Alpha stays as it is.

    Args:
        images: RGB or RGBA in 0..255, `(N, H, W, channels)`.
        seed: Two integers, shape `(2,)`.
        std: Standard deviation of the share of each component.
    """
    return _beside_alpha(images, partial(_lighted, seed=seed, std=std))


def _lighted(images: Tensor, seed: Tensor, std: float) -> Tensor:
    n = tf.shape(images)[0]
    alphas = tf.random.stateless_normal([n, 3], seed, stddev=std)
    shifts = tf.matmul(alphas * EIGENVALUES, tf.transpose(tf.constant(EIGENVECTORS)))
    height, width = images.shape[1:3]
    rows = tf.reshape(tf.cast(images, tf.float32), [-1, height * width * 3])
    shifted = rows + tf.tile(255 * shifts, [1, height * width])
    return tf.reshape(shifted, [-1, height, width, 3])
