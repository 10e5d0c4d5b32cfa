"""Weights of a network for other channels: its first convolution is adapted.

As timm's `adapt_input_conv` does, to the bit.
"""

import numpy as np

STEM = "features.conv0.weight"


def adapted_kernel(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Return the kernel of a first convolution for pictures of other channels.

    For one channel the kernels are added up: a gray picture is answered as the same
    picture was with equal channels. For others they are repeated, and rescaled so that
    equal channels have the same effect as before.

    Args:
        kernel: `(H, W, in, out)`.
        channels: How many channels pictures will have, >= 1.

    Returns:
        `(H, W, channels, out)`.

    >>> adapted_kernel(np.float32([[[[1], [2], [3]]]]), 1).ravel().tolist()
    [6.0]
    >>> adapted_kernel(np.float32([[[[1], [2], [3]]]]), 4).ravel().tolist()
    [0.75, 1.5, 2.25, 0.75]
    """
    before = kernel.shape[2]
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    times = -(-channels // before)
    repeated = np.tile(kernel, (1, 1, times, 1))[:, :, :channels]
    return repeated * kernel.dtype.type(before / channels)
