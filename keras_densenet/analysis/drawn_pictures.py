"""Pictures of any number of channels, as they are drawn: RGB."""

import numpy as np


def drawn(pictures: np.ndarray) -> np.ndarray:
    """Return raw pictures as they are drawn.

    RGB is as it is, gray has three equal channels, and RGBA lies on white. Of pictures
    with another number of channels the mean is drawn, in gray.

    Args:
        pictures: In about 0..255, `(..., H, W, channels)`.

    Returns:
        uint8 `(..., H, W, 3)`.

    Example:
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
