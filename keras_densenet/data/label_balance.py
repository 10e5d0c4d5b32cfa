"""Weights that make up for labels and classes that are rare."""

from collections.abc import Callable
from typing import Any

import numpy as np


class Computed:
    """A property that a subclass may replace by an attribute of its own.

    Args:
        compute: Returns the value, of an object.
    """

    def __init__(self, compute: Callable[[Any], Any]) -> None:
        self.compute = compute
        self.__doc__ = compute.__doc__

    def __get__(self, of: Any, owner: type | None = None) -> Any:
        """Return the value; of a class the property itself."""
        return self if of is None else self.compute(of)


def balancing_positive_weight(labels: np.ndarray) -> np.ndarray:
    """Return how many times as many pictures have not each label as have it.

    Args:
        labels: 1, 0 or NaN where it is not known, `(N, classes)`. A label that no
            picture has counts as if one had it.

    Returns:
        float64 `(classes,)`, for binary cross-entropy.

    >>> labels = np.array([[1, 0], [0, 1], [0, np.nan], [0, 1]])
    >>> balancing_positive_weight(labels).tolist()
    [3.0, 0.5]
    """
    return (labels == 0).sum(0) / np.maximum((labels == 1).sum(0), 1)


def balancing_class_weight(labels: np.ndarray, num_classes: int) -> dict[int, float]:
    """Return weights that make up for unequal classes, for Keras's `class_weight`.

    A class with n_c of n pictures weighs n / (classes * n_c), so that the mean over the
    pictures is 1.

    Args:
        labels: Class numbers, `(N,)`. A class of no picture weighs n / classes.
        num_classes: Number of classes.

    >>> balancing_class_weight(np.array([0, 1, 1, 1]), 2)
    {0: 2.0, 1: 0.6666666666666666}
    """
    many = np.maximum(np.bincount(labels, minlength=num_classes), 1)
    return dict(enumerate((len(labels) / (num_classes * many)).tolist()))
