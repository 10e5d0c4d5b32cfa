"""What a DenseNet is, by the names and shapes of its weights."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from keras_densenet.variants import IMAGENET_VARIANTS
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


def architecture_of(arrays: Mapping[str, Any]) -> Architecture:
    """Return what a network is.

    Args:
        arrays: What has a shape, such as arrays, by PyTorch's names, with Keras's axes.

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


def _architecture_of(arrays: Mapping[str, Any]) -> Architecture:
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


def variant_of(architecture: Architecture) -> tuple[str, dict[str, Any]]:
    """Return the function that makes a network, and the arguments that say which.

    >>> cifar = Architecture((16, 16, 16), 12, 4, 0.5, 24, "small", 3, 10)
    >>> variant_of(cifar)
    ('DenseNetBC', {'depth': 100, 'growth_rate': 12, 'compression': 0.5})
    """
    blocks, k, bn_size, compression, init_features, stem, *_ = architecture
    names: dict[tuple, str] = {row: name for name, row in IMAGENET_VARIANTS.items()}
    is_bc = bn_size == 4 and init_features == 2 * k and compression < 1
    if is_bc and stem == "imagenet" and compression == 0.5 and (k, blocks) in names:
        return names[k, blocks], {}
    is_plain = bn_size is None and init_features == 16
    if stem == "small" and len(blocks) == 3 and len(set(blocks)) == 1:
        if is_bc:
            by_depth = {"depth": 6 * blocks[0] + 4, "growth_rate": k}
            return "DenseNetBC", by_depth | {"compression": compression}
        if is_plain:
            by_depth = {"depth": 3 * blocks[0] + 4, "growth_rate": k}
            return "DenseNet", by_depth | {"compression": compression}
    arguments = {
        "blocks": blocks,
        "growth_rate": k,
        "bottleneck": bn_size is not None,
        "compression": compression,
        **({"bn_size": bn_size} if bn_size is not None else {}),
        "stem": stem,
        "init_features": init_features,
    }
    return "DenseNet", arguments
