"""Picture files of every kind: checking and decoding them.

JPEGs, as most are, are decoded by TensorFlow, everything else by Pillow: CMYK, 16 bits,
palettes, transparency, EXIF's orientation, animations. Both use libjpeg-turbo with its
accurate transform, and decode to the same pixels, to the bit.

A picture is decoded to 1 channel, gray, to 3, RGB, or to 4, RGBA. Gray is made of RGB
whatever the file is, by Pillow's weights. A JPEG has a gray of its own, its luma, which
differs from that by up to 2 in 255: it is not used.
"""

import os
import warnings
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

from keras_densenet.data.label_balance import has_label
from keras_densenet.data.pixel_range import (
    brightest,
    has_wide_pixels,
    refuse_unknown_range,
    to_eight_bits,
    white_of,
)
from keras_densenet.tensor import Tensor

NAMED = 5  # broken files that an error or a warning names
LOOKED_AT = 256  # files, before it is asked whether one of them is broken
ORIENTATION = 0x0112  # of EXIF; 1 is upright
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's, by the number of channels
LUMA = (19_595, 38_470, 7_471)  # red, green, blue of 65,536, as Pillow makes gray


class BrokenPictureError(ValueError):
    """A file is not a picture, or not a whole one."""


class PictureFiles(NamedTuple):
    """Picture files and their labels.

    Attributes:
        paths: Paths of the files, `(N,)`.
        labels: Class numbers, int64 `(N,)`; or, where a picture may have several
            labels, float32 `(N, classes)`: 1 where it has one, 0 where it has not, NaN
            where that is not known.
        groups: Names of what belongs together, such as a patient, `(N,)`; None for each
            picture by itself.
        masks: Paths of the masks, `(N,)`, which say the class of each pixel; labels are
            then 0 and mean nothing. None where pictures have labels.
    """

    paths: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None = None
    masks: np.ndarray | None = None

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.labels)

    def at(self, numbers: Tensor) -> "PictureFiles":
        """Return some of them, by their numbers or by a mask."""
        return PictureFiles(
            self.paths[numbers],
            self.labels[numbers],
            None if self.groups is None else self.groups[numbers],
            None if self.masks is None else self.masks[numbers],
        )

    def followed_by(self, others: "PictureFiles") -> "PictureFiles":
        """Return these and others; of both there are groups and masks, or of none."""
        return PictureFiles(
            np.concatenate([self.paths, others.paths]),
            np.concatenate([self.labels, others.labels]),
            _both(self.groups, others.groups),
            _both(self.masks, others.masks),
        )

    def has_label(self, classes: int) -> np.ndarray:
        """Return whether each picture has each label, bool `(N, classes)`."""
        return has_label(self.labels, classes)


def _both(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
    return None if one is None or other is None else np.concatenate([one, other])


class Looked(NamedTuple):
    """What was found out about picture files when each was decoded once.

    Attributes:
        plain: Whether TensorFlow decodes each rightly, bool `(N,)`.
        broken: The reasons, by path, of the files that cannot be decoded at all.
        brightest: The largest pixel of each picture of sixteen bits, as a share of its
            range, 0..1, float `(N,)`; NaN of the others.
    """

    plain: np.ndarray
    broken: dict[str, str]
    brightest: np.ndarray


def check(
    paths: Iterable[str], known: dict[str, bool | float | str] | None = None
) -> Looked:
    """Decode each picture once, several at a time.

    Args:
        paths: Paths of the files.
        known: What was found out about files before, which are not decoded again; what
            is found out about others is added.
    """
    paths = list(paths)
    known = {} if known is None else known
    others = [path for path in paths if path not in known]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        known.update(zip(others, pool.map(_checked, others), strict=True))
    answers = [known[path] for path in paths]
    return Looked(
        np.array([answer is True for answer in answers], bool),
        {
            path: answer
            for path, answer in zip(paths, answers, strict=True)
            if isinstance(answer, str)
        },
        np.array([a if isinstance(a, float) else np.nan for a in answers], float),
    )


def first_broken(paths: Iterable[str]) -> str | None:
    """Return path and reason of one file that cannot be decoded; None if there is none.

    Files that were changed last are looked at first. Those that are gone are not meant.
    """
    there = [path for path in paths if os.path.exists(path)]
    latest = sorted(there, key=os.path.getmtime, reverse=True)
    for first in range(0, len(latest), LOOKED_AT):
        broken = check(latest[first : first + LOOKED_AT]).broken
        if broken:
            return named(broken).strip()
    return None


def _checked(path: str) -> bool | float | str:
    """Return whether TensorFlow decodes a picture rightly; a reason if nothing does.

    Of a picture of sixteen bits, which it does not, return the brightest pixel's share.
    """
    try:
        with Image.open(path) as image:
            wide, white = has_wide_pixels(image), white_of(image)
            if _is_plain(image) and _tensorflow_decodes(path):
                return True
            _in_mode(image, "RGB")
            return brightest(image, white) if wide else False
    except Exception as error:  # Pillow raises of every kind
        return _reason(path, error)


def _tensorflow_decodes(path: str) -> bool:
    """Try to decode a picture at an eighth of its size, which takes half the time."""
    try:
        tf.io.decode_jpeg(tf.io.read_file(os.fsencode(path)), ratio=8)
    except tf.errors.OpError:
        return False
    return True


def _is_plain(image: Image.Image) -> bool:
    """Return whether TensorFlow decodes a picture to the pixels that it should have."""
    if image.format != "JPEG" or image.mode not in ("L", "RGB"):
        return False
    return image.getexif().get(ORIENTATION, 1) == 1


def refuse_broken(broken: dict[str, str], pictures: int) -> None:
    """Name the broken files in an error, if there are any.

    Args:
        broken: Why each of them cannot be decoded, by path.
        pictures: Number of files that were looked at.

    Raises:
        BrokenPictureError: There are broken files.
    """
    if not broken:
        return
    raise BrokenPictureError(
        f"{len(broken)} of {pictures} pictures cannot be read. Repair or delete them, "
        f"or leave them out with on_error='skip':\n{named(broken)}"
    )


def warn_of_broken(broken: Mapping[str, str], split: str, *, stacklevel: int) -> None:
    """Count and name the broken files that are left out, if there are any.

    Args:
        broken: Why each of them cannot be decoded, by path.
        split: What they were to be used for; "" for nothing in particular.
        stacklevel: Of `warnings.warn`, as seen from the caller.
    """
    if broken:
        what = f"{split} pictures" if split else "pictures"
        warnings.warn(
            f"{len(broken)} {what} cannot be read and are left out:\n{named(broken)}",
            stacklevel=stacklevel,
        )


def named(broken: Mapping[str, str]) -> str:
    """Return a line for each of the first broken files, and the number of others."""
    lines = [f"  {path}: {reason}" for path, reason in sorted(broken.items())]
    if len(lines) > NAMED:
        lines[NAMED:] = [f"  and {len(lines) - NAMED} more"]
    return "\n".join(lines)


def read_picture(path: Tensor, plain: Tensor, channels: int = 3) -> Tensor:
    """Read one picture, in a graph.

    Args:
        path: Path of the file, a string tensor.
        plain: Whether TensorFlow decodes it rightly, as `check` found out. False is
            always right, and slower.
        channels: 1 for gray, 3 for RGB, 4 for RGBA.

    Returns:
        uint8 `(H, W, channels)`.
    """
    image = tf.cond(
        plain,
        lambda: decode_jpeg(tf.io.read_file(path), channels),
        lambda: tf.numpy_function(
            _decode_named, [path, channels], tf.uint8, stateful=False
        ),
    )
    return tf.ensure_shape(image, [None, None, channels])


def decode_jpeg(encoded: Tensor, channels: int = 3) -> Tensor:
    """Decode a plain JPEG in a graph, accurately: uint8 `(H, W, channels)`."""
    stored = 0 if channels == 1 else 3  # 0: one channel where the file is gray
    image = tf.io.decode_jpeg(encoded, stored, dct_method="INTEGER_ACCURATE")
    if channels == 1:
        is_gray = tf.shape(image)[-1] == 1
        image = tf.cond(is_gray, lambda: image, lambda: gray(image))
        return tf.ensure_shape(image, [None, None, 1])
    return in_channels(image, channels)


def in_channels(opaque: Tensor, channels: int) -> Tensor:
    """Return a picture with other channels, in a graph.

    Args:
        opaque: Gray or RGB, uint8 `(H, W, 1)` or `(H, W, 3)`.
        channels: 1 for gray, 3 for RGB, 4 for RGBA with an alpha of 255.
    """
    is_gray = opaque.shape[-1] == 1
    if channels == 1:
        return opaque if is_gray else gray(opaque)
    rgb = tf.repeat(opaque, 3, axis=-1) if is_gray else opaque
    if channels == 3:
        return rgb
    alpha = tf.fill(tf.shape(rgb[..., :1]), tf.constant(255, tf.uint8))
    return tf.concat([rgb, alpha], axis=-1)


def gray(image: Tensor) -> Tensor:
    """Return RGB `(H, W, 3)` as gray `(H, W, 1)`, uint8, to the bit as Pillow does."""
    weighed = [
        tf.cast(image[..., color : color + 1], tf.int32) * weight
        for color, weight in enumerate(LUMA)
    ]
    total = sum(weighed, start=tf.constant(2**15))
    return tf.cast(tf.bitwise.right_shift(total, 16), tf.uint8)


def _decode_named(path: bytes, channels: int) -> np.ndarray:
    name = os.fsdecode(path)
    try:
        return decode(name, int(channels))
    except Exception as error:
        reason = _reason(name, error)
        raise BrokenPictureError(
            f"{name} cannot be read: {reason}. Repair or delete it; with "
            "check_files=True such files are found before training, and left out with "
            "on_error='skip'."
        ) from error


def decode(path: str | os.PathLike, channels: int = 3) -> np.ndarray:
    """Decode a picture of any kind with Pillow.

    Of an animation it is the first frame. Sixteen bits become eight. What is
    transparent is laid on white, or keeps its alpha with 4 channels. EXIF's orientation
    is obeyed.

    Args:
        path: Path of the file.
        channels: 1 for gray, 3 for RGB, 4 for RGBA.

    Returns:
        uint8 `(H, W, channels)`.

    Raises:
        Exception: The file is broken; the kind of exception is the decoder's.
    """
    with Image.open(path) as image:
        return np.atleast_3d(np.array(_in_mode(image, MODES[channels])))


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    refuse_unknown_range(image)
    white = white_of(image)
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        return to_eight_bits(upright, white).convert(mode)
    if upright.has_transparency_data:
        rgba = upright.convert("RGBA")
        return rgba if mode == "RGBA" else _on_white(rgba).convert(mode)
    return upright.convert("RGB").convert(mode)  # gray of a palette is rounded else


def _on_white(image: Image.Image) -> Image.Image:
    paper = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(paper, image).convert("RGB")


def _reason(path: str, error: Exception) -> str:
    try:
        if os.path.getsize(path) == 0:
            return "the file is empty"
    except OSError as missing:
        return str(missing)
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is no picture of a known format"
    return f"{error}" or type(error).__name__
