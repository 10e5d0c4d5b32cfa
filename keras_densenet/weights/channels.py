"""Weights of a network for other channels: its first convolution is adapted.

From three channels it is as timm's `adapt_input_conv` does it, to the bit; timm has no
rule for a network of other channels, and here it is the same one.
"""

import numpy as np

STEM = "features.conv0.weight"


def adapted_kernel(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Return the kernel of a first convolution for pictures of other channels.

    For one channel the kernels are added up: a gray picture is answered as the same
    picture was with equal channels. For others they are repeated, or the last ones left
    out, and rescaled by the number of channels before, divided by that after: where the
    latter is a multiple, equal channels have the same effect as before.

    Args:
        kernel: `(H, W, in, out)`; of signals `(T, in, out)`, of volumes
            `(D, H, W, in, out)`.
        channels: How many channels pictures will have, >= 1.

    Returns:
        The same with so many channels for `in`.

    >>> adapted_kernel(np.float32([[[[1], [2], [3]]]]), 1).ravel().tolist()
    [6.0]
    >>> adapted_kernel(np.float32([[[[1], [2], [3]]]]), 4).ravel().tolist()
    [0.75, 1.5, 2.25, 0.75]
    """
    before = kernel.shape[-2]
    wide = kernel.astype("float32")  # in which timm adapts kernels of all precisions
    if channels == 1:
        return wide.sum(axis=-2, keepdims=True).astype(kernel.dtype)
    times = -(-channels // before)
    repeated = np.tile(wide, (times, 1))[..., :channels, :]
    return (repeated * np.float32(before / channels)).astype(kernel.dtype)
