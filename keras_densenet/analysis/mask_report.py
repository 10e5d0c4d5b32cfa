"""What a report shows where each pixel has a class: masks over the pictures."""

import math
from typing import Any

import numpy as np

from keras_densenet.analysis.drawn_pictures import drawing
from keras_densenet.analysis.embedded import embedded, shown_image
from keras_densenet.analysis.mask_predictions import (
    MaskExample,
    MaskPredictions,
    PixelScore,
)
from keras_densenet.analysis.predictions import plot_confusion
from keras_densenet.pixel_classes import color_of, palette

TINT = 0.55  # how much of a pixel's color is its class's
MANY = 20  # classes in a table that is closed at first


def facts_of_masks(predictions: MaskPredictions) -> dict[str, str]:
    """Return what stands at the top of the page."""
    if math.isnan(predictions.mean_iou):
        return {"mean IoU": "not known: all is void"}
    return {
        "mean IoU": f"{100 * predictions.mean_iou:.1f} %",
        "pixels right": f"{100 * predictions.pixel_accuracy:.2f} %",
    }


def parts_of_masks(predictions: MaskPredictions) -> dict[str, Any]:
    """Return the table of classes, what is confused, and masks over pictures.

    Returns:
        "rows" of the table, whose "color" is that of the class in the pictures,
        "confusion", a picture, and "worst" and "best", which have a "picture" and its
        "iou".
    """
    scores = predictions.pixel_scores()
    return {
        "rows": [_row(number, score) for number, score in enumerate(scores)],
        "is_long": len(scores) > MANY,
        "confusion": embedded(plot_confusion(predictions)),
        "worst": [_shown(example) for example in predictions.worst],
        "best": [_shown(example) for example in predictions.best],
    }


def _row(number: int, score: PixelScore) -> dict[str, str]:
    red, green, blue = color_of(number)
    iou = "" if math.isnan(score.iou) else f"{100 * score.iou:.1f}"
    return {
        "name": score.name,
        "color": f"rgb({red}, {green}, {blue})",
        "iou": iou,
        "precision": f"{100 * score.precision:.1f}",
        "recall": f"{100 * score.recall:.1f}",
        "share": f"{100 * score.share:.2f}",
    }


def overlay(picture: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return a picture with the color of each pixel's class laid over it.

    Args:
        picture: uint8 `(H, W, 3)`.
        numbers: Class numbers `(H, W)`; pixels that are void are white.

    Returns:
        uint8 `(H, W, 3)`.
    """
    colors = np.array(palette()).reshape(256, 3)
    tinted = (1 - TINT) * picture + TINT * colors[numbers]
    return tinted.round().astype(np.uint8)


def _shown(example: MaskExample) -> dict[str, str]:
    """Return picture, mask and answer side by side."""
    picture, mask, answer = example.picture, example.mask, example.answer
    if picture.ndim == 4:  # of a volume the slice in the middle
        middle = len(picture) // 2
        picture, mask, answer = picture[middle], mask[middle], answer[middle]
    if picture.ndim == 2:  # a signal is one row, as many times as it can be seen
        rows = max(8, len(picture) // 8)
        picture, mask, answer = (
            np.repeat(row[np.newaxis], rows, axis=0) for row in (picture, mask, answer)
        )
    drawn = drawing(picture).picture
    gap = np.full((len(drawn), max(2, drawn.shape[1] // 32), 3), 255, np.uint8)
    parts = [drawn, gap, overlay(drawn, mask), gap, overlay(drawn, answer)]
    return {
        "picture": shown_image(np.concatenate(parts, axis=1), width=3),
        "iou": f"{100 * example.iou:.0f} %",
    }
