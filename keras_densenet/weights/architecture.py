"""What a DenseNet is, by the names and shapes of its weights."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from keras_densenet.layers import kept_maps
from keras_densenet.variants import IMAGENET_VARIANTS
from keras_densenet.weights.channels import STEM
from keras_densenet.weights.errors import WeightsError
from keras_densenet.weights.names import CLASSIFIER, OF_NORM

_DENSE_LAYER = re.compile(r"features\.denseblock(\d+)\.denselayer(\d+)\.conv1\.weight")
MOST_DIGITS = 6  # of a compression
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
        rank: 1 for signals, 2 for pictures, 3 for volumes.
        outputs: Of the classifier; None where there is none, or one that is not a layer
            with a bias, as ours is.
    """

    blocks: tuple[int, ...]
    growth_rate: int
    bn_size: int | None
    compression: float
    init_features: int
    stem: str
    channels: int
    rank: int
    outputs: int | None


def architecture_of(arrays: Mapping[str, Any]) -> Architecture:
    """Return what a network is.

    Args:
        arrays: What has a shape, such as arrays, by PyTorch's names, with Keras's axes.

    Raises:
        WeightsError: It is no DenseNet that `keras_densenet.DenseNet` could make:
            weights are missing, have other shapes (a dense layer does not read the maps
            of all layers before it), or are of other layers.
    """
    try:
        return _architecture_of(arrays)
    except KeyError as error:
        problem = f"{error.args[0]} is missing"
    except (ValueError, ZeroDivisionError, IndexError) as error:
        problem = str(error)
    raise WeightsError(
        f"These are no weights of a whole DenseNet: {problem}. Give others."
    )


def _architecture_of(arrays: Mapping[str, Any]) -> Architecture:
    found = (_DENSE_LAYER.fullmatch(name) for name in arrays)
    layers = Counter(int(match[1]) for match in found if match)
    blocks = tuple(layers[number] for number in sorted(layers))
    size, *others, channels, init_features = _kernel(arrays, STEM)
    first = "features.denseblock1.denselayer1"
    *_, width = _kernel(arrays, f"{first}.conv1.weight")
    has_bottlenecks = f"{first}.conv2.weight" in arrays
    growth_rate = width
    if has_bottlenecks:
        growth_rate = _kernel(arrays, f"{first}.conv2.weight")[-1]
    maps, kept = init_features, []
    for block, num_layers in enumerate(blocks, 1):
        for layer in range(1, num_layers + 1):
            name = f"features.denseblock{block}.denselayer{layer}.conv1.weight"
            if _kernel(arrays, name)[-2] != maps:
                raise ValueError(f"{name} does not read {maps} maps")
            maps += growth_rate
        if block < len(blocks):
            *_, after = _kernel(arrays, f"features.transition{block}.conv.weight")
            kept.append((maps, after))
            maps = after
    architecture = Architecture(
        blocks,
        growth_rate,
        width // growth_rate if has_bottlenecks else None,
        _compression(kept),
        init_features,
        STEMS.get(size, f"{size}x{size}"),
        channels,
        1 + len(others),
        _outputs(arrays),
    )
    _refuse_others(arrays, dict(_shapes(architecture)))
    return architecture


def _kernel(arrays: Mapping[str, Any], name: str) -> tuple[int, ...]:
    """Return the shape of a convolution's kernel, such as `(H, W, in, out)`."""
    shape = tuple(arrays[name].shape)
    if len(shape) not in (3, 4, 5):
        raise ValueError(f"{name} has {len(shape)} axes, and not 3, 4 or 5")
    return shape


def _compression(kept: Sequence[tuple[int, int]]) -> float:
    """Return the roundest share of their maps that all transitions keep, rounded down.

    Args:
        kept: How many maps each transition reads, and how many it makes.

    >>> _compression([(57, 28), (52, 26)]), _compression([(800, 100)])
    (0.5, 0.125)
    """
    if not kept:
        return 1.0
    least = max(after / before for before, after in kept)
    for digits in range(1, MOST_DIGITS + 1):
        share = math.ceil(round(least * 10**digits, MOST_DIGITS)) / 10**digits
        if all(kept_maps(min(share, 1.0), before) == after for before, after in kept):
            return share
    raise ValueError("its transitions do not keep the same share of maps")


def _outputs(arrays: Mapping[str, Any]) -> int | None:
    """Return what a classifier of one layer, as ours is, has of outputs."""
    head = {name for name in arrays if name.startswith(CLASSIFIER)}
    if head != {f"{CLASSIFIER}weight", f"{CLASSIFIER}bias"}:
        return None
    return arrays[f"{CLASSIFIER}weight"].shape[-1]


def _shapes(architecture: Architecture) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Iterate over names and shapes of all weights before the classifier."""
    blocks, k, bn_size, compression, maps, stem, channels, rank, _ = architecture
    sizes = {name: size for size, name in STEMS.items()}
    if stem not in sizes:
        raise ValueError(f"its first convolution is {stem}, and not 7x7 or 3x3")
    pixel, square = (1,) * rank, (3,) * rank
    yield STEM, (*(sizes[stem],) * rank, channels, maps)
    if stem == "imagenet":
        yield from _of_norm("features.norm0", maps)
    for block, num_layers in enumerate(blocks, 1):
        for layer in range(1, num_layers + 1):
            name = f"features.denseblock{block}.denselayer{layer}"
            yield from _of_norm(f"{name}.norm1", maps)
            if bn_size is None:
                yield f"{name}.conv1.weight", (*square, maps, k)
            else:
                yield f"{name}.conv1.weight", (*pixel, maps, bn_size * k)
                yield from _of_norm(f"{name}.norm2", bn_size * k)
                yield f"{name}.conv2.weight", (*square, bn_size * k, k)
            maps += k
        if block < len(blocks):
            kept = kept_maps(compression, maps)
            yield from _of_norm(f"features.transition{block}.norm", maps)
            yield f"features.transition{block}.conv.weight", (*pixel, maps, kept)
            maps = kept
    yield from _of_norm("features.norm5", maps)


def _of_norm(name: str, maps: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for kind in OF_NORM:
        yield f"{name}.{kind}", (maps,)


def _refuse_others(
    arrays: Mapping[str, Any], expected: Mapping[str, tuple[int, ...]]
) -> None:
    """Refuse what is no DenseNet though it has the convolutions of one."""
    for name, shape in expected.items():
        if tuple(arrays[name].shape) != shape:
            raise ValueError(f"{name} is {tuple(arrays[name].shape)}, not {shape}")
    for name in arrays:
        if name not in expected and not name.startswith(CLASSIFIER):
            raise ValueError(f"{name} is of no layer that a DenseNet has")


def variant_of(architecture: Architecture) -> tuple[str, dict[str, Any]]:
    """Return the function that makes a network, and the arguments that say which.

    >>> cifar = Architecture((16, 16, 16), 12, 4, 0.5, 24, "small", 3, 2, 10)
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
