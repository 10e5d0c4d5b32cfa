"""What a DenseNet is, by the names and shapes of its weights."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from keras_densenet.weights.channels import STEM
from keras_densenet.weights.errors import WeightsError
from keras_densenet.weights.names import CLASSIFIER

_DENSE_LAYER = re.compile(r"features\.denseblock(\d+)\.denselayer(\d+)\.conv1\.weight")
STEMS = {7: "imagenet", 3: "small"}  # by the size of the kernel


class Architecture(NamedTuple):
    """A DenseNet by the paper's terms.

    Attributes:
        blocks: Number of dense layers in each block.
        growth_rate: k.
        bn_size: A bottleneck makes so many times k maps; None without bottlenecks.
        compression: theta, in (0, 1].
        init_features: Maps that the stem makes.
        stem: "imagenet" or "small".
        channels: Of a picture.
        outputs: Of the classifier; None where there is none, or one of several layers.
    """

    blocks: tuple[int, ...]
    growth_rate: int
    bn_size: int | None
    compression: float
    init_features: int
    stem: str
    channels: int
    outputs: int | None


def architecture_of(arrays: Mapping[str, np.ndarray]) -> Architecture:
    """Return what a network is.

    Args:
        arrays: By PyTorch's names, with Keras's axes.

    Raises:
        WeightsError: It is no DenseNet: layers are missing, or a dense layer does not
            read the maps of all layers before it.
    """
    try:
        return _architecture_of(arrays)
    except KeyError as error:
        problem = f"{error.args[0]} is missing"
    except (ValueError, ZeroDivisionError) as error:
        problem = str(error)
    raise WeightsError(
        f"These are no weights of a whole DenseNet: {problem}. Give others."
    )


def _architecture_of(arrays: Mapping[str, np.ndarray]) -> Architecture:
    found = (_DENSE_LAYER.fullmatch(name) for name in arrays)
    layers = Counter(int(match[1]) for match in found if match)
    blocks = tuple(layers[number] for number in sorted(layers))
    size, _, channels, init_features = arrays[STEM].shape
    first = "features.denseblock1.denselayer1"
    *_, width = arrays[f"{first}.conv1.weight"].shape
    has_bottlenecks = f"{first}.conv2.weight" in arrays
    growth_rate = arrays[f"{first}.conv2.weight"].shape[3] if has_bottlenecks else width
    maps, compressions = init_features, []
    for block, num_layers in enumerate(blocks, 1):
        for layer in range(1, num_layers + 1):
            name = f"features.denseblock{block}.denselayer{layer}.conv1.weight"
            if arrays[name].shape[2] != maps:
                raise ValueError(f"{name} does not read {maps} maps")
            maps += growth_rate
        if block < len(blocks):
            kernel = arrays[f"features.transition{block}.conv.weight"]
            compressions.append(kernel.shape[3] / kernel.shape[2])
            maps = kernel.shape[3]
    outputs = arrays.get(f"{CLASSIFIER}weight")
    return Architecture(
        blocks,
        growth_rate,
        width // growth_rate if has_bottlenecks else None,
        # Of an odd number of maps a little less than theta is kept.
        round(max(compressions, default=1.0), 2),
        init_features,
        STEMS.get(size, f"{size}x{size}"),
        channels,
        None if outputs is None else outputs.shape[-1],
    )
