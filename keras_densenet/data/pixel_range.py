"""What the numbers of a picture's pixels mean, where they are not 0..255.

A file says how many bits a number has, and not how many of them are used.
"""

import numpy as np
from PIL import Image

SIXTEEN_BITS = 65_535
# Pillow gives 32-bit numbers (mode "I") for files of these that have sixteen bits.
OF_SIXTEEN_BITS = ("PNG", "PPM", "TIFF")
BITS = 258  # TIFF's tag: bits of a number
DARK = 1 / 16  # of the range: twelve bits in a file of sixteen


def refuse_unknown_range(image: Image.Image) -> None:
    """Refuse pixels of which nobody knows what is white; only the head is read.

    Args:
        image: As it was opened.

    Raises:
        ValueError: They are floating-point numbers, or have 32 bits.
    """
    if image.mode == "F":
        raise ValueError(
            "its pixels are floating-point numbers of unknown range. Scale them, black "
            "to 0 and white to 255, and save it with 8 bits"
        )
    if image.mode == "I" and (image.format not in OF_SIXTEEN_BITS or _bits(image) > 16):
        raise ValueError(
            "its pixels are 32-bit numbers of unknown range. Scale them, black to 0 "
            "and white to 255 or 65,535, and save it with 8 or 16 bits"
        )


def has_wide_pixels(image: Image.Image) -> bool:
    """Return whether a file has sixteen bits, which eight are made of.

    Args:
        image: As it was opened: Pillow forgets it when the pixels are read.
    """
    if image.mode.startswith("I"):
        return True
    # Of colors Pillow keeps the upper eight bits.
    tiles = getattr(image, "tile", ())
    return image.format in OF_SIXTEEN_BITS and any(";16" in str(t[3]) for t in tiles)


def brightest(image: Image.Image, white: int) -> float:
    """Return a picture's largest pixel as a share of its range, 0..1.

    Args:
        image: Of sixteen bits, as Pillow has read it.
        white: `white_of` that image.
    """
    if image.mode.startswith("I"):
        return image.getextrema()[1] / white  # type: ignore[operator]
    bands = [image.getchannel(name) for name in image.getbands() if name != "A"]
    return max(band.getextrema()[1] for band in bands) / 255  # type: ignore[operator]


def white_of(image: Image.Image) -> int:
    """Return the largest number that a file of sixteen bits can have.

    Args:
        image: As it was opened: Pillow forgets it when the picture is turned upright.
    """
    return min(2 ** _bits(image) - 1, SIXTEEN_BITS)


def to_eight_bits(image: Image.Image, white: int) -> Image.Image:
    """Scale 0..white to 0..255: Pillow would cut off at 255.

    Raises:
        ValueError: There are other numbers.
    """
    pixels = np.asarray(image).astype(np.float64)
    if pixels.min() < 0 or pixels.max() > white:
        raise ValueError(
            f"its pixels are in {pixels.min():.0f}..{pixels.max():.0f}, where black is "
            f"0 and white is {white:,}: scale them to that, and save it anew"
        )
    return Image.fromarray(np.rint(pixels / (white / 255)).astype(np.uint8))


def _bits(image: Image.Image) -> int:
    """Return the bits of a number, as a TIFF says; 16 for other formats."""
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    return max(tags.get(BITS, (16,)))
