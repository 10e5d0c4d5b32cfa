"""The names that torchvision and timm have for a DenseNet's weights."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_densenet.layers import BatchNorm, DenseBlock, DenseLayer, Transition

# "denselayer1.norm.1.weight" of the files of 2017, and of torchvision before 0.3.
OLD_SPELLING = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
WRAPPERS = ("module.", "model.", "_orig_mod.")  # DataParallel, Lightning, torch.compile
STEM = "features.conv0.weight"  # which each DenseNet has once
# The only layer of a classifier that is a sequence, as CheXNet's: Linear, Sigmoid.
IN_SEQUENCE = re.compile(r"^classifier\.\d+\.(weight|bias)$")


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
        elif layer.name in _OTHERS:
            yield _OTHERS[layer.name], layer


_OTHERS = {
    "stem_conv": "features.conv0",
    "stem_bn": "features.norm0",
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
    """Return a weight's name in the spelling of today's torchvision and timm.

    >>> todays_name("module.features.denseblock1.denselayer2.norm.1.running_var")
    'features.denseblock1.denselayer2.norm1.running_var'
    """
    for wrapper in WRAPPERS:
        name = name.removeprefix(wrapper)
    return OLD_SPELLING.sub(r"\1\2.", name)


def by_todays_names(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return arrays by the names that today's torchvision and timm have.

    What all names begin with before `features.conv0.weight` is taken off, such as
    "module.densenet121." or "backbone.". A classifier that is a sequence with one layer
    that has weights is that layer.

    >>> list(by_todays_names({"a.features.conv0.weight": 1, "a.classifier.0.bias": 2}))
    ['features.conv0.weight', 'classifier.bias']
    """
    stems = [name for name in arrays if name.endswith(STEM)]
    prefix = stems[0].removesuffix(STEM) if len(stems) == 1 else ""
    if not all(name.startswith(prefix) for name in arrays):
        prefix = ""
    renamed = {
        todays_name(name.removeprefix(prefix)): array for name, array in arrays.items()
    }
    classifier = [name for name in renamed if name.startswith("classifier.")]
    numbers = {name.split(".")[1] for name in classifier}
    if len(numbers) != 1 or not all(map(IN_SEQUENCE.match, classifier)):
        return renamed
    return {IN_SEQUENCE.sub(r"classifier.\1", n): a for n, a in renamed.items()}


def to_pytorch(array: np.ndarray) -> np.ndarray:
    """Turn a kernel `(H, W, in, out)` or `(in, out)` into PyTorch's `(out, in, H, W)`.

    >>> to_pytorch(np.zeros((3, 5, 16, 12))).shape, to_pytorch(np.zeros((7, 10))).shape
    ((12, 16, 3, 5), (10, 7))
    """
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    return array.T


def from_pytorch(array: np.ndarray) -> np.ndarray:
    """Turn PyTorch's kernel into Keras's: the inverse of `to_pytorch`."""
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
