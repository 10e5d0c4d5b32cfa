"""The DenseNet among the layers of a model of Keras: keras.applications' or ours."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import keras
import numpy as np

from keras_densenet.layers.batch_norm import EPSILON
from keras_densenet.weights.errors import WeightsError
from keras_densenet.weights.keras_files import KerasLayers, Layer, collected
from keras_densenet.weights.names import CLASSIFIER, FEATURES, layers_within

APPLICATIONS_EPSILON = 1.001e-5  # of keras.applications' batch norms
OUR_LAST = "final_bn"  # the last batch norm of our networks

_OF_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_OF_KERNEL = {"kernel": "weight", "bias": "bias"}
_KINDS = {"conv": "conv", "bn": "norm"}

# What a layer's path ends in, and PyTorch's name. Keras 2 has "/" for the first "_".
_NAMES: dict[str, Callable[..., str]] = {
    # ours
    r"stem_(conv|bn)": lambda kind: f"{_KINDS[kind]}0",
    r"dense_block(\d+)/layer(\d+)/bottleneck_(conv|bn)": lambda block, layer, kind: (
        f"denseblock{block}.denselayer{layer}.{_KINDS[kind]}1"
    ),
    r"dense_block(\d+)/layer(\d+)/(conv|bn)": lambda block, layer, kind: (
        f"denseblock{block}.denselayer{layer}.{_KINDS[kind]}2"
    ),
    r"transition(\d+)/(conv|bn)": lambda block, kind: (
        f"transition{block}.{_KINDS[kind]}"
    ),
    r"final_bn": lambda: "norm5",
    # keras.applications
    r"conv1[_/](conv|bn)": lambda kind: f"{_KINDS[kind]}0",
    r"conv(\d+)_block(\d+)_(\d)_(conv|bn)": lambda block, layer, number, kind: (
        f"denseblock{int(block) - 1}.denselayer{layer}."
        f"{_KINDS[kind]}{int(number) + (kind == 'bn')}"
    ),
    r"pool(\d+)_(conv|bn)": lambda block, kind: (
        f"transition{int(block) - 1}.{_KINDS[kind]}"
    ),
    r"bn": lambda: "norm5",
}
_OF_KERAS_HUB = re.compile(r"(^|/)stack\d+_block\d+_\d_(conv|bn)$")


def layers_of(model: keras.Model) -> KerasLayers:
    """Return the arrays of a model by layer, as `read_keras_file` does of a file."""
    layers = collected(
        (path, name, keras.ops.convert_to_numpy(weight))
        for weight in model.weights
        for path, _, name in [weight.path.rpartition("/")]
    )
    norms = (
        layer
        for layer in layers_within(model)
        if isinstance(layer, keras.layers.BatchNormalization)
    )
    norm = next(norms, None)
    return KerasLayers(layers, norm.epsilon if norm else None, are_in_order=True)


def is_ours(layers: Mapping[str, Layer]) -> bool:
    """Return whether layers are those of a network of this package."""
    return any(path.rpartition("/")[2] == OUR_LAST for path in layers)


def by_pytorchs_names(found: KerasLayers) -> dict[str, np.ndarray]:
    """Return the arrays of a network of Keras by PyTorch's names, with Keras's axes.

    What comes after the last batch norm is the classifier.

    Raises:
        WeightsError: It is no DenseNet, or has other weights before its last batch
            norm.
    """
    names = _names_of_layers(found.layers) or _names_in_order(found.layers)
    arrays = {
        f"{FEATURES}{name}.{kind}": array
        for path, name in names.items()
        for kind, array in _by_kind(path, found.layers[path], "norm" in name)
    }
    _refuse_others_before(found, list(names))
    if not is_ours(found.layers):
        arrays = _with_our_epsilon(arrays, found.epsilon or APPLICATIONS_EPSILON)
    others = {p: layer for p, layer in found.layers.items() if p not in names}
    return arrays | dict(_classifier(others))


def _names_of_layers(layers: Mapping[str, Layer]) -> dict[str, str]:
    """Return PyTorch's names of the layers whose Keras's names are known."""
    names: dict[str, str] = {}
    for path in layers:
        if _OF_KERAS_HUB.search(path):
            raise WeightsError(
                "KerasHub's DenseNet pads pictures by 2 and 3 pixels before its first "
                "convolution, where the paper's network has 3 on all sides: it is "
                "another network. Give weights of keras.applications, torchvision or "
                "timm."
            )
        known = (
            (re.search(rf"(?:^|/){ending}$", path), name)
            for ending, name in _NAMES.items()
        )
        found = [name(*match.groups()) for match, name in known if match]
        if found:
            names[path] = found[0]
    if not any(name.endswith("conv1") for name in names.values()):
        # Without bottlenecks, the only convolution of a dense layer is its first.
        names = {
            path: re.sub(r"(denselayer\d+\.(?:conv|norm))2", r"\g<1>1", name)
            for path, name in names.items()
        }
    first = [path for path, name in names.items() if name == "conv0"]
    if len(first) > 1:
        raise WeightsError(
            f"There are {len(first)} DenseNets: their first convolutions are "
            f"{', '.join(first)}. Give one of them: model.get_layer(name)."
        )
    return names if "norm5" in names.values() else {}


def _names_in_order(layers: Mapping[str, Layer]) -> dict[str, str]:
    """Return PyTorch's names of layers whose names say only their order.

    Two convolutions of 1x1 after one another are a transition's and a bottleneck's.
    """
    kernels = {
        path: layer["kernel"].shape[0]
        for path, layer in layers.items()
        if "kernel" in layer and layer["kernel"].ndim == 4
    }
    norms = [path for path, layer in layers.items() if _is_norm(layer)]
    has_norm0 = len(norms) > len(kernels)
    if len(kernels) < 2 or len(norms) != len(kernels) + has_norm0:
        raise WeightsError(
            "These are weights of another network: by their names and their order "
            "they are of no DenseNet. Give weights of the same network; of one within "
            "a model, model.get_layer(name)."
        )
    convolutions = list(_names_of_convolutions(list(kernels.values())))
    before = [name.replace("conv", "norm") for name in convolutions[1:]]
    of_norms = ["norm0"] * has_norm0 + before + ["norm5"]
    return dict(zip(kernels, convolutions, strict=True)) | dict(
        zip(norms, of_norms, strict=True)
    )


def _names_of_convolutions(sizes: Sequence[int]) -> Iterator[str]:
    """Iterate over PyTorch's names of convolutions, by the sizes of their kernels.

    >>> list(_names_of_convolutions([3, 1, 3, 1, 1, 3]))[2:4]
    ['denseblock1.denselayer1.conv2', 'transition1.conv']
    """
    yield from ["conv0"][: len(sizes)]
    has_bottlenecks = sizes[1:2] == [1]
    block, layer = 1, 1
    for size, following in zip(sizes[1:], [*sizes[2:], None], strict=True):
        if size == 1 and (following == 1 or not has_bottlenecks):
            yield f"transition{block}.conv"
            block, layer = block + 1, 1
        else:
            is_first = size == 1 or not has_bottlenecks
            yield f"denseblock{block}.denselayer{layer}.conv{1 if is_first else 2}"
            layer += size != 1


def _is_norm(layer: Layer) -> bool:
    return layer.keys() == _OF_NORM.keys()


def _by_kind(
    path: str, layer: Layer, is_norm: bool
) -> Iterator[tuple[str, np.ndarray]]:
    """Iterate over a layer's arrays with PyTorch's words for what they are."""
    kinds = _OF_NORM if is_norm else _OF_KERNEL
    for name, array in layer.items():
        kind = kinds.get(name)
        if kind is None:
            raise WeightsError(
                f"{path}/{name} is no weight of a DenseNet. Give weights of the same "
                "network."
            )
        yield kind, array


def _refuse_others_before(found: KerasLayers, network: Sequence[str]) -> None:
    """Refuse layers before the last batch norm that a DenseNet has not.

    Where the order is not known, they could be all that is no dense layer of a head.
    """
    order = list(found.layers)
    last = max(order.index(path) for path in network)
    others = [path for path in order if path not in network]
    before = [
        path
        for path in others
        if (
            order.index(path) < last
            if found.are_in_order
            else not _is_dense(found.layers[path])
        )
    ]
    if before:
        raise WeightsError(
            "There are weights before the last batch norm that a DenseNet has not: "
            f"{', '.join(before[:5])}. Give weights of the same network; of one within "
            "a model, model.get_layer(name)."
        )


def _is_dense(layer: Layer) -> bool:
    kernel = layer.get("kernel")
    return kernel is not None and kernel.ndim == 2 and layer.keys() <= {*_OF_KERNEL}


def _classifier(layers: Mapping[str, Layer]) -> Iterator[tuple[str, np.ndarray]]:
    """Iterate over the arrays of the head, of one layer by PyTorch's names."""
    is_one = len(layers) == 1 and all(map(_is_dense, layers.values()))
    for path, layer in layers.items():
        for name, array in layer.items():
            known = _OF_KERNEL[name] if is_one else f"{path}/{name}"
            yield CLASSIFIER + known, array


def _with_our_epsilon(
    arrays: dict[str, np.ndarray], epsilon: float
) -> dict[str, np.ndarray]:
    """Add what the source's epsilon is above ours to variances."""
    difference = epsilon - EPSILON
    return {
        name: array + difference if name.endswith("running_var") else array
        for name, array in arrays.items()
    }
