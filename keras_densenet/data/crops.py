"""Pictures of any size are made one size: for training at random, else by the center.

Each function takes pixels in 0..255 and returns float32 in about 0..255: bicubic
interpolation can leave the range a little.
"""

import math

import tensorflow as tf

from keras_densenet.tensor import Tensor

Size = int | tuple[int, int]  # of a square; or height and width

FITS = ("crop", "pad", "squash")  # how a whole picture becomes one of that size

ATTEMPTS = 10
STRIP = 8  # times as long as what is cut out of it


def sides(size: Size) -> tuple[int, int]:
    """Return height and width, of which a square's side may be given alone.

    >>> sides(224), sides((192, 256))
    ((224, 224), (192, 256))
    """
    return (size, size) if isinstance(size, int) else size


def fit_of(fit: str | None, size: int | tuple[int, ...]) -> str | None:
    """Return how a whole picture is made `size`; None leaves it to the size.

    Signals and volumes are read in the size that they have: of theirs it is None.

    Args:
        fit: "crop", "pad" or "squash", as `resize_to_input` takes it; None for "crop"
            where `size` is a square, and "squash" where it is none.
        size: Height and width of the result, in pixels; one number for both. Of a
            signal `(T,)`, of a volume `(D, H, W)`.

    Raises:
        ValueError: It is something else, or not of pictures.

    >>> fit_of(None, 224), fit_of(None, (192, 256)), fit_of("pad", 224)
    ('crop', 'squash', 'pad')
    >>> fit_of(None, (64, 64, 64)) is None
    True
    """
    if isinstance(size, tuple) and len(size) != 2:
        if fit is not None:
            raise ValueError(
                "fit says how a picture becomes what a network reads; signals and "
                "volumes are read in the size that they have. Leave it out. Received: "
                f"fit={fit!r} for the size {size}"
            )
        return None
    if fit is None:
        return "squash" if len({*sides(size)}) > 1 else "crop"
    if fit not in FITS:
        raise ValueError(
            'fit must be "crop", to cut the center out, "pad", to resize the whole '
            'picture and fill up with black, "squash", to resize it to other '
            "proportions, or None, for crop where image_size is a square and squash "
            f"where it is none. Received: fit={fit!r}"
        )
    return fit


def random_resized_crop(
    image: Tensor,
    seed: Tensor,
    size: Size = 224,
    *,
    area: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    method: str = "bicubic",
) -> Tensor:
    """Cut a random window out of a picture and resize it, as fb.resnet.torch does.

    Args:
        image: One picture `(H, W, channels)`.
        seed: Two integers, shape `(2,)`.
        size: Height and width of the result, in pixels; one number for both.
        area: Least and largest share of the picture's area.
        ratio: Least and largest ratio of the window's sides, where the result is a
            square. Where it is not, they are multiplied by its width / height.
        method: Method of `tf.image.resize`, which smooths first where it makes pictures
            smaller.

    Returns:
        `(height, width, channels)`.
    """
    height, width = tf.unstack(tf.shape(image)[:2])
    rows, columns = sides(size)
    shape = columns / rows
    window = random_window(height, width, seed, area=area, ratio=ratio, shape=shape)
    top, left, h, w = tf.unstack(window)
    return _resize(image[top : top + h, left : left + w], [rows, columns], method)


def random_window(
    height: Tensor,
    width: Tensor,
    seed: Tensor,
    *,
    area: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    shape: float = 1.0,
) -> Tensor:
    """Draw ten windows, and take the first that fits into the picture.

    As in fb.resnet.torch, share of the area and ratio are uniform, and the sides are
    swapped in half of the cases. If none fits, it is the square at the center, or the
    largest window of another `shape` there.

    Args:
        height: Height of the picture in pixels, an int32.
        width: Width of the picture in pixels, an int32.
        seed: Two integers, shape `(2,)`.
        area: Least and largest share of the picture's area.
        ratio: Least and largest ratio of the window's sides, before `shape`.
        shape: Width / height of what the window is resized to: the ratio that does not
            distort it.

    Returns:
        Top, left, height and width, int32 `(4,)`.
    """
    drawn = tf.random.stateless_uniform([ATTEMPTS, 5], seed)
    areas, ratios, coins, ys, xs = tf.unstack(drawn, axis=1)
    pixels = tf.cast(height * width, tf.float32)
    areas = (area[0] + areas * (area[1] - area[0])) * pixels
    ratios = ratio[0] + ratios * (ratio[1] - ratio[0])
    ratios = tf.where(coins < 0.5, 1 / ratios, ratios) * shape
    rows = tf.cast(tf.round(tf.sqrt(areas / ratios)), tf.int32)
    columns = tf.cast(tf.round(tf.sqrt(areas * ratios)), tf.int32)
    # The last row is the window at the center, which always fits.
    h, w = _largest_window(height, width, shape)
    rows, columns = tf.concat([rows, [h]], 0), tf.concat([columns, [w]], 0)
    middle = tf.constant([0.5])
    tops = _offset(tf.concat([ys, middle], 0), height - rows)
    lefts = _offset(tf.concat([xs, middle], 0), width - columns)
    fits = (rows <= height) & (columns <= width) & (rows > 0) & (columns > 0)
    first = tf.argmax(fits)  # the first of the largest
    return tf.stack([tops, lefts, rows, columns], axis=1)[first]


def _largest_window(height: Tensor, width: Tensor, shape: float) -> tuple:
    """Return height and width of the largest window whose ratio is `shape`."""
    if shape == 1:
        side = tf.minimum(height, width)
        return side, side
    h, w = tf.cast(height, tf.float64), tf.cast(width, tf.float64)
    most = tf.stack([tf.minimum(h, w / shape), tf.minimum(w, h * shape)])
    return tuple(tf.unstack(tf.maximum(tf.cast(tf.round(most), tf.int32), 1)))


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
    there = tf.shape(image)[-3:-1]
    shortest = tf.reduce_min(there)
    rounded = (there * short_side + shortest // 2) // shortest
    return _resize(image, rounded, method)


def center_crop(image: Tensor, size: Size = 224) -> Tensor:
    """Cut the center out of pictures that are at least as large.

    Where it cannot be in the middle, it is one pixel nearer to the bottom or to
    the right, as in fb.resnet.torch.

    Args:
        image: `(H, W, channels)`, or pictures of one size `(N, H, W, channels)`.
        size: Height and width of the result, in pixels; one number for both.
    """
    top, left = tf.unstack((tf.shape(image)[-3:-1] - sides(size) + 1) // 2)
    return _cut(image, top, left, size)


def resize_and_center_crop(
    image: Tensor, size: Size = 224, short_side: int = 256, method: str = "bicubic"
) -> Tensor:
    """Prepare pictures for evaluation: resize to the short side, cut the center out.

    Where `size` is no square, the picture is resized to cover it, scaled in the same
    way: see `resize_over`. The far ends of a long strip are cut off first: resized, it
    would be huge.

    Args:
        image: `(H, W, channels)`, or pictures of one size `(N, H, W, channels)`.
        size: Height and width of the result, in pixels; one number for both.
        short_side: Pixels of the short side before the center is cut out.
        method: Method of `tf.image.resize`.
    """
    near = _without_far_ends(image, size)
    return center_crop(resize_over(near, size, short_side, method), size)


def resize_and_pad(image: Tensor, size: Size = 224, method: str = "bicubic") -> Tensor:
    """Resize a whole picture, undistorted, to fit into `size`, and fill up with black.

    It is in the middle: where what is filled up is odd, there is one row or column more
    at the bottom or on the right. Black is 0, which in an alpha channel is transparent.

    Args:
        image: `(H, W, channels)`, or pictures of one size `(N, H, W, channels)`.
        size: Height and width of the result, in pixels; one number for both.
        method: Method of `tf.image.resize`.
    """
    room = tf.constant(sides(size), tf.float64)
    there = tf.cast(tf.shape(image)[-3:-1], tf.float64)
    scaled = tf.round(there * tf.reduce_min(room / there))
    inside = tf.cast(tf.clip_by_value(scaled, 1.0, room), tf.int32)
    resized = _resize(image, inside, method)
    around = tf.constant(sides(size)) - inside
    before = around // 2
    paddings = tf.stack([before, around - before], axis=1)  # of height and of width
    others = tf.zeros([len(image.shape) - 3, 2], tf.int32), tf.zeros([1, 2], tf.int32)
    padded = tf.pad(resized, tf.concat([others[0], paddings, others[1]], axis=0))
    return tf.ensure_shape(padded, [*image.shape[:-3], *sides(size), image.shape[-1]])


def resize_to_input(
    image: Tensor,
    size: Size,
    short_side: int,
    method: str = "bicubic",
    fit: str | None = None,
) -> Tensor:
    """Prepare pictures for a network, as all that is not trained on is prepared.

    Args:
        image: `(H, W, channels)`, or pictures of one size `(N, H, W, channels)`.
        size: Height and width of what the network reads; one number for both.
        short_side: Pixels of the short side before the center is cut out, by "crop"
            alone.
        method: Method of `tf.image.resize`.
        fit: "crop" cuts the center out, as `resize_and_center_crop` does; "pad" resizes
            the whole picture and fills up with black, as `resize_and_pad` does;
            "squash" resizes it to height and width, whatever its proportions. None
            for "crop" where `size` is a square, and "squash" where it is none.

    Raises:
        ValueError: `fit` is something else.
    """
    fit = fit_of(fit, size)
    if fit == "crop":
        return resize_and_center_crop(image, size, short_side, method)
    if fit == "pad":
        return resize_and_pad(image, size, method)
    return _resize(image, sides(size), method)


def resize_over(
    image: Tensor, size: Size, short_side: int, method: str = "bicubic"
) -> Tensor:
    """Resize pictures so that views of `size` can be cut out at several places.

    The result is as large as it must be to cover `size`, scaled so that its short side
    is `short_side`: 256 by 342 or more where views are 192 by 256 and that is 256.

    Args:
        image: `(H, W, channels)`, or pictures of one size `(N, H, W, channels)`.
        size: Height and width of the views; one number for both.
        short_side: What the short side of `size` is scaled to, in pixels.
        method: Method of `tf.image.resize`.
    """
    height, width = sides(size)
    if height == width:
        return resize_short_side(image, short_side, method)
    scale = short_side / min(height, width)
    least = [math.ceil(height * scale), math.ceil(width * scale)]
    there = tf.shape(image)[-3:-1]
    factor = tf.reduce_max(tf.constant(least, tf.float64) / tf.cast(there, tf.float64))
    scaled = tf.cast(tf.round(tf.cast(there, tf.float64) * factor), tf.int32)
    return _resize(image, tf.maximum(scaled, least), method)


def _without_far_ends(image: Tensor, size: Size) -> Tensor:
    """Cut the sides to at most `STRIP` times those of the largest window of `size`.

    About the center. Of a square that is the short side.
    """
    height, width = sides(size)
    there = tf.shape(image)[-3:-1]
    window = tf.stack(_largest_window(there[0], there[1], width / height))
    kept = tf.minimum(there, STRIP * window)
    (top, left), (rows, columns) = tf.unstack((there - kept) // 2), tf.unstack(kept)
    return image[..., top : top + rows, left : left + columns, :]


def ten_crop(image: Tensor, size: Size = 224) -> Tensor:
    """Return ten views of each picture: center, corners, and those of its mirror image.

    The order is fb.resnet.torch's: center, top left, top right, bottom left, bottom
    right of the picture, then the same five places of the mirrored picture. The answer
    for a picture is that of the mean of its ten logits or log-probabilities.

    Args:
        image: `(H, W, channels)`, or pictures of one size `(N, H, W, channels)`, at
            least `size` high and wide; evaluation resizes the short side to 256 first.
        size: Height and width of each view, in pixels; one number for both.

    Returns:
        `(10, height, width, channels)`, or `(N, 10, height, width, channels)`.
    """
    bottom, right = tf.unstack(tf.shape(image)[-3:-1] - sides(size))
    center = (bottom + 1) // 2, (right + 1) // 2  # as `center_crop`
    places = [center, (0, 0), (0, right), (bottom, 0), (bottom, right)]
    views = [
        _cut(picture, top, left, size)
        for picture in (image, tf.reverse(image, axis=[-2]))
        for top, left in places
    ]
    return tf.stack(views, axis=-4)


def _cut(image: Tensor, top: Tensor, left: Tensor, size: Size) -> Tensor:
    height, width = sides(size)
    cut = image[..., top : top + height, left : left + width, :]
    return tf.ensure_shape(cut, [*image.shape[:-3], height, width, image.shape[-1]])


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
