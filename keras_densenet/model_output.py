"""What a model answers: logits, probabilities of one class, or one for each class.

All that takes a model asks here, so that none guesses. It is read from the last layers,
through models within models, and where they do not say it, from the loss.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

import keras
import numpy as np

from keras_densenet.errors import MisconfigurationError
from keras_densenet.losses import (
    MaskedBinaryCrossentropy,
    PixelCrossentropy,
    SmoothedCrossentropy,
)
from keras_densenet.tensor import Tensor

OutputKind: TypeAlias = Literal[
    "softmax", "sigmoid", "logits", "sigmoid_logits", "unknown"
]
# By name, since those of TensorFlow and JAX are activations, too.
_ACTIVATIONS = {
    "softmax": "softmax",
    "softmax_v2": "softmax",  # TensorFlow's
    "sigmoid": "sigmoid",
    "log_softmax": "log_softmax",
    "log_softmax_v2": "log_softmax",
    "linear": "linear",
}
_OPERATIONS = {"Softmax": "softmax", "Sigmoid": "sigmoid", "LogSoftmax": "log_softmax"}
_MATRICES = (
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
)
_AVERAGING = (
    keras.layers.AveragePooling1D,
    keras.layers.AveragePooling2D,
    keras.layers.AveragePooling3D,
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalAveragePooling3D,
)
_PASSING = (  # what leaves logits logits, and probabilities probabilities
    keras.layers.Identity,
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.Permute,
    *_AVERAGING,
)
_CATEGORICAL: tuple = (
    keras.losses.CategoricalCrossentropy,
    keras.losses.SparseCategoricalCrossentropy,
    keras.losses.CategoricalFocalCrossentropy,
    keras.losses.categorical_crossentropy,
    keras.losses.sparse_categorical_crossentropy,
    keras.losses.categorical_focal_crossentropy,
    SmoothedCrossentropy,
    PixelCrossentropy,
)
_BINARY: tuple = (
    keras.losses.BinaryCrossentropy,
    keras.losses.BinaryFocalCrossentropy,
    keras.losses.binary_crossentropy,
    keras.losses.binary_focal_crossentropy,
    MaskedBinaryCrossentropy,
)
_OF_NUMBERS: tuple = (  # losses of models that tell no classes apart
    keras.losses.MeanSquaredError,
    keras.losses.MeanAbsoluteError,
    keras.losses.MeanAbsolutePercentageError,
    keras.losses.MeanSquaredLogarithmicError,
    keras.losses.Huber,
    keras.losses.LogCosh,
    keras.losses.mean_squared_error,
    keras.losses.mean_absolute_error,
)


class LastActivation(NamedTuple):
    """What a model's numbers went through last.

    Attributes:
        name: "softmax", "log_softmax" or "sigmoid"; "linear" for what a matrix product
            or a convolution gives; "unknown" for everything else.
        layer: The layer or operation that it is part of; None where it is unknown.
    """

    name: Literal["softmax", "log_softmax", "sigmoid", "linear", "unknown"]
    layer: Any = None


class LossReads(NamedTuple):
    """What a loss takes a model's numbers for.

    Attributes:
        family: "categorical" for one class a picture, "binary" for yes or no of each
            class, "numbers" for no classes at all.
        from_logits: Whether it takes logits.
    """

    family: Literal["categorical", "binary", "numbers"]
    from_logits: bool = False


class ModelOutput(NamedTuple):
    """What a model answers.

    Attributes:
        kind: "softmax" for probabilities of one class a picture, which sum to 1, and
            "logits" for what a softmax would make them of. "sigmoid" for a probability
            of each class by itself, and "sigmoid_logits" for what a sigmoid would make
            them of. "unknown" where neither the last layers nor the loss say it.
        units: How many numbers it answers; None where that is not known.
    """

    kind: OutputKind
    units: int | None = None

    @property
    def is_of_each_class(self) -> bool:
        """Whether each class has a probability by itself, of any sum."""
        return self.kind in ("sigmoid", "sigmoid_logits")

    def activated(self, answers: Tensor) -> Tensor:
        """Return each unit's probability, in float32 or more, as a tensor.

        Args:
            answers: Of the model, `(N, units)`.
        """
        if keras.backend.standardize_dtype(answers.dtype) != "float64":
            # A softmax of 16 bits would be coarse.
            answers = keras.ops.cast(answers, "float32")
        if self.kind == "logits":
            return keras.ops.softmax(answers, axis=-1)
        if self.kind == "sigmoid_logits":
            return keras.ops.sigmoid(answers)
        return answers

    def probabilities(self, answers: Any, classes: int | None = None) -> Any:
        """Turn a model's answers into probabilities.

        Args:
            answers: What `model.predict` returns, an array `(N, units)`.
            classes: How many classes there are. Of two, one unit of a sigmoid is the
                probability of the second.

        Returns:
            Probabilities `(N, units)`, or `(N, 2)` of one unit and two classes; the
            answers as they are where they are unknown.
        """
        if self.kind in ("logits", "sigmoid_logits"):
            answers = _numpy(self.activated(answers))
        if self.is_of_each_class and classes == 2 and answers.shape[-1] == 1:
            answers = np.concatenate([1 - answers, answers], axis=-1)
        return answers


def output_of(model: keras.Model, loss: Any = None) -> ModelOutput:
    """Return what a model answers.

    Args:
        model: Of any kind; compiled or not.
        loss: What it is trained with; by default the loss that it is compiled with.

    Raises:
        MisconfigurationError: A softmax over one unit, which is 1 for every picture.
    """
    units = _units(model)
    last = last_activation(model).name
    if last in ("softmax", "log_softmax") and units == 1:
        raise MisconfigurationError(
            f"{model.name} ends in a softmax over one unit, which is 1 for every "
            "picture. Give it a unit for each class (classes=2 for two), or one unit "
            'with activation="sigmoid" and the loss keras.losses.BinaryCrossentropy().'
        )
    reads = loss_reads(getattr(model, "loss", None) if loss is None else loss)
    return ModelOutput(_kind(last, reads, units), units)


def _kind(last: str, reads: LossReads | None, units: int | None) -> OutputKind:
    if last in ("softmax", "sigmoid"):
        return "softmax" if last == "softmax" else "sigmoid"
    if last == "log_softmax":
        return "logits"  # of which a softmax makes the same probabilities
    if last == "linear":
        if reads and reads.family == "numbers":
            return "unknown"
        is_binary = reads.family == "binary" if reads else units == 1
        return "sigmoid_logits" if is_binary else "logits"
    if reads and reads.from_logits:
        return "logits" if reads.family == "categorical" else "sigmoid_logits"
    return "unknown"


def loss_reads(loss: Any) -> LossReads | None:
    """Return what a loss takes a model's numbers for; None where that is not known.

    Args:
        loss: A loss of Keras, its function or its name, or a list of one; others, and
            subclasses, which may do something else, are not known.
    """
    if isinstance(loss, list | tuple) and len(loss) == 1:
        loss = loss[0]
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    which = type(loss) if isinstance(loss, keras.losses.Loss) else loss
    from_logits = bool(getattr(loss, "from_logits", False))
    if _is_one_of(which, _CATEGORICAL):
        return LossReads("categorical", from_logits)
    if _is_one_of(which, _BINARY):
        return LossReads("binary", from_logits)
    return LossReads("numbers") if _is_one_of(which, _OF_NUMBERS) else None


def _is_one_of(thing: Any, things: tuple) -> bool:
    return any(thing is one for one in things)


def last_activation(model: keras.Model) -> LastActivation:
    """Return the last activation of a model, or of the models within it."""
    for operation in _backwards(model):
        name = _activation_of(operation)
        if name is not None:
            return LastActivation(name, None if name == "unknown" else operation)
    return LastActivation("unknown")


def averages_answers(model: keras.Model) -> bool:
    """Return whether a model gives means of what its last activation gives.

    Such as those of all places of a picture: a mean of probabilities is not the
    probability of the mean of their logits.
    """
    for operation in _backwards(model):
        if isinstance(operation, _AVERAGING):
            return True
        if _activation_of(operation) is not None:
            return False
    return False


def ends_in_relu(model: keras.Model) -> bool:
    """Return whether the last layer of a model is seen to be, or to have, a ReLU."""
    last = next(_backwards(model), None)
    is_activated = getattr(last, "activation", None) is keras.activations.relu
    return is_activated or isinstance(last, keras.layers.ReLU)


def is_functional(layer: Any) -> bool:
    """Return whether something is a functional or a sequential model."""
    return isinstance(layer, keras.Sequential) or (
        isinstance(layer, keras.Model) and hasattr(layer, "operations")
    )


def _backwards(model: keras.Model) -> Iterator[Any]:
    """Iterate over a model's layers and operations, from its only output on.

    It ends at what reads more than one tensor.
    """
    outputs = getattr(model, "outputs", None) if is_functional(model) else None
    if not outputs and isinstance(model, keras.Sequential):  # it is not built yet
        for layer in reversed(model.layers):
            yield from _backwards(layer) if is_functional(layer) else [layer]
    tensors = list(outputs or ())
    while len(tensors) == 1:
        operation, node, _ = tensors[0]._keras_history
        yield from _backwards(operation) if is_functional(operation) else [operation]
        tensors = list(operation._inbound_nodes[node].input_tensors)


def _activation_of(operation: Any) -> Any:
    """Return the activation that an operation ends in; None where it has no say."""
    if not isinstance(operation, keras.Layer):  # of keras.ops
        name = type(operation).__name__
        is_over_classes = getattr(operation, "axis", -1) == -1
        if name == "Cast":
            return None
        return _OPERATIONS.get(name, "unknown") if is_over_classes else "unknown"
    if isinstance(operation, keras.layers.Softmax):
        rank = len(operation.output.shape) if operation._inbound_nodes else 2
        return "softmax" if operation.axis in (-1, rank - 1) else "unknown"
    if isinstance(operation, _PASSING):
        return None
    activation = getattr(operation, "activation", None) or keras.activations.linear
    name = _ACTIVATIONS.get(getattr(activation, "__name__", ""), "unknown")
    if isinstance(operation, keras.layers.Activation):
        return None if name == "linear" else name
    # A subclass that has another `call` may do anything.
    is_matrix = any(type(operation).call is one.call for one in _MATRICES)
    return name if is_matrix else "unknown"


def _units(model: keras.Model) -> int | None:
    outputs = getattr(model, "outputs", None) if is_functional(model) else None
    if outputs:
        return outputs[0].shape[-1] if len(outputs) == 1 else None
    return getattr(last_activation(model).layer, "units", None)


def _numpy(answers: Tensor) -> np.ndarray:
    return keras.ops.convert_to_numpy(answers)
