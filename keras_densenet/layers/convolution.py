"""The paper's convolution: no bias, He-normal weights."""

from typing import Any

import keras


def he_convolution(
    filters: int, kernel_size: int, padding: str = "same", **kwargs: Any
) -> keras.layers.Conv2D:
    """Make a convolution without bias, initialised as in the paper (section 4.2).

    Weights are drawn from N(0, 2 / (kernel_size^2 * filters)), He et al.'s (2015)
    variance by fan-out, as in the authors' code.
    """
    initializer = keras.initializers.VarianceScaling(
        scale=2.0, mode="fan_out", distribution="untruncated_normal"
    )
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        padding=padding,
        use_bias=False,
        kernel_initializer=initializer,
        **kwargs,
    )
