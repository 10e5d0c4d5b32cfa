"""The network as it is served: in float32 or bfloat16, its batch norms folded away.

In inference a batch norm is an affine map, `scale x + offset`. After a convolution it
is part of the convolution's weights and of a bias: that of the bottleneck, and the
stem's. Before one, as DenseNet has most of them, a ReLU stands between, and it stays an
affine map. The answers are the same but for rounding.

In bfloat16 the maps and the kernels are in it, which make the work; what takes and
gives numbers is in float32, as are batch norms' vectors and all that comes after the
pooling.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_densenet.layers import BatchNorm, DenseBlock, Stem, Transition
from keras_densenet.layers.convolution import (
    CONVOLUTIONS,
    POINTWISE,
    NarrowConvolution,
)
from keras_densenet.layers.tensorflow_kernels import affine
from keras_densenet.model_output import ModelOutput, is_functional, output_of

TINY = np.finfo("float32").tiny  # a probability of 0 has no logarithm


class Network(NamedTuple):
    """A network for inference.

    Attributes:
        answers: Takes standardized pictures `(N, H, W, channels)`, or signals or
            volumes, and returns "logits" `(N, classes)` and "features" `(N, D)`, which
            are what the classifier reads. There are no "features" where the last layer
            is not a classifier that is known.
        activation: Takes logits, and returns probabilities.
    """

    answers: Callable[[Any], dict[str, Any]]
    activation: Callable[[Any], Any]

    def probabilities(self, images: Any) -> Any:
        """Return the probability of each class, `(N, classes)`."""
        return self.activation(self.answers(images)["logits"])


def inference_network(model: keras.Model, precision: str = "float32") -> Network:
    """Return a copy of a model for inference, its batch norms folded.

    Args:
        model: Takes pictures, signals or volumes, and returns class probabilities or
            logits `(N, classes)`. Its precision and the strategy that it was made under
            may be any.
        precision: Of the maps: "float32", or "bfloat16" for a functional or sequential
            model.
    """
    copy = _folded(model, precision) if is_functional(model) else in_float32(model)
    return _with_logits(copy, output_of(model))


def unfolded_network(model: keras.Model) -> Network:
    """Return a copy of a model in float32, to compare with, all else as trained."""
    return _with_logits(in_float32(model), output_of(model))


# --- folding ---------------------------------------------------------------------


def _folded(model: keras.Model, precision: str) -> keras.Model:
    absorbed = _batch_norms_after_convolutions(model)
    answers = {id(output) for output in model.outputs}
    convolutions = {id(conv): bn for bn, conv in absorbed}
    norms = {id(bn) for bn, _ in absorbed}
    copies: list[tuple[keras.Layer, list]] = []

    def clone(layer: Any) -> Any:
        if not isinstance(layer, keras.Layer):
            return layer  # an operation of keras.ops
        gives_answers = id(layer.output) in answers
        dtype = "float32" if gives_answers else _precision_of(layer, precision)
        policy = "mixed_bfloat16" if dtype == "bfloat16" else dtype
        if id(layer) in norms:
            return Absorbed(name=layer.name, dtype=dtype)
        if id(layer) in convolutions:
            copy = _copied(layer, policy, use_bias=True)
            weights = _absorbing(layer, convolutions[id(layer)])
        elif type(layer) in _FOLDED and layer.data_format == "channels_last":
            copy = _FOLDED[type(layer)].of(layer, dtype=dtype)
            weights = copy.folded_weights(layer)
        else:
            copy, weights = _copied(layer, policy), layer.get_weights()
        copies.append((copy, weights))
        return copy

    folded = keras.models.clone_model(model, clone_function=clone, recursive=True)
    for copy, weights in copies:
        copy.set_weights([np.asarray(weight, "float32") for weight in weights])
    return folded


def _precision_of(layer: keras.layers.Layer, precision: str) -> str:
    """Return what a layer's copy computes in: only maps are in 16 bits.

    Pixels are not, which layers that prepare them read.
    """
    are_maps = all(len(y.shape) > 2 for y in keras.tree.flatten(layer.output))
    is_of_maps = are_maps and not isinstance(layer, _PREPARING)
    return precision if is_of_maps else "float32"


def _batch_norms_after_convolutions(model: keras.Model) -> list[tuple]:
    """Return each batch norm that alone reads a convolution, with that convolution."""
    found = []
    layers = list(model._flatten_layers(include_self=False))
    models = [model, *(layer for layer in layers if is_functional(layer))]
    given = {id(output) for one in models for output in one.outputs}
    for layer in layers:
        if not isinstance(layer, BatchNorm | keras.layers.BatchNormalization):
            continue
        if len(layer._inbound_nodes) != 1:
            continue  # shared, or a part of a layer that is not functional
        before = layer.input._keras_history.operation
        if not _takes_a_bias(before) or not _is_by_channel(layer):
            continue
        # What else reads the convolution, or gets it as an output, needs it as it is.
        if len(before._outbound_nodes) == 1 and id(before.output) not in given:
            found.append((layer, before))
    return found


def _takes_a_bias(layer: Any) -> bool:
    return (
        type(layer) in _CONVOLUTIONS  # a subclass may compute something else
        and layer.activation is keras.activations.linear
        and layer.data_format == "channels_last"
        and len(layer._inbound_nodes) == 1
    )


def _is_by_channel(bn: keras.Layer) -> bool:
    axis = bn.axis[0] if isinstance(bn.axis, list | tuple) else bn.axis
    return axis in (-1, len(bn.input.shape) - 1)


def _absorbing(convolution: keras.Layer, bn: keras.Layer) -> list[np.ndarray]:
    """Return a convolution's kernel and bias with the batch norm after it in them."""
    scale, offset = scale_and_offset(bn)
    kernel, *bias = convolution.get_weights()
    return [kernel * scale, offset + scale * (bias[0] if bias else 0.0)]


def scale_and_offset(bn: keras.Layer) -> tuple[np.ndarray, np.ndarray]:
    """Return the affine map that a batch norm is in inference: `(C,)` each, float64."""
    mean, variance = (
        np.asarray(moving, "float64") for moving in (bn.moving_mean, bn.moving_variance)
    )
    scale = 1 / np.sqrt(variance + bn.epsilon)
    if bn.gamma is not None:
        scale *= np.asarray(bn.gamma, "float64")
    offset = -mean * scale
    if bn.beta is not None:
        offset += np.asarray(bn.beta, "float64")
    return scale, offset


class Absorbed(keras.layers.Layer):
    """What is left of a batch norm that is part of a convolution."""

    def call(self, x: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Return `x`; a batch norm may have been called with the other arguments."""
        del training, mask
        return x


class FoldedStem(keras.layers.Layer):
    """What `Stem` computes in inference.

    Args:
        filters: Number of feature maps.
    """

    def __init__(self, filters: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = filters

    @classmethod
    def of(cls, stem: Stem, dtype: str) -> "FoldedStem":
        """Return a layer that stands for a stem, without its weights."""
        return cls(stem.filters, name=stem.name, dtype=dtype)

    def build(self, input_shape: tuple) -> None:
        """Create the weights."""
        rank = len(input_shape) - 2
        shapes = [(*(7,) * rank, input_shape[-1], self.filters), (self.filters,)]
        self.kernel, self.bias = _vectors_and_kernels(self, shapes, "")

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Return a quarter of the height and width: `(N, H / 4, W / 4, filters)`."""
        del training
        kernel = tf.convert_to_tensor(self.kernel)
        x = tf.nn.convolution(_padded(x, 3), kernel, 2, "VALID")
        x = tf.nn.relu(_biased(x, self.bias))
        return tf.nn.max_pool(_padded(x, 1), 3, 2, "VALID")

    def folded_weights(self, stem: Stem) -> list[np.ndarray]:
        """Return the weights of a stem, its batch norm folded."""
        return _absorbing(stem.conv, stem.bn)


class FoldedDenseBlock(keras.layers.Layer):
    """What `DenseBlock` computes in inference.

    Args:
        num_layers: L, the number of dense layers.
        growth_rate: k, the number of feature maps that each layer adds.
        bottleneck: Whether each layer begins with a 1x1 convolution.
        bn_size: Maps that the 1x1 convolution makes, divided by k.
        dilation_rate: How far apart the pixels are that the 3x3 convolutions read.
    """

    def __init__(
        self,
        num_layers: int,
        growth_rate: int,
        bottleneck: bool,
        bn_size: int,
        dilation_rate: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_layers = num_layers
        self.growth_rate = growth_rate
        self.bottleneck = bottleneck
        self.bn_size = bn_size
        self.dilation_rate = dilation_rate

    @classmethod
    def of(cls, block: DenseBlock, dtype: str) -> "FoldedDenseBlock":
        """Return a layer that stands for a dense block, without its weights."""
        layers = (block.num_layers, block.growth_rate, block.bottleneck, block.bn_size)
        return cls(*layers, block.dilation_rate, name=block.name, dtype=dtype)

    def build(self, input_shape: tuple) -> None:
        """Create each layer's weights, in the order of their use."""
        channels, k, rank = input_shape[-1], self.growth_rate, len(input_shape) - 2
        wide = self.bn_size * k
        self.layer_weights = []
        for i in range(self.num_layers):
            reads = channels + i * k
            shapes: list[tuple] = [(reads,), (reads,)]
            if self.bottleneck:
                shapes += [(*(1,) * rank, reads, wide), (wide,)]
            shapes += [(*(3,) * rank, wide if self.bottleneck else reads, k)]
            self.layer_weights.append(_vectors_and_kernels(self, shapes, f"layer{i}"))

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Let each layer add its k maps: `(N, H, W, k0)` to `(N, H, W, k0 + L k)`."""
        del training  # which the layer that it stands for may have been called with
        for scale, offset, *bottleneck, kernel in self.layer_weights:
            y = _relu_of(x, scale, offset)
            if self.bottleneck:
                y = _convolve(y, bottleneck[0])  # (N, H, W, bn_size k)
                y = tf.nn.relu(_biased(y, bottleneck[1]))
            x = tf.concat([x, _convolve(y, kernel, self.dilation_rate)], axis=-1)
        return x

    def folded_weights(self, block: DenseBlock) -> list[np.ndarray]:
        """Return the weights of a dense block, its batch norms folded."""
        weights: list[np.ndarray] = []
        for layer in block.dense_layers:
            if self.bottleneck:
                weights += scale_and_offset(layer.bottleneck_bn)
                weights += _absorbing(layer.bottleneck_conv, layer.bn)
            else:
                weights += scale_and_offset(layer.bn)
            weights += layer.conv.get_weights()
        return weights


class FoldedTransition(keras.layers.Layer):
    """What `Transition` computes in inference.

    Args:
        kept: The number of maps that it keeps.
        pooling: "avg" or "max".
        pool: Pools maps.
    """

    def __init__(
        self, kept: int, pooling: str, pool: Callable[[Any], Any], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.kept = kept
        self.pooling = pooling
        self.pool = pool

    @classmethod
    def of(cls, transition: Transition, dtype: str) -> "FoldedTransition":
        """Return a layer that stands for a transition, without its weights."""
        kept, pooling = transition.conv.filters, transition.pooling
        return cls(kept, pooling, transition.pool, name=transition.name, dtype=dtype)

    def build(self, input_shape: tuple) -> None:
        """Create the weights."""
        maps, ones = input_shape[-1], (1,) * (len(input_shape) - 2)
        shapes: list[tuple] = [(maps,), (maps,), (*ones, maps, self.kept)]
        self.scale, self.offset, self.kernel = _vectors_and_kernels(self, shapes, "")

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Return the maps kept, pooled."""
        del training
        x = _relu_of(x, self.scale, self.offset)
        if self.pooling == "max":
            return self.pool(_convolve(x, self.kernel))
        # Means of mixtures are mixtures of means, and of those there are a quarter.
        return _convolve(self.pool(x), self.kernel)

    def folded_weights(self, transition: Transition) -> list[np.ndarray]:
        """Return the weights of a transition, its batch norm folded."""
        return [*scale_and_offset(transition.bn), *transition.conv.get_weights()]


class Affine(keras.layers.Layer):
    """What `BatchNorm` computes in inference where there is nothing to fold it into."""

    @classmethod
    def of(cls, bn: BatchNorm, dtype: str) -> "Affine":
        """Return a layer that stands for a batch norm, without its weights."""
        return cls(name=bn.name, dtype=dtype)

    def build(self, input_shape: tuple) -> None:
        """Create scale and offset."""
        shapes: list[tuple] = [(input_shape[-1],)] * 2
        self.scale, self.offset = _vectors_and_kernels(self, shapes, "")

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Return `scale x + offset`."""
        del training
        return _affine(x, self.scale, self.offset)

    def folded_weights(self, bn: BatchNorm) -> list[np.ndarray]:
        """Return the scale and the offset that a batch norm is."""
        return list(scale_and_offset(bn))


_FOLDED: dict[type, Any] = {
    Stem: FoldedStem,
    DenseBlock: FoldedDenseBlock,
    Transition: FoldedTransition,
    BatchNorm: Affine,
}


def _vectors_and_kernels(
    layer: keras.layers.Layer, shapes: Sequence[tuple], prefix: str
) -> list:
    """Create weights, the vectors in float32 whatever the layer's precision is."""
    return [
        layer.add_weight(
            shape=shape,
            dtype="float32" if len(shape) == 1 else layer.compute_dtype,
            autocast=False,
            name=f"{prefix}_{i}",
            trainable=False,
        )
        for i, shape in enumerate(shapes)
    ]


def _relu_of(x: Any, scale: Any, offset: Any) -> Any:
    return tf.nn.relu(_affine(x, scale, offset))


def _affine(x: Any, scale: Any, offset: Any) -> Any:
    scale, offset = (tf.convert_to_tensor(vector) for vector in (scale, offset))
    return affine(x, scale, offset, np.zeros(scale.shape, "float32"), in_training=False)


def _biased(x: Any, bias: Any) -> Any:
    return tf.nn.bias_add(x, tf.cast(bias, x.dtype))


def _padded(x: Any, width: int) -> Any:
    return tf.pad(x, [(0, 0), *[(width, width)] * (len(x.shape) - 2), (0, 0)])


def _convolve(x: Any, kernel: Any, dilation_rate: int = 1) -> Any:
    kernel = tf.convert_to_tensor(kernel)
    return tf.nn.convolution(x, kernel, padding="SAME", dilations=dilation_rate)


# --- copying ---------------------------------------------------------------------


def in_float32(model: Any) -> Any:
    """Return a copy of a layer or a model in float32, outside any strategy."""
    copy = _copied(model, "float32")
    copy.set_weights([np.asarray(w, "float32") for w in model.get_weights()])
    return copy


def _copied(layer: Any, policy: str, **changes: Any) -> Any:
    """Return a copy of a layer or a model without its weights, under a dtype policy.

    Args:
        layer: Layer or model.
        policy: Keras's name of it.
        changes: What is to be different in its configuration.
    """
    return type(layer).from_config(_under(policy, layer.get_config()) | changes)


def _under(policy: str, config: Any) -> Any:
    """Return a configuration with this policy in place of every dtype policy."""
    if isinstance(config, dict):
        if config.get("class_name") in ("DTypePolicy", "FloatDTypePolicy"):
            return policy
        return {
            key: policy if key == "dtype" and isinstance(value, str) else value
            for key, value in (
                (key, _under(policy, value)) for key, value in config.items()
            )
        }
    if isinstance(config, list | tuple):
        return type(config)(_under(policy, value) for value in config)
    return config


_PROBABILITIES = (keras.activations.softmax, keras.activations.sigmoid)
_PREPARING = (keras.layers.Rescaling, keras.layers.Normalization)
_CONVOLUTIONS = (*CONVOLUTIONS.values(), *POINTWISE.values(), NarrowConvolution)


# --- logits and features ---------------------------------------------------------


def _with_logits(model: keras.Model, output: ModelOutput) -> Network:
    """Return a network that answers what the last layer reads, and logits.

    The activation of the last layer of `model` is taken off. `output` is what the model
    answers that it is a copy of, whose loss says what the copy does not.
    """
    head, activation = _head(model)
    if output.kind == "sigmoid_logits":
        activation = keras.activations.sigmoid
    last = _last_activation_layer(model)
    if head is None and last is not None:
        whole = keras.Model(model.inputs[0], {"logits": last.input})
        return Network(_answering_in_float32(whole), last.activation)
    if head is None:
        # Softmax makes of the logarithms of probabilities the probabilities.
        def logarithms(images: Any) -> dict[str, Any]:
            probabilities = tf.cast(model(images, training=False), tf.float32)
            return {"logits": tf.math.log(tf.maximum(probabilities, TINY))}

        return Network(logarithms, keras.activations.softmax)
    head.activation = keras.activations.linear
    answers = {"logits": head(head.input)}
    if isinstance(head, keras.layers.Dense):
        answers["features"] = head.input
    whole = keras.Model(model.inputs[0], answers)
    return Network(_answering_in_float32(whole), activation)


def _answering_in_float32(model: keras.Model) -> Callable[[Any], dict[str, Any]]:
    """Return what answers in float32, where the last operations are in 16 bits."""

    def answer(images: Any) -> dict[str, Any]:
        found = model(images, training=False)
        return {name: tf.cast(value, tf.float32) for name, value in found.items()}

    return answer


def refuse_unknown_answers(model: keras.Model) -> None:
    """Refuse a model whose answers may be neither probabilities nor logits.

    Raises:
        ValueError: The answers to noise are no probabilities, and they do not come from
            a dense layer; or that has another activation than softmax or sigmoid; or it
            is a softmax over one unit.
    """
    output_of(model)
    head, activation = _head(model)
    if head is not None:
        if activation not in _PROBABILITIES:
            name = getattr(activation, "__name__", str(activation))
            raise ValueError(
                f"{model.name} ends in the activation {name}, which gives neither "
                "probabilities nor logits. Let it end in softmax or sigmoid, or in a "
                "keras.layers.Dense without activation."
            )
        return
    if _last_activation_layer(model) is not None:
        return
    size = [n or 64 for n in model.input_shape[1:]]
    noise = np.random.default_rng(0).normal(size=(2, *size)).astype("float32")
    answers = np.asarray(model(noise, training=False), "float64")
    if (answers < 0).any() or not np.allclose(answers.sum(axis=-1), 1, atol=1e-2):
        raise ValueError(
            f"{model.name} returns numbers that are no probabilities, and its last "
            "layer is not a keras.layers.Dense, whose outputs would be logits. If they "
            "are logits, end it in keras.layers.Softmax(); the sigmoids of a model "
            "within it must be in its own last layer."
        )


def _last_activation_layer(model: keras.Model) -> keras.layers.Activation | None:
    """Return the layer of the softmax or the sigmoid that a model ends in, or None."""
    if not is_functional(model):
        return None
    last = model.outputs[0]._keras_history.operation
    is_one = isinstance(last, keras.layers.Activation)
    return last if is_one and last.activation in _PROBABILITIES else None


def _head(model: keras.Model) -> tuple[keras.layers.Layer | None, Any]:
    """Return the classifier, and what turns its logits into probabilities.

    It is a dense layer, or a convolution where each pixel is classified.
    """
    if not is_functional(model):
        return None, None
    last = model.outputs[0]._keras_history.operation
    activation = getattr(last, "activation", None)
    if isinstance(last, keras.layers.Activation | keras.layers.Softmax):
        activation = activation or keras.activations.softmax
        last = last.input._keras_history.operation
        if getattr(last, "activation", None) is not keras.activations.linear:
            return None, None
    if not isinstance(last, (keras.layers.Dense, *CONVOLUTIONS.values())):
        return None, None
    if activation in (keras.activations.linear, keras.activations.log_softmax):
        activation = keras.activations.softmax  # of logits
    return last, activation
