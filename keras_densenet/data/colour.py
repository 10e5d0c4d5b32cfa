"""Colours changed at random, as fb.resnet.torch does for ImageNet (paper, section 4.1).

Whole batches at once: brightness, contrast, saturation and lighting are linear in a
picture's colours, so those of a picture become one 3x3 matrix and one offset.
"""

from typing import Any

import tensorflow as tf

GREY = (0.299, 0.587, 0.114)  # how bright red, green and blue are
# Principal components of ImageNet's colours in 0..1 (Krizhevsky et al. 2012).
EIGENVALUES = (0.2175, 0.0188, 0.0045)
EIGENVECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


def colour_jitter(
    images: Any,
    seed: Any,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
) -> Any:
    """Change brightness, contrast and saturation, in an order drawn for each picture.

    Each becomes `a` times what it was, `a` uniform in 1 - x .. 1 + x: a picture is
    blended with black, with its mean grey, with itself in grey. Nothing is cut off at 0
    or 255, as in fb.resnet.torch.

    Args:
        images: RGB in 0..255, `(N, H, W, 3)`.
        seed: Two integers, shape `(2,)`.
        brightness: The x of brightness, 0 or more.
        contrast: The x of contrast, 0 or more.
        saturation: The x of saturation, 0 or more.

    Returns:
        float32 `(N, H, W, 3)`.
    """
    images = tf.cast(images, tf.float32)
    n = tf.shape(images)[0]
    strengths = tf.constant([brightness, contrast, saturation])
    drawn = tf.random.stateless_uniform([2, n, 3], seed)
    factors = 1 + strengths * (2 * drawn[0] - 1)  # (N, 3)
    order = tf.argsort(drawn[1], axis=1)  # (N, 3)
    means = tf.reduce_mean(images, axis=[1, 2])  # (N, 3)
    matrix, offset = tf.eye(3, batch_shape=[n]), tf.zeros([n, 3])
    for turn in range(3):
        a = tf.gather(factors, order[:, turn], axis=1, batch_dims=1)
        now = _apply(means, matrix, offset)
        step, shift = _blend(order[:, turn], a, now)
        matrix = tf.matmul(matrix, step)
        offset = _apply(offset, step, shift)
    n, height, width, _ = tf.unstack(tf.shape(images))
    pixels = tf.reshape(images, [n, height * width, 3])
    mixed = tf.matmul(pixels, matrix) + offset[:, tf.newaxis]
    return tf.ensure_shape(tf.reshape(mixed, tf.shape(images)), images.shape)


def _blend(kind: Any, a: Any, means: Any) -> tuple[Any, Any]:
    """Give each picture's matrix `(N, 3, 3)` and offset `(N, 3)`.

    A colour, a row, is multiplied by the matrix on its right.

    Args:
        kind: 0 for brightness, 1 for contrast, 2 for saturation, `(N,)`.
        a: Share of the picture itself, `(N,)`.
        means: Its mean colour, `(N, 3)`.
    """
    weights = tf.constant(GREY)
    to_grey = tf.tile(weights[:, tf.newaxis], [1, 3])  # (3, 3), columns are the weights
    rest = (1 - a)[:, tf.newaxis]  # (N, 1)
    own = a[:, tf.newaxis, tf.newaxis] * tf.eye(3)
    saturated = tf.cast(kind == 2, tf.float32)[:, tf.newaxis]
    contrasted = tf.cast(kind == 1, tf.float32)[:, tf.newaxis]
    grey = tf.reduce_sum(means * weights, axis=1, keepdims=True)  # (N, 1)
    matrix = own + (saturated * rest)[:, tf.newaxis] * to_grey
    return matrix, tf.tile(contrasted * rest * grey, [1, 3])


def _apply(colours: Any, matrix: Any, offset: Any) -> Any:
    """Multiply colours `(N, 3)` by matrices `(N, 3, 3)` and add `(N, 3)`."""
    return tf.einsum("ni,nij->nj", colours, matrix) + offset


def pca_lighting(images: Any, seed: Any, std: float = 0.1) -> Any:
    """Add to each picture a colour drawn along the principal axes of ImageNet's.

    Args:
        images: RGB in 0..255, `(N, H, W, 3)`.
        seed: Two integers, shape `(2,)`.
        std: Standard deviation of the share of each component.
    """
    n = tf.shape(images)[0]
    alphas = tf.random.stateless_normal([n, 3], seed, stddev=std)
    shifts = tf.matmul(alphas * EIGENVALUES, tf.transpose(tf.constant(EIGENVECTORS)))
    return tf.cast(images, tf.float32) + 255 * shifts[:, tf.newaxis, tf.newaxis]
