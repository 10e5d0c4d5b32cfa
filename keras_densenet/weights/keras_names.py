"""The DenseNet among the layers of a model of Keras: keras.applications' or ours."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np

from keras_densenet.weights.errors import WeightsError
from keras_densenet.weights.keras_files import (
    KERNEL,
    NORM,
    RELU,
    KerasLayers,
    Layer,
    activations_in,
    collected,
    epsilons_in,
)
from keras_densenet.weights.names import (
    CLASSIFIER,
    FEATURES,
    OF_NORM,
    at_our_epsilon,
    layers_within,
)

APPLICATIONS_EPSILON = 1.001e-5  # of keras.applications' batch norms
# How paths within our stems begin: "stem_" for layers by themselves, "stem/" for those
# of a Stem, and "stem_1/" for those of a process's second one, which Keras numbers.
_STEM = r"stem(?:_\d+/|[_/])"
OUR_FIRST = re.compile(rf"(^|/){_STEM}conv$")

NORMS_AND_ACTIVATIONS = (
    keras.layers.BatchNormalization,
    *(keras.layers.Activation, keras.layers.ReLU),
    *(keras.layers.ELU, keras.layers.LeakyReLU),
)
VARIANCE = "moving_variance"
# By Keras's words for what a layer has, PyTorch's.
_OF_NORM = dict(zip(NORM, OF_NORM, strict=True))
_OF_KERNEL = dict(zip(KERNEL, ("weight", "bias"), strict=True))
_KINDS = {"conv": "conv", "bn": "norm"}

# What a layer's path ends in, and PyTorch's name.
Names: TypeAlias = dict[str, Callable[..., str]]
_OF_OURS: Names = {
    rf"{_STEM}(conv|bn)": lambda kind: f"{_KINDS[kind]}0",
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
}
_OF_APPLICATIONS: Names = {  # Keras 2 has "/" for the first "_"
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
    config = [
        {"class_name": type(layer).__name__, "config": layer.get_config()}
        for layer in layers_within(model)
        if isinstance(layer, NORMS_AND_ACTIVATIONS)
    ]
    of_norms = epsilons_in(config), activations_in(config)
    return KerasLayers(layers, *of_norms, are_in_order=True)


def is_ours(layers: Mapping[str, Layer]) -> bool:
    """Return whether layers are those of a network of this package."""
    return any(OUR_FIRST.search(path) for path in layers)


def by_pytorchs_names(found: KerasLayers) -> dict[str, np.ndarray]:
    """Return the arrays of a network of Keras by PyTorch's names, with Keras's axes.

    What comes after the last batch norm is the classifier.

    Raises:
        WeightsError: It is no DenseNet, or has other weights before its last batch
            norm.
    """
    names = _names_of_layers(found.layers) or _names_in_order(found.layers)
    ours = is_ours(found.layers)
    arrays = {
        f"{FEATURES}{name}.{kind}": array
        for path, name in names.items()
        for kind, array in _by_kind(
            path,
            found.layers[path] if ours else _with_our_epsilon(path, found),
            "norm" in name,
        )
    }
    _refuse_others_before(found, list(names))
    if not ours:
        _refuse_other_activations(found, list(names))
    others = {p: layer for p, layer in found.layers.items() if p not in names}
    return arrays | dict(_classifier(others))


def _names_of_layers(layers: Mapping[str, Layer]) -> dict[str, str]:
    """Return PyTorch's names of the layers whose Keras's names are known.

    All are of the model that the first convolution is of: a head beside it may have a
    layer of the same name, such as "bn".
    """
    names = _OF_OURS if is_ours(layers) else _OF_APPLICATIONS
    known = {path: _known(path, names) for path in layers}
    first = [path for path, (_, name) in known.items() if name == "conv0"]
    if len(first) > 1:
        raise WeightsError(
            f"There are {len(first)} DenseNets: their first convolutions are "
            f"{', '.join(first)}. Give one of them: model.get_layer(name)."
        )
    if not first:
        return {}
    network, _ = known[first[0]]
    found = {path: name for path, (at, name) in known.items() if name and at == network}
    if not any(name.endswith("conv1") for name in found.values()):
        # Without bottlenecks, the only convolution of a dense layer is its first.
        found = {
            path: re.sub(r"(denselayer\d+\.(?:conv|norm))2", r"\g<1>1", name)
            for path, name in found.items()
        }
    return found if "norm5" in found.values() else {}


def _known(path: str, names: Names) -> tuple[str, str]:
    """Return the path of a layer's model, and PyTorch's name of it; "" if not known.

    >>> _known("model/densenet121/conv1_conv", _OF_APPLICATIONS)
    ('model/densenet121', 'conv0')
    >>> _known("model/dense", _OF_APPLICATIONS)
    ('', '')
    """
    if _OF_KERAS_HUB.search(path):
        raise WeightsError(
            f"{path} is a name of KerasHub, whose DenseNet pads pictures by 2 and 3 "
            "pixels before its first convolution, where the paper's network has 3 on "
            "all sides: it is another network. Give weights of keras.applications, "
            "torchvision or timm."
        )
    for ending, name in names.items():
        match = re.search(rf"(?:^|/){ending}$", path)
        if match:
            return path[: match.start()], name(*match.groups())
    return "", ""


def _names_in_order(layers: Mapping[str, Layer]) -> dict[str, str]:
    """Return PyTorch's names of layers whose names say only their order.

    Two convolutions of 1x1 after one another are a transition's and a bottleneck's.
    """
    kernels = {
        path: layer["kernel"].shape[0]
        for path, layer in layers.items()
        if "kernel" in layer and layer["kernel"].ndim > 2
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
        where = "before the last batch norm"
        if not found.are_in_order:
            where = f"perhaps {where} (the file does not say in which order layers are)"
        raise WeightsError(
            f"There are weights that a DenseNet has not, {where}: "
            f"{', '.join(before[:5])}. Give weights of the same network; of one within "
            "a model, model.get_layer(name)."
        )


def _refuse_other_activations(found: KerasLayers, network: Sequence[str]) -> None:
    """Refuse a network that has the weights of a DenseNet, but no ReLU."""
    for path in network:
        others = _of_layer(path, found.activations) - {RELU}
        if others:
            raise WeightsError(
                f"After {path} there is an activation that is no ReLU, but "
                f"{', '.join(sorted(others))}: it is another network than the paper's."
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


def _with_our_epsilon(path: str, found: KerasLayers) -> Layer:
    """Return a layer's arrays, with what its epsilon is above ours added to variances.

    >>> norm = {"moving_variance": np.ones(1)}
    >>> layers = KerasLayers({"a/bn": norm}, {"bn": {0.25 + 1e-5}}, {}, True)
    >>> _with_our_epsilon("a/bn", layers)["moving_variance"].tolist()
    [1.25]
    """
    layer = found.layers[path]
    if VARIANCE not in layer:
        return layer
    epsilons = _epsilons_of(path, found.epsilons)
    if len(epsilons) > 1:
        raise WeightsError(
            f"By its name alone {path} can have either of the epsilons "
            f"{', '.join(map(str, sorted(epsilons)))}. Load the model in Keras, and "
            "pass the network that is meant: model.get_layer(name)."
        )
    (epsilon,) = epsilons
    return layer | {VARIANCE: at_our_epsilon(layer[VARIANCE], epsilon)}


def _epsilons_of(path: str, epsilons: Mapping[str, set[float]]) -> set[float]:
    """Return which epsilons a batch norm can have.

    Those of its name; of all, where the file has numbers for names; where it has none,
    keras.applications'.
    """
    every = set().union(*epsilons.values())
    return _of_layer(path, epsilons) or every or {APPLICATIONS_EPSILON}


def _of_layer(path: str, values: Mapping[str, set[Any]]) -> set[Any]:
    """Return the values of a layer's name, of which a path may end with several.

    >>> _of_layer("a/conv1/bn", {"bn": {1}, "conv1/bn": {2}})
    {2}
    """
    named = [name for name in values if f"/{path}".endswith(f"/{name}")]
    return values[max(named, key=len)] if named else set()
