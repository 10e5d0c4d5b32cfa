"""Masks: files that say of each pixel of a picture which class it is of."""

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

from keras_densenet.data.picture_files import ORIENTATION, BrokenPictureError
from keras_densenet.pixel_classes import VOID, palette
from keras_densenet.tensor import Tensor

MOST_CLASSES = 255
SIDEWAYS = (5, 6, 7, 8)  # EXIF's orientations in which height and width change places
# Pillow's modes, by their beginnings: of one bit, gray, palettes and colors; and those
# of larger numbers.
_OF_COLORS = ("1", "L", "P", "RGB")
_OF_NUMBERS = ("I", "F")
_RED, _GREEN = 2**16, 2**8  # a color as one number

Value: TypeAlias = int | tuple[int, int, int]  # of a mask's pixel: a number or a color


class MaskCode:
    """What the pixels of masks mean: numbers, of gray or palettes, or colors.

    Args:
        classes: Names of the classes whose numbers are 0, 1, 2, ...; or the pixel that
            each class has in the masks, a number or a color `(red, green, blue)`, by
            its name, in the order of the class numbers.
        void: The pixel, or the pixels, of which the class is not known; 255 counts as
            void where no class has it.

    Attributes:
        names: Of the classes.
        is_of_colors: Whether pixels are colors.

    Raises:
        ValueError: There are fewer than two classes, or more than 255; or a pixel means
            two things, or is neither a number in 0..255 nor a color.
    """

    def __init__(
        self,
        classes: Sequence[str] | Mapping[str, Value],
        void: Value | Sequence[Value] | None = VOID,
    ) -> None:
        given: Mapping[str, Any] = (
            classes if isinstance(classes, Mapping) else _numbered(classes)
        )
        values = [_checked(value) for value in given.values()]
        self.names = tuple(map(str, given))
        self.is_of_colors = any(isinstance(value, tuple) for value in values)
        kinds = {type(value) for value in values}
        if not 2 <= len(values) <= MOST_CLASSES or len(kinds) > 1:
            raise ValueError(
                "classes are 2 to 255 names, or a dictionary of each one's pixel in "
                'the masks: {"sky": 0, "road": 1} of gray and palette masks, {"sky": '
                '(128, 128, 128), "road": (128, 64, 128)} of colored ones. Received: '
                f"classes={classes!r}"
            )
        unknown = [
            value
            for value in _void_values(void, self.is_of_colors)
            if value != VOID or (VOID not in values and not self.is_of_colors)
        ]
        code = [_packed(value) for value in [*values, *unknown]]
        if len({*code}) < len(code):
            raise ValueError(
                "Each number or color of a mask must stand for one class, or for void, "
                "and here one stands for two. Received: "
                f"classes={classes!r}, void={void!r}"
            )
        order = np.argsort(code)
        numbers = [*range(len(values)), *[VOID] * len(unknown)]
        self._code = np.array(code, np.int64)[order]
        self._numbers = np.array(numbers, np.uint8)[order]

    def decode(self, path: str | os.PathLike) -> np.ndarray:
        """Read a mask: the class of each pixel, uint8 `(H, W, 1)`, 255 for void.

        Raises:
            BrokenPictureError: A pixel is of no class, or is a color where a number
                should be.
            Exception: The file is broken; the kind of exception is the decoder's.
        """
        with Image.open(path) as image:
            pixels = self._pixels(ImageOps.exif_transpose(image))
        places = np.searchsorted(self._code, pixels).clip(max=len(self._code) - 1)
        strange = self._code[places] != pixels
        if strange.any():
            raise BrokenPictureError(self._no_class(pixels[strange]))
        return self._numbers[places][..., np.newaxis]

    def _pixels(self, image: Image.Image) -> np.ndarray:
        """Return each pixel as one number, int64 `(H, W)`."""
        allowed = _OF_COLORS if self.is_of_colors else _OF_COLORS + _OF_NUMBERS
        if not image.mode.startswith(allowed):
            raise BrokenPictureError(
                f"the mask is of Pillow's mode {image.mode}, whose pixels are no "
                f"{'colors' if self.is_of_colors else 'class numbers'}. Save it as a "
                "PNG of gray, of a palette or of colors"
            )
        if self.is_of_colors:
            rgb = np.asarray(image.convert("RGB"), np.int64)
            return rgb @ np.array([_RED, _GREEN, 1])
        bands = 3 if image.mode.startswith("RGB") else 1  # without alpha
        pixels = np.atleast_3d(np.asarray(image))[..., :bands]
        numbers = pixels.astype(np.int64)
        if (numbers != numbers[..., :1]).any():
            raise BrokenPictureError(
                "the mask is colored. Say which color is which class, such as "
                'classes={"sky": (128, 128, 128), ...}'
            )
        if (numbers != pixels).any():
            raise BrokenPictureError("the mask has pixels that are no whole numbers")
        return numbers[..., 0]

    def _no_class(self, pixels: np.ndarray) -> str:
        found, counts = np.unique(pixels, return_counts=True)
        order = np.argsort(-counts)[:5]
        shown = ", ".join(
            f"{self._shown(found[n])} ({counts[n]:,} pixels)" for n in order
        )
        more = f" and {len(found) - 5} others" if len(found) > 5 else ""
        return (
            f"the mask has pixels of no class: {shown}{more}. Add the class, or say "
            "that it is not known, by void="
        )

    def _shown(self, pixel: int) -> str:
        if not self.is_of_colors:
            return str(pixel)
        return str((int(pixel) // _RED, int(pixel) // _GREEN % 256, int(pixel) % 256))


def _numbered(names: Sequence[str]) -> dict[str, int]:
    are_names = isinstance(names, Iterable) and not isinstance(names, str)
    listed = list(names) if are_names else []
    if not are_names or len({*listed}) < len(listed):
        raise ValueError(
            "classes must be a list of names, without repetitions. Received: "
            f"classes={names!r}"
        )
    return {name: number for number, name in enumerate(listed)}


def _void_values(void: Any, are_colors: bool) -> list[Value]:
    """Return the pixels of no known class: one or several, colors or numbers.

    Raises:
        ValueError: They are colors where the classes are numbers, or the other way
            around; 255, which is the default, may be beside colors.
    """
    if void is None:
        return []
    is_color = isinstance(void, Sequence) and all(map(_is_number, void))
    is_one = not isinstance(void, Sequence) or (are_colors and is_color)
    values = [_checked(value) for value in ([void] if is_one else void)]
    if any(isinstance(value, tuple) != are_colors for value in values if value != VOID):
        kind = "colors, such as (0, 0, 0)" if are_colors else "numbers in 0..255"
        raise ValueError(f"void must be of {kind}, as classes is. Received: {void!r}")
    return values


def _is_number(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _checked(value: Any) -> Value:
    """Return a number in 0..255, or a color as a tuple of three."""
    is_color = isinstance(value, Sequence | np.ndarray) and len(value) == 3
    parts = [*value] if is_color else [value]
    if not all(_is_number(part) and 0 <= part <= 255 for part in parts):
        raise ValueError(
            "A mask's pixel is a number in 0..255, or a color such as (128, 64, 128). "
            f"Received: {value!r}"
        )
    if not is_color:
        return int(parts[0])
    red, green, blue = (int(part) for part in parts)
    return red, green, blue


def _packed(value: Value) -> int:
    if isinstance(value, int):
        return value
    red, green, blue = value
    return red * _RED + green * _GREEN + blue


def mask_picture(numbers: np.ndarray) -> Image.Image:
    """Return class numbers `(H, W)` as a palette picture, which `MaskCode` reads."""
    image = Image.fromarray(numbers.astype(np.uint8), "P")
    image.putpalette(palette())
    return image


def read_mask(path: Tensor, code: MaskCode, picture: Tensor) -> Tensor:
    """Read one mask in a graph: int32 `(H, W, 1)`, 255 where it is not known.

    Args:
        path: Path of the file, a string tensor.
        code: What its pixels mean.
        picture: The picture that it is of, `(H, W, channels)`, which must have its
            size.
    """

    def decode(path: bytes) -> np.ndarray:
        name = os.fsdecode(path)
        try:
            return code.decode(name)
        except Exception as error:
            raise BrokenPictureError(f"{name} cannot be read: {error}.") from error

    mask = tf.numpy_function(decode, [path], tf.uint8, stateful=False)
    sizes = [tf.shape(mask)[:2], tf.shape(picture)[:2]]
    is_as_large = tf.reduce_all(sizes[0] == sizes[1])
    wrong = ["A mask has another size than its picture:", path, *sizes]
    with tf.control_dependencies([tf.debugging.Assert(is_as_large, wrong)]):
        mask = tf.cast(mask, tf.int32)
    return tf.ensure_shape(mask, [None, None, 1])


def broken_masks(
    pictures: Iterable[str], masks: Iterable[str], code: MaskCode
) -> dict[str, str]:
    """Decode each mask once; return why some cannot be used, by the picture's path.

    Args:
        pictures: Paths of the pictures, which can be read.
        masks: Paths of their masks.
        code: What the masks' pixels mean.
    """

    def reason(picture: str, mask: str) -> str:
        try:
            height, width, _ = code.decode(mask).shape
            with Image.open(picture) as image:
                is_turned = image.getexif().get(ORIENTATION, 1) in SIDEWAYS
                size = image.size[::-1] if is_turned else image.size
        except Exception as error:  # Pillow raises of every kind
            return f"{error}" or type(error).__name__
        if size != (width, height):
            return (
                f"the mask has {width}x{height} pixels, the picture {size[0]}x{size[1]}"
            )
        return ""

    pairs = list(zip(pictures, masks, strict=True))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        reasons = pool.map(lambda pair: reason(*pair), pairs)
    return {
        picture: f"its mask {mask}: {why}{_hint(mask)}"
        for (picture, mask), why in zip(pairs, reasons, strict=True)
        if why
    }


def _hint(mask: str) -> str:
    is_jpeg = Path(mask).suffix.lower() in (".jpg", ".jpeg")
    return "; JPEG blurs masks, save them as PNG" if is_jpeg else ""
