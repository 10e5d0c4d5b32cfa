"""Weights of pictures for volumes, as I3D makes them (Carreira and Zisserman 2017)."""

from collections.abc import Mapping

import numpy as np

from keras_densenet.weights.errors import WeightsError
from keras_densenet.weights.names import CLASSIFIER


def inflated(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the weights of a network for pictures as those of one for volumes.

    Each kernel is repeated along the depth, as often as it is high, and divided by
    that: a volume whose slices are all one picture is answered as that picture was,
    but for what padding adds at the first and the last slices.

    Args:
        arrays: By PyTorch's names, with Keras's axes.

    Raises:
        WeightsError: They are of no network for pictures.

    >>> kernel = np.float32([[[[3.0]]] * 3] * 3)  # (3, 3, 1, 1)
    >>> inflated({"features.conv0.weight": kernel})["features.conv0.weight"].ravel()[:2]
    array([1., 1.], dtype=float32)
    """
    kernels = {
        name: array
        for name, array in arrays.items()
        if array.ndim > 2 and not name.startswith(CLASSIFIER)
    }
    if not kernels or any(array.ndim != 4 for array in kernels.values()):
        raise WeightsError(
            "inflate=True makes weights for volumes of those for pictures, and these "
            "are others. Leave it out."
        )
    return dict(arrays) | {name: _deep(kernel) for name, kernel in kernels.items()}


def _deep(kernel: np.ndarray) -> np.ndarray:
    """Turn `(H, W, in, out)` into `(H, H, W, in, out)`."""
    depth = kernel.shape[0]
    wide = kernel.astype("float32") / np.float32(depth)
    return np.repeat(wide[np.newaxis], depth, axis=0).astype(kernel.dtype)
