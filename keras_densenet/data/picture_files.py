"""Picture files of every kind: checking and decoding them.

JPEGs, as most are, are decoded by TensorFlow, everything else by Pillow: CMYK, 16 bits,
palettes, transparency, EXIF's orientation, animations. Both use libjpeg-turbo with its
accurate transform, and decode to the same pixels, to the bit.
"""

import os
import warnings
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

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


class BrokenPictureError(ValueError):
    """A file is not a picture, or not a whole one."""


class PictureFiles(NamedTuple):
    """Picture files and their labels.

    Attributes:
        paths: Paths of the files, `(N,)`.
        labels: Class numbers, int64 `(N,)`.
    """

    paths: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.labels)

    def at(self, numbers: Tensor) -> "PictureFiles":
        """Return some of them, by their numbers or by a mask."""
        return PictureFiles(self.paths[numbers], self.labels[numbers])


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


def check(paths: Iterable[str]) -> Looked:
    """Decode each picture once, several at a time.

    Args:
        paths: Paths of the files.
    """
    paths = list(paths)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        answers = list(pool.map(_checked, paths))
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
            _to_rgb(image)
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


def read_picture(path: Tensor, plain: Tensor) -> Tensor:
    """Read one picture, in a graph.

    Args:
        path: Path of the file, a string tensor.
        plain: Whether TensorFlow decodes it rightly, as `check` found out. False is
            always right, and slower.

    Returns:
        uint8 `(H, W, 3)`.
    """
    image = tf.cond(
        plain,
        lambda: decode_jpeg(tf.io.read_file(path)),
        lambda: tf.numpy_function(_decode_named, [path], tf.uint8, stateful=False),
    )
    return tf.ensure_shape(image, [None, None, 3])


def decode_jpeg(encoded: Tensor) -> Tensor:
    """Decode a plain JPEG in a graph, accurately."""
    return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


def _decode_named(path: bytes) -> np.ndarray:
    name = os.fsdecode(path)
    try:
        return decode(name)
    except Exception as error:
        reason = _reason(name, error)
        raise BrokenPictureError(
            f"{name} cannot be read: {reason}. Repair or delete it; with "
            "check_files=True such files are found before training, and left out with "
            "on_error='skip'."
        ) from error


def decode(path: str | os.PathLike) -> np.ndarray:
    """Decode a picture of any kind with Pillow.

    Of an animation it is the first frame. Sixteen bits become eight. What is
    transparent is laid on white. EXIF's orientation is obeyed.

    Args:
        path: Path of the file.

    Returns:
        uint8 `(H, W, 3)`.

    Raises:
        Exception: The file is broken; the kind of exception is the decoder's.
    """
    with Image.open(path) as image:
        return np.array(_to_rgb(image))


def _to_rgb(image: Image.Image) -> Image.Image:
    refuse_unknown_range(image)
    white = white_of(image)
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        return to_eight_bits(upright, white).convert("RGB")
    if upright.has_transparency_data:
        return _on_white(upright.convert("RGBA"))
    return upright.convert("RGB")


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
