"""Where the channels are: the data format, and the shapes that follow from it."""

from math import prod

import keras

_AXES = {"channels_last": -1, "channels_first": 1}


def checked_data_format(data_format: str | None) -> str:
    """Return the data format to use.

    Args:
        data_format: `"channels_last"`, `"channels_first"`, or None for Keras's
            configured format (`keras.config.image_data_format()`).

    Raises:
        ValueError: The format is unknown, or `"channels_first"` on TensorFlow.
    """
    data_format = data_format or keras.config.image_data_format()
    if data_format not in _AXES:
        raise ValueError(
            "data_format must be 'channels_last' or 'channels_first', or None for "
            f"Keras's configured format. Received: data_format={data_format!r}."
        )
    if data_format == "channels_first" and keras.backend.backend() == "tensorflow":
        raise ValueError(
            "data_format='channels_first' is not available on the TensorFlow backend, "
            "whose CPU kernels cannot compute in it. Use 'channels_last' "
            "(keras.config.set_image_data_format('channels_last')), or Keras's JAX or "
            "PyTorch backend."
        )
    return data_format


def channel_axis(data_format: str) -> int:
    """Return the axis of the channels in a batch of signals, pictures or volumes.

    Examples:
        >>> channel_axis("channels_last")
        -1
    """
    return _AXES[data_format]


def with_channels(shape: tuple, axis: int, channels: int) -> tuple:
    """Return the shape with another number of channels.

    >>> with_channels((None, 32, 32, 24), axis=-1, channels=12)
    (None, 32, 32, 12)
    """
    axis %= len(shape)
    return (*shape[:axis], channels, *shape[axis + 1 :])


def pixels_per_picture(shape: tuple, axis: int) -> int:
    """Return H W of a batch's shape, of which `axis` is the channel axis.

    Of a signal it is T, of a volume D H W.

    >>> pixels_per_picture((None, 32, 32, 24), axis=-1)
    1024
    """
    return prod(with_channels(shape, axis, 1)[1:])
