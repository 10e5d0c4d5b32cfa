"""A picture file decoded in a graph, to the pixels that evaluation sees.

JPEG, PNG, BMP and the first picture of a GIF. They become gray, RGB or RGBA, a JPEG is
turned upright as its EXIF says, and transparent pixels of a PNG or a BMP are laid on
white where alpha is not asked for: as `ImageFolder` does. What is transparent in a GIF
is black, and opaque. What a file declares is checked before memory is taken for it.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_densenet.data.picture_files import decode_jpeg, in_channels

COLORS = {1: "gray", 3: "RGB", 4: "RGBA"}  # what a picture of so many channels is
MAX_PIXELS = 2**25  # 33 million: 0.1 GB decoded

HEADER = 70  # bytes, in which what a file declares is to be found
RED_MASK = 0x00FF0000  # of a BMP whose bytes are blue, green, red, as they are read
ALPHA_MASK = 0xFF000000  # where the fourth byte is alpha,
WITH_ALPHA = 56  # which a header of so many bytes, or more, says
EXIF_WITHIN = 2**17  # bytes of a JPEG; the segment itself may have half as many
EXIF = int.from_bytes(b"Exif", "little")
ORIENTATION = 0x0112  # EXIF's tag
MAX_ENTRIES = 1000


def decode(encoded: Any, channels: int = 3) -> Any:
    """Decode one picture.

    Args:
        encoded: The bytes of a file, a string scalar.
        channels: 1 for gray, 3 for RGB, 4 for RGBA.

    Returns:
        uint8 `(H, W, channels)`.

    Raises:
        tf.errors.InvalidArgumentError: When the graph runs: it is not such a file, it
            is damaged, or it declares more than `MAX_PIXELS`.
    """
    header = _header(encoded)
    kinds: list[tuple[bytes, Callable]] = [
        (b"\xff\xd8\xff", _jpeg),
        (b"\x89PNG\r\n\x1a\n", _png),
        (b"GIF8", _gif),
        (b"BM", _bmp),
    ]
    is_kind = [_begins_with(header, magic) for magic, _ in kinds]
    known = tf.debugging.Assert(
        tf.reduce_any(is_kind), ["This is no JPEG, PNG, GIF or BMP file."]
    )
    with tf.control_dependencies([known]):
        which = tf.argmax(tf.stack(is_kind), output_type=tf.int32)
    image = tf.switch_case(
        which, [lambda read=read: read(encoded, header, channels) for _, read in kinds]
    )
    return tf.ensure_shape(image, [None, None, channels])


def _jpeg(encoded: Any, header: Any, channels: int) -> Any:
    del header
    shape = tf.cast(tf.image.extract_jpeg_shape(encoded), tf.int64)
    with _declared(shape[0], shape[1]):
        image = decode_jpeg(encoded, channels)
        return _turned_upright(image, _exif_orientation(encoded))


def _png(encoded: Any, header: Any, channels: int) -> Any:
    is_wide_gray = (header[24] == 16) & (header[25] == 0)  # bits, and no color or alpha
    with _declared(_number(header[16:20][::-1]), _number(header[20:24][::-1])):
        return tf.cond(
            is_wide_gray,
            lambda: in_channels(_of_sixteen_bits(encoded), channels),
            lambda: _of_rgba(_png_in_color(encoded, header), channels),
        )


def _of_sixteen_bits(png: Any) -> Any:
    """Return 0..65,535 as 0..255, rounded to the nearest."""
    wide = tf.cast(tf.io.decode_png(png, channels=1, dtype=tf.uint16), tf.int32)
    return tf.cast((wide + 128) // 257, tf.uint8)


def _png_in_color(encoded: Any, header: Any) -> Any:
    """Decode to RGBA; of sixteen bits the upper eight are kept."""
    rgba = tf.io.decode_png(encoded, channels=4)
    # Where a pixel has 1, 2 or 4 bits, TensorFlow's opaque is their largest number.
    bits = tf.minimum(header[24], 8)
    opaque = tf.cast(2**bits - 1, tf.uint8)
    alpha = rgba[..., 3:]
    alpha = tf.where(tf.reduce_all(alpha == opaque), tf.constant(255, tf.uint8), alpha)
    return tf.concat([rgba[..., :3], alpha], axis=-1)


def _of_rgba(rgba: Any, channels: int) -> Any:
    """Return RGBA as it is, or laid on white, with other channels."""
    if channels == 4:
        return rgba
    return in_channels(_on_white(rgba[..., :3], rgba[..., 3:]), channels)


def _bmp(encoded: Any, header: Any, channels: int) -> Any:
    height, bits, compression = (
        _number(header[first:last]) for first, last in ((22, 26), (28, 30), (30, 34))
    )
    height = tf.minimum(height, 2**32 - height)  # negative: from the top down
    plain = (compression == 0) & ((bits == 8) | (bits == 24) | (bits == 32))
    masked = (compression == 3) & (bits == 32) & (_number(header[54:58]) == RED_MASK)
    has_alpha = (
        masked
        & (_number(header[14:18]) >= WITH_ALPHA)
        & (_number(header[66:70]) == ALPHA_MASK)
    )
    can_be_read = tf.debugging.Assert(
        plain | masked, ["A BMP must have 8, 24 or 32 bits a pixel, not compressed."]
    )
    with (
        _declared(height, _number(header[18:22])),
        tf.control_dependencies([can_be_read]),
    ):
        color = tf.cond(
            bits == 8,
            lambda: _of_palette(encoded, 14 + _number(header[14:18])),
            lambda: tf.io.decode_bmp(encoded),
        )
    return tf.cond(
        has_alpha,
        lambda: _of_rgba(tf.ensure_shape(color, [None, None, 4]), channels),
        lambda: in_channels(tf.ensure_shape(color[..., :3], [None, None, 3]), channels),
    )


def _of_palette(encoded: Any, first: Any) -> Any:
    data = tf.io.decode_raw(encoded, tf.uint8)[first : first + 4 * 256]
    colors = tf.reshape(data, [-1, 4])[:, 2::-1]  # blue, green, red, nothing
    return tf.gather(colors, tf.cast(tf.io.decode_bmp(encoded)[..., 0], tf.int32))


def _gif(encoded: Any, header: Any, channels: int) -> Any:
    """Decode the first frame alone: the others are not even looked at."""
    data = tf.io.decode_raw(encoded, tf.uint8)
    # Extensions come before it: two bytes, then blocks.
    start = tf.while_loop(
        lambda at: _byte(data, at) == 0x21,
        lambda at: [_after_blocks(data, at + 2)],
        [13 + _color_table(header[10])],
    )[0]
    has_frame = tf.debugging.Assert(
        _byte(data, start) == 0x2C, ["The GIF has no picture."]
    )
    with tf.control_dependencies([has_frame]):
        width, height = _number_at(data, start + 5, 2), _number_at(data, start + 7, 2)
    with _declared(height, width):
        table = _color_table(_byte(data, start + 9))
        end = _after_blocks(data, start + 10 + table + 1)
        frame = tf.strings.join(
            [tf.strings.substr(encoded, tf.zeros_like(end), end), b";"]
        )
        return in_channels(tf.io.decode_gif(frame)[0], channels)


def _color_table(flags: Any) -> Any:
    """Return the length of a GIF's color table; 0 where it has none."""
    return tf.where(flags >= 128, 3 * 2 ** (flags % 8 + 1), 0)


def _after_blocks(data: Any, at: Any) -> Any:
    """Return the place after blocks: each a length and as many bytes, the last 0."""
    last = tf.while_loop(
        lambda at: _byte(data, at) > 0, lambda at: [at + 1 + _byte(data, at)], [at]
    )[0]
    return tf.minimum(last + 1, tf.size(data, tf.int64))


def _declared(height: Any, width: Any) -> Any:
    """Return a context that fails where a file declares too large a picture."""
    fits = tf.debugging.Assert(
        (height > 0) & (width > 0) & (height * width <= MAX_PIXELS),
        [f"A picture must have 1 to {MAX_PIXELS:,} pixels. It has", height, width],
    )
    return tf.control_dependencies([fits])


def _exif_orientation(jpeg: Any) -> Any:
    """Return EXIF's orientation, 1..8; 1 where there is none."""
    data = tf.io.decode_raw(tf.strings.substr(jpeg, 0, EXIF_WITHIN), tf.uint8)

    def is_another_segment(at: Any) -> Any:
        kind = _byte(data, at + 1)
        is_header = ((kind >= 0xE0) & (kind <= 0xEF)) | (kind == 0xFE)
        is_exif = (kind == 0xE1) & (_number_at(data, at + 4, 4) == EXIF)
        return (_byte(data, at) == 0xFF) & is_header & ~is_exif

    segment = tf.while_loop(
        is_another_segment,
        lambda at: [at + 2 + _number_at(data, at + 2, 2, little=False)],
        [tf.constant(2, tf.int64)],
    )[0]
    has_exif = _number_at(data, segment + 4, 4) == EXIF
    start = segment + 10
    little = _byte(data, start) == ord("I")
    directory = start + _number_at(data, start + 4, 4, little)
    entries = tf.minimum(_number_at(data, directory, 2, little), MAX_ENTRIES)
    places = directory + 2 + 12 * tf.range(entries)
    is_orientation = _number_at(data, places, 2, little) == ORIENTATION
    values = _number_at(data, places + 8, 2, little)
    value = tf.reduce_max(tf.where(is_orientation, values, 1))
    return tf.where(has_exif & (value >= 1) & (value <= 8), value, 1)


def _byte(data: Any, at: Any) -> Any:
    """Return the bytes at places as numbers; 0 after the end."""
    size = tf.size(data, tf.int64)
    value = tf.gather(data, tf.clip_by_value(at, 0, size - 1))
    return tf.where(at < size, tf.cast(value, tf.int64), 0)


def _number_at(data: Any, at: Any, length: int, little: Any = True) -> Any:
    """Return the numbers that `length` bytes are, at places."""
    digits = [_byte(data, at + n) for n in range(length)]
    up = sum(digit * 256**n for n, digit in enumerate(digits))
    down = sum(digit * 256**n for n, digit in enumerate(reversed(digits)))
    return tf.where(little, up, down)


def _number(little_endian: Any) -> Any:
    """Return the number that bytes are, the lowest first."""
    places = tf.constant([256**n for n in range(little_endian.shape[0])], tf.int64)
    return tf.reduce_sum(little_endian * places)


def _header(encoded: Any) -> Any:
    """Return the first bytes of a file as numbers, zeros where it ends before."""
    start = tf.strings.substr(encoded, 0, HEADER)
    return tf.cast(tf.io.decode_raw(start, tf.uint8, fixed_length=HEADER), tf.int64)


def _begins_with(header: Any, magic: bytes) -> Any:
    return tf.reduce_all(header[: len(magic)] == tf.constant(list(magic), tf.int64))


# --- pixels ----------------------------------------------------------------------


def _on_white(color: Any, alpha: Any) -> Any:
    """Lay a picture on white, rounded as Pillow does; what is opaque stays."""
    color, alpha = tf.cast(color, tf.uint16), tf.cast(alpha, tf.uint16)
    mixed = color * alpha + 255 * (255 - alpha) + 128  # below 2^16
    shift, eight = tf.bitwise.right_shift, tf.constant(8, tf.uint16)
    return tf.cast(shift(shift(mixed, eight) + mixed, eight), tf.uint8)


def _turned_upright(image: Any, orientation: Any) -> Any:
    """Turn a picture as EXIF's orientation 1..8 asks for."""
    upside, aside = [0], [1]  # axes to reverse

    def transposed() -> Any:
        # By the numbers of the pixels: of a transpose of bytes, TensorFlow logs on many
        # processors that oneDNN has none.
        height, width = tf.unstack(tf.shape(image)[:2])
        numbers = tf.range(height) * width + tf.range(width)[:, tf.newaxis]  # (W, H)
        return tf.gather(tf.reshape(image, [-1, image.shape[-1]]), numbers)

    return tf.switch_case(
        tf.cast(orientation - 1, tf.int32),
        [
            lambda: image,
            lambda: tf.reverse(image, aside),
            lambda: tf.reverse(image, upside + aside),
            lambda: tf.reverse(image, upside),
            transposed,
            lambda: tf.reverse(transposed(), aside),
            lambda: tf.reverse(transposed(), upside + aside),
            lambda: tf.reverse(transposed(), upside),
        ],
    )
