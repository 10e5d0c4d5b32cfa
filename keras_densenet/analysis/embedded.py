"""Pictures and figures within a page, which needs no files beside it."""

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from keras_densenet.analysis.drawn_pictures import drawing, drawing_width, how_drawn

THUMBNAIL = 160  # pixels of a picture's longer side


def drawn_or_reason(draw: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what `draw` returns, or under "why_not" the reason that it cannot draw."""
    try:
        return draw()
    except ValueError as error:  # analysis raises it for networks that it cannot read
        return {"why_not": str(error)}


def drawn_how(pictures: Sequence[np.ndarray]) -> dict[str, Any]:
    """Return what a page says of how pictures are drawn, and whether they are wide.

    Args:
        pictures: Raw pictures, signals or volumes, all of one kind; or none.

    Returns:
        "how", a sentence, or an empty one of pictures; and "wide", whether the drawings
        are wider than those of pictures.
    """
    return {
        "how": "".join(map(how_drawn, pictures[:1])),
        "wide": any(drawing_width(picture) > 1 for picture in pictures[:1]),
    }


def thumbnail(picture: np.ndarray) -> str:
    """Return the drawing of a raw picture, signal or volume as an embedded PNG."""
    return shown_image(drawing(picture).picture, drawing_width(picture))


def shown_image(pixels: np.ndarray, width: int) -> str:
    """Return pixels, uint8 `(h, w, 3)`, as an embedded PNG, scaled down if it is large.

    Args:
        pixels: Of the picture.
        width: How much wider than a thumbnail it may be.
    """
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL * width, THUMBNAIL))
    file = io.BytesIO()
    image.save(file, "PNG")
    return _data_address(file, "image/png")


def embedded(figure: Figure) -> str:
    """Return a figure as an embedded SVG."""
    file = io.BytesIO()
    figure.savefig(file, format="svg")
    return _data_address(file, "image/svg+xml")


def _data_address(file: io.BytesIO, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
