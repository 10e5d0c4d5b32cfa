"""Pictures of any size are made one size: for training at random, else by the center.

Each function takes pixels in 0..255 and returns float32 in about 0..255: bicubic
interpolation can leave the range a little.
"""

import tensorflow as tf

from keras_densenet.tensor import Tensor

ATTEMPTS = 10
STRIP = 8  # times as long as wide


def random_resized_crop(
    image: Tensor,
    seed: Tensor,
    size: int = 224,
    *,
    area: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    method: str = "bicubic",
) -> Tensor:
    """Cut a random window out of a picture and resize it, as fb.resnet.torch does.

    Args:
        image: One picture `(H, W, channels)`.
        seed: Two integers, shape `(2,)`.
        size: Height and width of the result, in pixels.
        area: Least and largest share of the picture's area.
        ratio: Least and largest ratio of the window's sides.
        method: Method of `tf.image.resize`, which smooths first where it makes pictures
            smaller.

    Returns:
        `(size, size, channels)`.
    """
    height, width = tf.unstack(tf.shape(image)[:2])
    window = random_window(height, width, seed, area=area, ratio=ratio)
    top, left, rows, columns = tf.unstack(window)
    cut = image[top : top + rows, left : left + columns]
    return _resize(cut, [size, size], method)


def random_window(
    height: Tensor,
    width: Tensor,
    seed: Tensor,
    *,
    area: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Tensor:
    """Draw ten windows, and take the first that fits into the picture.

    As in fb.resnet.torch, share of the area and ratio are uniform, and the sides are
    swapped in half of the cases. If none fits, it is the square at the center.

    Args:
        height: Height of the picture in pixels, an int32.
        width: Width of the picture in pixels, an int32.
        seed: Two integers, shape `(2,)`.
        area: Least and largest share of the picture's area.
        ratio: Least and largest ratio of the window's sides.

    Returns:
        Top, left, height and width, int32 `(4,)`.
    """
    drawn = tf.random.stateless_uniform([ATTEMPTS, 5], seed)
    areas, ratios, coins, ys, xs = tf.unstack(drawn, axis=1)
    pixels = tf.cast(height * width, tf.float32)
    areas = (area[0] + areas * (area[1] - area[0])) * pixels
    ratios = ratio[0] + ratios * (ratio[1] - ratio[0])
    ratios = tf.where(coins < 0.5, 1 / ratios, ratios)
    rows = tf.cast(tf.round(tf.sqrt(areas / ratios)), tf.int32)
    columns = tf.cast(tf.round(tf.sqrt(areas * ratios)), tf.int32)
    # The last row is the square at the center, which always fits.
    square = tf.minimum(height, width)[tf.newaxis]
    rows, columns = (tf.concat([sides, square], 0) for sides in (rows, columns))
    middle = tf.constant([0.5])
    tops = _offset(tf.concat([ys, middle], 0), height - rows)
    lefts = _offset(tf.concat([xs, middle], 0), width - columns)
    fits = (rows <= height) & (columns <= width) & (rows > 0) & (columns > 0)
    first = tf.argmax(fits)  # the first of the largest
    return tf.stack([tops, lefts, rows, columns], axis=1)[first]


def _offset(share: Tensor, room: Tensor) -> Tensor:
    """Return one of the places 0..room, each with the same probability."""
    place = tf.cast(share * tf.cast(room + 1, tf.float32), tf.int32)
    return tf.minimum(place, room)  # in case that the product was rounded up


def resize_short_side(
    image: Tensor, short_side: int, method: str = "bicubic"
) -> Tensor:
    """Resize a picture so that its short side has `short_side` pixels.

    Args:
        image: `(H, W, channels)`, or pictures of one size `(N, H, W, channels)`.
        short_side: Pixels of the short side of the result.
        method: Method of `tf.image.resize`.
    """
    sides = tf.shape(image)[-3:-1]
    shortest = tf.reduce_min(sides)
    rounded = (sides * short_side + shortest // 2) // shortest
    return _resize(image, rounded, method)


def center_crop(image: Tensor, size: int = 224) -> Tensor:
    """Cut the square at the center out of pictures that are at least as large.

    Where the square cannot be in the middle, it is one pixel nearer to the bottom or to
    the right, as in fb.resnet.torch.

    Args:
        image: `(H, W, channels)`, or pictures of one size `(N, H, W, channels)`.
        size: Height and width of the result, in pixels.
    """
    sides = tf.shape(image)[-3:-1]
    top, left = tf.unstack((sides - size + 1) // 2)
    return _cut(image, top, left, size)


def resize_and_center_crop(
    image: Tensor, size: int = 224, short_side: int = 256, method: str = "bicubic"
) -> Tensor:
    """Prepare pictures for evaluation: resize to the short side, cut the center out.

    The far ends of a long strip are cut off first: resized, it would be huge.

    Args:
        image: `(H, W, channels)`, or pictures of one size `(N, H, W, channels)`.
        size: Height and width of the result, in pixels.
        short_side: Pixels of the short side before the center is cut out.
        method: Method of `tf.image.resize`.
    """
    resized = resize_short_side(_without_far_ends(image), short_side, method)
    return center_crop(resized, size)


def _without_far_ends(image: Tensor) -> Tensor:
    """Cut the long side to at most `STRIP` times the short one, about the center."""
    sides = tf.shape(image)[-3:-1]
    kept = tf.minimum(sides, STRIP * tf.reduce_min(sides))
    (top, left), (rows, columns) = tf.unstack((sides - kept) // 2), tf.unstack(kept)
    return image[..., top : top + rows, left : left + columns, :]


def ten_crop(image: Tensor, size: int = 224) -> Tensor:
    """Return ten views of each picture: center, corners, and those of its mirror image.

    The order is fb.resnet.torch's: center, top left, top right, bottom left, bottom
    right of the picture, then the same five places of the mirrored picture. The answer
    for a picture is that of the mean of its ten logits or log-probabilities.

    Args:
        image: `(H, W, channels)`, or pictures of one size `(N, H, W, channels)`, at
            least `size` high and wide; evaluation resizes the short side to 256 first.
        size: Height and width of each view, in pixels.

    Returns:
        `(10, size, size, channels)`, or `(N, 10, size, size, channels)`.
    """
    height, width = tf.unstack(tf.shape(image)[-3:-1])
    bottom, right = height - size, width - size
    center = (bottom + 1) // 2, (right + 1) // 2  # as `center_crop`
    places = [center, (0, 0), (0, right), (bottom, 0), (bottom, right)]
    views = [
        _cut(picture, top, left, size)
        for picture in (image, tf.reverse(image, axis=[-2]))
        for top, left in places
    ]
    return tf.stack(views, axis=-4)


def _cut(image: Tensor, top: Tensor, left: Tensor, size: int) -> Tensor:
    cut = image[..., top : top + size, left : left + size, :]
    return tf.ensure_shape(cut, [*image.shape[:-3], size, size, image.shape[-1]])


def _resize(image: Tensor, size: Tensor, method: str) -> Tensor:
    """Resize as `tf.image.resize` with antialias: the same bits in a third of the time.

    TensorFlow takes the height first, a whole row at a time, and then the width, pixel
    by pixel. Turned on its side, the width is taken a row at a time, too.
    """
    height, width = size[0], size[1]
    # Whole numbers are made floats as they are read: 33 million pixels take 0.1 GB.
    images = image if len(image.shape) == 4 else image[tf.newaxis]
    images = _resize_height(images, height, method)
    turned = tf.transpose(images, [0, 2, 1, 3])  # (N, W, H, channels)
    images = tf.transpose(_resize_height(turned, width, method), [0, 2, 1, 3])
    images = tf.cast(images if len(image.shape) == 4 else images[0], tf.float32)
    known = [tf.get_static_value(side) for side in (height, width)]
    return tf.ensure_shape(images, [*image.shape[:-3], *known, image.shape[-1]])


def _resize_height(images: Tensor, height: Tensor, method: str) -> Tensor:
    n, before, width, channels = tf.unstack(tf.shape(images))
    rows = tf.reshape(images, [n, before, 1, width * channels])
    rows = tf.image.resize(rows, (height, 1), method, antialias=True)
    return tf.reshape(rows, [n, height, width, channels])
