"""What the networks' builders check of their arguments."""

from collections.abc import Iterable, Sequence
from numbers import Integral

from keras_densenet.layers import channel_axis, checked_data_format


def checked_blocks(blocks: Sequence[int], depth: int | None) -> list[int]:
    """Return the number of dense layers in each block, which is given without depth."""
    if depth is not None:
        raise ValueError(
            "depth and blocks each say how many dense layers there are. Leave depth "
            "out to have these blocks, or blocks to have those of this depth. "
            f"Received: depth={depth}, blocks={blocks}."
        )
    found = list(blocks) if isinstance(blocks, Iterable) else []
    if not found or not all(isinstance(n, Integral) and n >= 1 for n in found):
        raise ValueError(
            "blocks is the number of dense layers in each block, a sequence of whole "
            "numbers of 1 or more such as (6, 12, 24, 16). Received: "
            f"blocks={blocks!r}."
        )
    return [int(n) for n in found]


def check_classes(classes: int) -> None:
    """Raise a `ValueError` for fewer classes than 1."""
    if not isinstance(classes, Integral) or classes < 1:
        raise ValueError(
            "classes, the number of classes that the network tells apart, must be a "
            f"whole number of 1 or more. Received: classes={classes}."
        )


def check_init_features(init_features: int) -> None:
    """Raise a `ValueError` for a number of maps that no stem makes."""
    if not isinstance(init_features, Integral) or init_features < 1:
        raise ValueError(
            "init_features, the number of feature maps that the stem makes, must be a "
            "whole number of 1 or more, or None for the paper's. Received: "
            f"init_features={init_features}."
        )


def check_size(input_shape: tuple, halvings: int, stem_halvings: int = 0) -> None:
    """Refuse an input that would have no pixels left before the last block.

    Args:
        input_shape: The input's, without the batch.
        halvings: How many transitions halve height and width.
        stem_halvings: How often the stem does.

    Raises:
        ValueError: It is too small, or is none of signals, pictures or volumes.
    """
    if len(input_shape) not in (2, 3, 4):
        raise ValueError(
            "input_shape is that of pictures, such as (32, 32, 3), of signals, such as "
            "(512, 1), or of volumes, such as (64, 64, 64, 1), without the batch. "
            f"Received: input_shape={input_shape}."
        )
    axis = channel_axis(checked_data_format(None)) % (len(input_shape) + 1)
    sizes = [size for i, size in enumerate(input_shape, 1) if i != axis]
    # The stem's strides round a size up, the transitions' pooling rounds it down.
    smallest = (2**halvings - 1) * 2**stem_halvings + 1
    if any(size is not None and size < smallest for size in sizes):
        least = "x".join([str(smallest)] * len(sizes))
        raise ValueError(
            f"The input is halved {halvings + stem_halvings} times, so it must be "
            f"{least} or larger. Enlarge the pictures, or use fewer blocks or the stem "
            "'small' (DenseNet and DenseNetBC of a depth: 4x4 or larger). Received: "
            f"input_shape={input_shape}."
        )
