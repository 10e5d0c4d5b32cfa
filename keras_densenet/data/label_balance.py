"""Which pictures have which label, and weights that make up for rare ones."""

import numpy as np


def has_label(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return whether each picture has each label, bool `(N, classes)`.

    Args:
        labels: Class numbers `(N,)`; or of several labels 1, 0 or NaN where it is not
            known, `(N, classes)`.
        classes: Number of labels.

    >>> has_label(np.array([1, 0]), 2).tolist()
    [[False, True], [True, False]]
    """
    if labels.ndim == 1:
        labels = labels[:, np.newaxis] == np.arange(classes)
    return labels == 1


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
