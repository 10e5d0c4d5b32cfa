"""Where the channels are: the data format, checked, and shapes that follow it."""

from math import prod

import keras

_AXES = {"channels_last": 3, "channels_first": 1}


def checked_data_format(data_format: str | None) -> str:
    """Give the data format to use, refusing what the backend lacks.

    Args:
        data_format: `"channels_last"`, `"channels_first"`, or None for Keras's
            configured format (`keras.config.image_data_format()`).

    Raises:
        ValueError: Unknown format, or `"channels_first"` on TensorFlow.
    """
    data_format = data_format or keras.config.image_data_format()
    if data_format not in _AXES:
        raise ValueError(
            "data_format must be 'channels_last' or 'channels_first'. "
            f"Received: data_format={data_format!r}"
        )
    if data_format == "channels_first" and keras.backend.backend() == "tensorflow":
        raise ValueError(
            "data_format='channels_first' is not available on the TensorFlow backend, "
            "whose CPU kernels have no such form. Use 'channels_last' "
            "(keras.config.set_image_data_format('channels_last')), or Keras's JAX or "
            "PyTorch backend."
        )
    return data_format


def channel_axis(data_format: str) -> int:
    """Give the channel axis of a batch of pictures in that format.

    >>> channel_axis("channels_last")
    3
    """
    return _AXES[data_format]


def with_channels(shape: tuple, axis: int, channels: int) -> tuple:
    """Give a shape with another number of channels.

    >>> with_channels((None, 32, 32, 24), axis=3, channels=12)
    (None, 32, 32, 12)
    """
    return (*shape[:axis], channels, *shape[axis + 1 :])


def places(shape: tuple, axis: int) -> int:
    """Give the number of pixels of one picture, H W.

    >>> places((None, 32, 32, 24), axis=3)
    1024
    """
    return prod(shape[1:axis] + shape[axis + 1 :])
