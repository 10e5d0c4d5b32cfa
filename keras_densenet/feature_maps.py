"""The feature maps inside of a network, as a model of their own: an encoder.

Its weights are those of the network that it is taken of, and so are its layers: it is
trained and recomputed as that.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras

from keras_densenet.errors import MisconfigurationError, did_you_mean
from keras_densenet.layers import (
    ChannelSlice,
    DenseBlock,
    Stem,
    StemWithMaps,
    channel_axis,
    checked_data_format,
)
from keras_densenet.tensor import Tensor

_FINAL = "final_relu"  # what the last maps of a DenseNet have gone through
_STEM_STRIDE = 4
_INSIDE = "."  # in a layer's name, which must not have a "/"
_BEFORE_POOLING = "maps"  # the stem's, of half its stride


class Feature(NamedTuple):
    """Feature maps that a network makes.

    Attributes:
        name: Of the layer that makes them, such as "dense_block2".
        stride: Height and width of the input divided by those of the maps.
        channels: How many maps there are.
    """

    name: str
    stride: int
    channels: int


@keras.saving.register_keras_serializable(package="keras_densenet")
class FeatureModel(keras.Model):
    """A functional model from pictures to a list of feature maps."""

    @property
    def feature_info(self) -> list[Feature]:
        """Return name, stride and number of channels of each of the outputs."""
        return [
            Feature(_name(maps), _stride(maps), _channels(maps))
            for maps in self.outputs
        ]


def features(
    model: keras.Model,
    strides: Sequence[int] | None = None,
    *,
    layers: Sequence[str] | None = None,
) -> FeatureModel:
    """Return a model of the feature maps that a network makes, with the same weights.

    The maps of a stride are the last of that size on the way down, as those of timm's
    `features_only`: what a dense block returns, without a batch norm after it, and of
    the last block what has gone through the last batch norm and ReLU. Those of stride 2
    of an ImageNet network are the stem's, before their pooling. What is inside a block
    is part of what the block returns, so that it costs nothing to ask for it.

    Args:
        model: A network of this package, with or without a classifier; also one that
            has been trained, or loaded.
        strides: Of the maps, such as `(4, 8, 16, 32)`; None for those of all dense
            blocks (on the way down of an `FCDenseNet`), from the largest maps to the
            smallest. With an `output_stride` several blocks have the same stride: by
            None all of them are given, and by the stride the last.
        layers: Instead of strides, names of layers: those of the network, such as
            "transition1", and of layers inside a dense block, such as
            "dense_block2/layer5" for the k maps that this layer adds.

    Returns:
        A `keras.Model` from pictures to a list of maps `(N, H / stride, W / stride, C)`
        in the order of `strides` or `layers`. Its `feature_info` has the name, the
        stride and the channels of each.

    Raises:
        ValueError: There are no maps of a stride, or no layer of a name; or both are
            given.
        MisconfigurationError: The model has no dense blocks of its own.

    Examples:
        >>> from keras_densenet import DenseNetBC
        >>> encoder = features(DenseNetBC(depth=40, growth_rate=12))
        >>> [tuple(feature) for feature in encoder.feature_info]
        [('dense_block1', 1, 96), ('dense_block2', 2, 120), ('final_relu', 4, 132)]
    """
    if strides is not None and layers is not None:
        raise ValueError(
            "strides and layers each say which maps are meant: leave one of them out. "
            f"Received: strides={strides!r}, layers={layers!r}."
        )
    _refuse_no_list("strides", strides, "(8, 16)")
    _refuse_no_list("layers", layers, "('transition1',)")
    _refuse_no_network(model)
    known = _maps_by_stride(model)
    if layers is not None:
        names = list(layers)
    elif strides is not None:
        names = [_of_stride(model, known, stride) for stride in strides]
    else:
        names = [name for name, _ in known if "/" not in name]
    inputs, maps = _graph(model, names)
    outputs = {name: _named(model, maps, name) for name in names}
    listed = [outputs[name] for name in names]
    return FeatureModel(inputs, listed, name=f"{model.name}_features")


def _refuse_no_list(name: str, value: Any, example: str) -> None:
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    if value is not None and not (is_list and len(value)):
        raise ValueError(
            f"{name} is a sequence of one or more, such as {example}. Received: "
            f"{name}={value!r}."
        )


def _refuse_no_network(model: Any) -> None:
    if isinstance(model, FeatureModel):
        raise MisconfigurationError(
            f"{model.name} gives feature maps already: take others of the network that "
            "it was taken of."
        )
    if not isinstance(model, keras.Model):
        raise MisconfigurationError(
            "features takes a keras.Model, such as module.model of an ImageClassifier "
            f"that was fitted. Received: {type(model).__name__}."
        )


# --- which maps ------------------------------------------------------------------


def _maps_by_stride(model: keras.Model) -> list[tuple[str, int]]:
    """Return names and strides of the maps on the way down, in their order."""
    layers = model.layers if hasattr(model, "operations") else []
    blocks = [layer for layer in layers if isinstance(layer, DenseBlock)]
    if not blocks:
        raise MisconfigurationError(
            f"{model.name} has no dense blocks among its own layers. Pass a network of "
            "this package; one within another model is model.get_layer(name)."
        )
    stems = [layer for layer in layers if isinstance(layer, Stem)]
    maps = [
        (f"{stem.name}/{_BEFORE_POOLING}", _stride(stem.output) // 2) for stem in stems
    ]
    for block in blocks:
        stride = _stride(block.output)
        if maps and stride < maps[-1][1]:
            return maps  # a way up begins here
        maps.append((block.name, stride))
    if any(layer.name == _FINAL for layer in layers):
        maps[-1] = (_FINAL, maps[-1][1])
    return maps


def _of_stride(model: keras.Model, known: list[tuple[str, int]], stride: int) -> str:
    """Return the name of the last maps of a stride."""
    found = {of_stride: name for name, of_stride in known}
    if stride not in found:
        raise ValueError(
            f"{model.name} has no maps of stride {stride}. Those it has: "
            f"{', '.join(map(str, found))}."
        )
    return found[stride]


def _stride(maps: Tensor) -> int:
    """Return height and width of the input divided by those of maps of its graph."""
    operation, node, place = maps._keras_history
    read = operation._inbound_nodes[node].input_tensors
    # Of a skip connection the last one, which has come all the way.
    before = _stride(read[-1]) if read else 1
    if isinstance(operation, StemWithMaps) and place == 1:
        return before * _STEM_STRIDE // 2
    if isinstance(operation, Stem | StemWithMaps):
        return before * _STEM_STRIDE
    own = getattr(operation, "strides", 1)
    own = own[0] if isinstance(own, tuple) else own
    is_transposed = "Transpose" in type(operation).__name__
    return before // own if is_transposed else before * own


def _name(maps: Tensor) -> str:
    operation, _, place = maps._keras_history
    if isinstance(operation, StemWithMaps):
        name = operation.stem.name
        return f"{name}/{_BEFORE_POOLING}" if place == 1 else name
    return operation.name.replace(_INSIDE, "/")


def _channels(maps: Tensor) -> int:
    return maps.shape[channel_axis(checked_data_format(None))]


# --- their tensors ---------------------------------------------------------------


def _graph(model: keras.Model, names: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """Return a model's inputs, and what each of its layers returns, by name.

    Where maps are wanted that the stem does not return, another layer stands for it,
    and all others are called once more, on what that returns.
    """
    stems = [layer.name for layer in model.layers if isinstance(layer, Stem)]
    if not any(f"{name}/{_BEFORE_POOLING}" in names for name in stems):
        return model.input, {layer.name: layer.output for layer in model.layers}
    maps: dict[str, Any] = {}

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        y = layer(*args, **kwargs)
        if isinstance(layer, StemWithMaps):
            y, maps[f"{layer.stem.name}/{_BEFORE_POOLING}"] = y
            maps[layer.stem.name] = y
        maps[layer.name] = y
        return y

    def opened(layer: Any) -> Any:
        if isinstance(layer, Stem):
            return StemWithMaps(
                layer, name=f"{layer.name}_with_maps", dtype=layer.dtype_policy
            )
        return layer

    whole = keras.Model(model.input, model.output)  # not compiled
    clone = keras.models.clone_model(whole, clone_function=opened, call_function=call)
    return clone.input, maps


def _named(model: keras.Model, maps: dict[str, Any], name: str) -> Tensor:
    """Return the maps of a layer, or of a layer inside a dense block."""
    if name in maps:
        return maps[name]
    blocks = [layer for layer in model.layers if isinstance(layer, DenseBlock)]
    ends = {
        f"{block.name}/{layer.name}": (block, len(block.dense_layers) - 1 - i)
        for block in blocks
        for i, layer in enumerate(block.dense_layers)
    }
    if name not in ends:
        raise ValueError(
            f"{model.name} has no layer {name!r}.{did_you_mean(name, [*maps, *ends])} "
            "Layers inside a dense block are such as 'dense_block1/layer1'; "
            "model.summary() lists the others."
        )
    block, after = ends[name]  # how many layers of the block come after it
    y = maps[block.name]
    end = y.shape[block.axis] - after * block.growth_rate
    return ChannelSlice(
        end - block.growth_rate,
        end,
        data_format=block.data_format,
        name=name.replace("/", _INSIDE),
    )(y)
