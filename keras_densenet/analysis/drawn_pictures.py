"""Pictures of any number of channels, signals and volumes, as they are drawn: RGB.

Each of them becomes one picture, so that figures and pages show all in the same way.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from keras_densenet.analysis.inside import TINY
from keras_densenet.data import DataModule

MOST_CHANNELS = 6  # curves of a signal: the first channels
STRIP = 720, 240  # width and height of a signal's strip, in pixels
CURVE = 31, 36, 48  # the color of its curves, RGB


class Drawing(NamedTuple):
    """What is drawn of a picture, a signal or a volume.

    Attributes:
        picture: uint8 `(h, w, 3)`.
        heat: In 0..1, of each pixel of `picture`, `(h, w)`; NaN where a pixel shows
            nothing of what is drawn, as between the slices of a volume.
    """

    picture: np.ndarray
    heat: np.ndarray


class _Kind(NamedTuple):
    """How pictures, signals or volumes are drawn.

    Attributes:
        draw: Makes a drawing of one of them and its heat.
        width: How much wider the drawing is than that of a picture.
        words: What a reader should know of it.
    """

    draw: Callable[[np.ndarray, np.ndarray], Drawing]
    width: int
    words: str


def raw_picture(image: np.ndarray, data: DataModule) -> np.ndarray:
    """Return a standardized picture in 0..255, a signal or a volume in its own units.

    Args:
        image: As a network reads it.
        data: Where it is from: it says what it was standardized with.
    """
    raw = image * np.asarray(data.std) + np.asarray(data.mean)
    return raw.astype("float32")  # a volume takes megabytes, and several are kept


def drawing(picture: np.ndarray, heat: np.ndarray | None = None) -> Drawing:
    """Return what is drawn of a raw picture, signal or volume.

    A picture is drawn as `drawn` has it. Of a volume three slices stand side by side,
    axial, coronal and sagittal (across D, H and W): through the place of the greatest
    heat, or through the middle where there is no heat. Each channel is in gray from its
    1st to its 99th percentile in the volume, and of several channels the mean is drawn.
    Of a signal the curves of its first channels stand one above another, each between
    its least and its greatest value.

    Args:
        picture: `(H, W, channels)` in about 0..255; or a signal `(T, channels)` or a
            volume `(D, H, W, channels)`, finite and in any units.
        heat: How much each place speaks for a class, in 0..1, of the picture's shape
            without channels; None for no heat.
    """
    picture = np.asarray(picture)
    if heat is None:
        heat = np.zeros(picture.shape[:-1])
    return _kind(picture).draw(picture, np.asarray(heat))


def drawing_width(picture: np.ndarray) -> int:
    """Return how much wider its drawing is than that of a picture: 1 or more."""
    return _kind(picture).width


def how_drawn(picture: np.ndarray) -> str:
    """Return what a reader should know of its drawing; of a picture nothing."""
    return _kind(picture).words


def _kind(picture: np.ndarray) -> _Kind:
    return _KINDS[np.ndim(picture) - 1]


def drawn(pictures: np.ndarray) -> np.ndarray:
    """Return raw pictures as they are drawn.

    RGB is as it is, gray has three equal channels, and RGBA lies on white. Of pictures
    with another number of channels the mean is drawn, in gray.

    Args:
        pictures: In about 0..255, `(..., H, W, channels)`.

    Returns:
        uint8 `(..., H, W, 3)`.

    Examples:
        >>> drawn(np.array([[[100.0]]])).tolist()  # gray
        [[[100, 100, 100]]]
        >>> drawn(np.array([[[0, 0, 50, 51]]])).tolist()  # a fifth of it is opaque
        [[[204, 204, 214]]]
    """
    pixels = np.clip(np.asarray(pictures, "float64"), 0, 255)
    channels = pixels.shape[-1]
    if channels == 4:
        share = pixels[..., 3:] / 255
        pixels = share * pixels[..., :3] + (1 - share) * 255
    elif channels != 3:
        pixels = pixels.mean(axis=-1, keepdims=True).repeat(3, axis=-1)
    return np.rint(pixels).astype("uint8")


def _picture(picture: np.ndarray, heat: np.ndarray) -> Drawing:
    return Drawing(drawn(picture), heat)


def _slices(volume: np.ndarray, heat: np.ndarray) -> Drawing:
    """Draw the three slices of a volume `(D, H, W, channels)` through one place."""
    gray = _gray(volume)
    place = [size // 2 for size in heat.shape]
    if heat.any():
        place = [int(at) for at in np.unravel_index(heat.argmax(), heat.shape)]
    cuts, of_heat = (
        [values.take(at, axis) for axis, at in enumerate(place)]
        for values in (gray, heat)
    )
    picture = _side_by_side(cuts, 255)[..., np.newaxis]
    return Drawing(drawn(picture), _side_by_side(of_heat, np.nan))


def _gray(volume: np.ndarray) -> np.ndarray:
    """Return a volume `(D, H, W, channels)` in gray, `(D, H, W)` in 0..255."""
    low, high = np.percentile(volume, (1, 99), axis=(0, 1, 2))
    shares = (volume - low) / np.maximum(high - low, TINY)  # no range may be 0
    return 255 * np.clip(shares, 0, 1).mean(axis=-1)


def _side_by_side(cuts: Sequence[np.ndarray], between: float) -> np.ndarray:
    """Return two-dimensional arrays in one, with narrow gaps between them."""
    height = max(len(cut) for cut in cuts)
    gap = 1 + height // 32
    padded = [
        np.pad(
            cut.astype("float64"),
            [(0, height - len(cut)), (0, gap)],
            constant_values=between,
        )
        for cut in cuts
    ]
    return np.concatenate(padded, axis=1)[:, :-gap]


def _strip(signal: np.ndarray, heat: np.ndarray) -> Drawing:
    """Draw the curves of a signal `(T, channels)`, time from left to right."""
    width, height = STRIP
    curves = np.asarray(signal, "float64").T[:MOST_CHANNELS]
    image = Image.new("RGB", STRIP, "white")
    pen = ImageDraw.Draw(image)
    # Each moment is a column of its own width, as its heat is, and the curve goes
    # through the middle of it.
    length = len(signal)
    times = (np.arange(length) + 0.5) * width / length
    lane = height / len(curves)
    for number, curve in enumerate(curves):
        middle, span = (curve.max() + curve.min()) / 2, max(np.ptp(curve), TINY)
        rise = 0.8 * (curve - middle) / span  # a tenth of the lane is free on each side
        heights = lane * (number + 0.5 - rise)
        points = np.stack([times, heights], axis=1)
        ends = [(0, heights[0]), *map(tuple, points), (width, heights[-1])]
        pen.line(ends, fill=CURVE, width=2)
    # Of moments that share a column the greatest heat is shown.
    columns = np.maximum.reduceat(heat, np.arange(width) * length // width)
    return Drawing(np.asarray(image), np.tile(columns, (height, 1)))


_KINDS = {  # by the number of axes without channels
    1: _Kind(
        _strip,
        3,
        f"Of a signal the curves of the first channels are drawn, at most "
        f"{MOST_CHANNELS}, each between its least and its greatest value.",
    ),
    2: _Kind(_picture, 1, ""),
    3: _Kind(
        _slices,
        3,
        "Of a volume three slices are drawn, axial, coronal and sagittal (across "
        "depth, height and width), through the middle or, where heat is shown, through "
        "the place of the greatest; gray is from the 1st to the 99th percentile.",
    ),
}
