"""The names that torchvision and timm have for a DenseNet's weights."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_densenet.layers import BatchNorm, DenseBlock, DenseLayer, Stem, Transition
from keras_densenet.layers.batch_norm import EPSILON
from keras_densenet.weights.errors import WeightsError

# "denselayer1.norm.1.weight" of the files of 2017, and of torchvision before 0.3.
OLD_SPELLING = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
LAYERS = re.compile(r"(denselayer\d+)\.layers\.")  # of MONAI
OF_DENSE_LAYER = re.compile(r"(denselayer\d+)\.((?:norm|conv)[12]\.)")
STEM = "conv0.weight"  # which each DenseNet has once
FEATURES = "features."
OF_FEATURES = re.compile(r"(conv\d|norm|denseblock\d|transition\d)")
NUMBERED_BLOCK = re.compile(r"((?:.*\.)?)(\d+)\.denselayer1\.")
CLASSIFIER = "classifier."
COUNTER = ".num_batches_tracked"  # which PyTorch's batch norm has, and ours has not
OF_NORM = ("weight", "bias", "running_mean", "running_var")  # a batch norm's arrays
KINDS = {*OF_NORM}  # of a layer's arrays


class Weight(NamedTuple):
    """A weight of one of our networks, and its name in PyTorch."""

    name: str
    variable: keras.Variable

    @property
    def shape(self) -> tuple:
        """Its shape in PyTorch."""
        return to_pytorch(np.empty(self.variable.shape, "bool")).shape


def weights_by_name(model: keras.Model) -> list[Weight]:
    """Return all weights of a network with PyTorch's names, in PyTorch's order.

    Args:
        model: A DenseNet of this package, with or without its classifier, also within
            another model.
    """
    return [
        Weight(f"{name}.{kind}", variable)
        for name, layer in _parts(model)
        for kind, variable in _variables(layer)
    ]


def unnamed_weights(model: keras.Model) -> list[keras.Variable]:
    """Return the weights of a model that are no part of a DenseNet, in their order."""
    named = {id(weight.variable) for weight in weights_by_name(model)}
    return [weight for weight in model.weights if id(weight) not in named]


def layers_within(model: keras.Model) -> Iterator[keras.Layer]:
    """Iterate over the layers of a model and of the models within it."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from layers_within(layer)
        else:
            yield layer


def _parts(model: keras.Model) -> Iterator[tuple[str, keras.Layer]]:
    """Iterate over PyTorch's names, from `features.conv0` on, and our layers."""
    blocks = transitions = 0
    for layer in layers_within(model):
        if isinstance(layer, DenseBlock):
            blocks += 1
            for number, dense_layer in enumerate(layer.dense_layers, 1):
                name = f"features.denseblock{blocks}.denselayer{number}"
                yield from _of_dense_layer(name, dense_layer)
        elif isinstance(layer, Transition):
            transitions += 1
            yield f"features.transition{transitions}.norm", layer.bn
            yield f"features.transition{transitions}.conv", layer.conv
        elif isinstance(layer, Stem):
            yield "features.conv0", layer.conv
            yield "features.norm0", layer.bn
        elif layer.name in _OTHERS:
            yield _OTHERS[layer.name], layer


_OTHERS = {
    "stem_conv": "features.conv0",
    "stem_bn": "features.norm0",  # of a stem that is made of layers
    "final_bn": "features.norm5",
    "classifier": "classifier",
}


def _of_dense_layer(name: str, layer: DenseLayer) -> Iterator[tuple[str, keras.Layer]]:
    halves = [(layer.bn, layer.conv)]
    if layer.bottleneck:
        halves.insert(0, (layer.bottleneck_bn, layer.bottleneck_conv))
    for number, (norm, convolution) in enumerate(halves, 1):
        yield f"{name}.norm{number}", norm
        yield f"{name}.conv{number}", convolution


def _variables(layer: keras.Layer) -> list[tuple[str, keras.Variable]]:
    if isinstance(layer, BatchNorm):
        return [
            ("weight", layer.gamma),
            ("bias", layer.beta),
            ("running_mean", layer.moving_mean),
            ("running_var", layer.moving_variance),
        ]
    bias = getattr(layer, "bias", None)
    return [("weight", layer.kernel)] + ([] if bias is None else [("bias", bias)])


def todays_name(name: str) -> str:
    """Return the name, within "features.", that today's torchvision has for a weight.

    >>> todays_name("denseblock1.denselayer2.norm.1.running_var")
    'denseblock1.denselayer2.norm1.running_var'
    >>> todays_name("denseblock1.denselayer2.layers.conv2.weight")  # MONAI's
    'denseblock1.denselayer2.conv2.weight'
    >>> todays_name("norm_final.bias")  # efficient_densenet_pytorch's
    'norm5.bias'
    """
    name = OLD_SPELLING.sub(r"\1\2.", name)
    return LAYERS.sub(r"\1.", name).replace("norm_final.", "norm5.")


def monai_name(name: str) -> str:
    """Return the name that MONAI's DenseNet has for a weight of torchvision's.

    >>> monai_name("features.denseblock1.denselayer2.conv2.weight")
    'features.denseblock1.denselayer2.layers.conv2.weight'
    >>> monai_name("classifier.bias")
    'class_layers.out.bias'
    """
    name = OF_DENSE_LAYER.sub(r"\1.layers.\2", name)
    return name.replace(CLASSIFIER, "class_layers.out.")


def with_named_features(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return arrays by name, also where features have numbers for names.

    `nn.Sequential(*features.children())` numbers them, with what has no weights: the
    first convolution, for ImageNet's pictures its batch norm, ReLU and pooling, and
    then each block and its transition; after the last block the last batch norm.

    >>> list(with_named_features({"0.weight": 0, "4.denselayer1.conv1.weight": 0}))
    ['conv0.weight', 'denseblock1.denselayer1.conv1.weight']
    """
    blocks: dict[str, set[int]] = {}
    for match in filter(None, map(NUMBERED_BLOCK.match, arrays)):
        blocks.setdefault(match[1], set()).add(int(match[2]))
    children: dict[str, str] = {}
    for beginning, numbers in blocks.items():
        named = {0: "conv0", 1: "norm0"}
        for block, number in enumerate(sorted(numbers), 1):
            named |= {number: f"denseblock{block}", number + 1: f"transition{block}"}
        named[max(numbers) + 1] = "norm5"
        children |= {f"{beginning}{n}": beginning + name for n, name in named.items()}
    return {_with_named_child(name, children): array for name, array in arrays.items()}


def _with_named_child(name: str, children: Mapping[str, str]) -> str:
    """Return a weight's name, with the name of a child for the number that it has."""
    for dot in re.finditer(r"\.", name):
        if name[: dot.start()] in children:
            return children[name[: dot.start()]] + name[dot.start() :]
    return name


def stems_in(names: Iterable[str]) -> list[str]:
    """Return what the names of each DenseNet's features begin with.

    >>> stems_in(["net.features.conv0.weight", "net.classifier.bias"])
    ['net.features.']
    """
    return [
        name.removesuffix(STEM)
        for name in names
        if name == STEM or name.endswith(f".{STEM}")
    ]


def by_todays_names(arrays: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return arrays by the names that today's torchvision and timm have.

    What the names of all features begin with is found by the stem's, such as
    "module.densenet121.features.", "backbone.0." or nothing. All other layers are the
    classifier: where it is one layer, its name does not matter.

    Returns:
        The arrays, and the names of those that are of no layer: counters, thresholds.

    >>> arrays = {"a.0.conv0.weight": np.zeros((8, 3, 7, 7)), "b.weight": np.eye(8)}
    >>> by_todays_names(arrays | {"b.bias": np.zeros(8), "op_threshs": np.zeros(8)})[1]
    ['op_threshs']
    """
    stems = stems_in(arrays)
    if len(stems) > 1:
        raise WeightsError(
            f"There are {len(stems)} DenseNets among these weights: their names begin "
            f"with {', '.join(map(repr, stems))}. Give those of one of them: "
            "{name: array} with one beginning."
        )
    stem = stems[0] if stems else FEATURES
    whole = stem.removesuffix(FEATURES)
    renamed, others = {}, {}
    for name, array in arrays.items():
        if name.startswith(stem) if stem else _is_of_features(name, array):
            renamed[FEATURES + todays_name(name.removeprefix(stem))] = array
        else:
            others[name.removeprefix(whole)] = array
    if FEATURES + STEM in renamed:
        _refuse_convolutions_before(others, renamed[FEATURES + STEM].shape)
    classifier, left_out = _classifier(others)
    left_out += [name for name in renamed if name.endswith(COUNTER)]
    renamed = {n: a for n, a in renamed.items() if not n.endswith(COUNTER)}
    return renamed | classifier, left_out


def _refuse_convolutions_before(
    others: Mapping[str, Any], stem: tuple[int, ...]
) -> None:
    """Refuse convolutions that make what the first one reads.

    They stand before the network, such as one that makes three channels of a gray
    picture, and without them it answers nonsense.
    """
    before = [
        name
        for name, array in others.items()
        if len(array.shape) == len(stem) > 2 and array.shape[0] == stem[1]
    ]
    if before:
        raise WeightsError(
            f"Beside the DenseNet there is a convolution, {before[0]}, that makes as "
            "many maps as the network reads: it may stand before it. If it does not, "
            "save the DenseNet's own state dict."
        )


def _is_of_features(name: str, array: Any) -> bool:
    """Return whether an array is of the features, where their names begin with none."""
    return bool(OF_FEATURES.match(name)) or np.ndim(array) > 2


def _classifier(arrays: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the arrays that are of layers, as a classifier's, and other names."""
    layers: dict[str, dict[str, Any]] = {}
    for name, array in arrays.items():
        layer, _, kind = name.rpartition(".")
        layers.setdefault(layer, {})[kind] = array
    # A lone vector is no layer: thresholds, or a loss's weights of the classes.
    is_layer = {
        layer: len(kinds.keys() & KINDS) > 1 or np.ndim(kinds.get("weight", 0)) > 1
        for layer, kinds in layers.items()
    }
    if sum(is_layer.values()) == 1:
        names = {name: CLASSIFIER + name.rpartition(".")[2] for name in arrays}
    else:
        names = {name: CLASSIFIER + name.removeprefix(CLASSIFIER) for name in arrays}
    found, left_out = {}, []
    for name, array in arrays.items():
        layer, _, kind = name.rpartition(".")
        if is_layer[layer] and kind in KINDS:
            found[names[name]] = array
        else:
            left_out.append(name)
    return found, left_out


def at_our_epsilon(variance: np.ndarray, epsilon: float) -> np.ndarray:
    """Return a batch norm's variance, with what its epsilon is above ours added."""
    return variance + (epsilon - EPSILON)


def to_pytorch(array: np.ndarray) -> np.ndarray:
    """Turn a kernel `(H, W, in, out)` or `(in, out)` into PyTorch's `(out, in, H, W)`.

    Those of signals and of volumes have one axis fewer, and one more.

    >>> to_pytorch(np.zeros((3, 5, 16, 12))).shape, to_pytorch(np.zeros((7, 10))).shape
    ((12, 16, 3, 5), (10, 7))
    """
    if array.ndim > 1:
        return np.moveaxis(array, (-1, -2), (0, 1))
    return array


def from_pytorch(array: np.ndarray) -> np.ndarray:
    """Turn PyTorch's kernel into Keras's: the inverse of `to_pytorch`."""
    return np.moveaxis(array, (0, 1), (-1, -2)) if array.ndim > 1 else array
