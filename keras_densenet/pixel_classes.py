"""What the classes of pixels are written as: numbers in masks, and their colors."""

import colorsys

VOID = 255  # of a pixel whose class is not known, as is the custom: no class has it

_GOLDEN = 0.618034  # of a turn from one hue to the next, so that neighbors differ


def color_of(number: int) -> tuple[int, int, int]:
    """Return the color of a class, RGB in 0..255.

    It is dark gray of the first class, which mostly is the background, a bright hue of
    each other one, and white of `VOID`.
    """
    if number == VOID:
        return 255, 255, 255
    if number == 0:
        return 60, 60, 60
    red, green, blue = colorsys.hsv_to_rgb(number * _GOLDEN % 1.0, 0.85, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def palette() -> list[int]:
    """Return the colors of all numbers, as Pillow takes a palette: 3 * 256 numbers."""
    return [part for number in range(256) for part in color_of(number)]
