"""What a network costs: parameters, multiply-adds, memory in training."""

import math
from dataclasses import dataclass

import keras

_MATRICES = (
    keras.layers.Dense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)
MEMORY_MODES: tuple[bool | str, ...] = (False, True, "full")


@dataclass(frozen=True)
class LayerCost:
    """One of a model's outermost layers.

    Attributes:
        name: The layer's.
        kind: Its class.
        output_shape: `(None, H, W, C)`, or what it is.
        parameters: All its weights, moving statistics among them.
        multiply_adds: Of one picture, forward: those of convolutions and matrix
            products, as the paper draws them. None where the layer is unknown.
        stored: Values of one picture that training keeps for the gradient, by
            `memory_efficient`.
        passing: Values of one picture that are there for a moment, while the layer's
            gradient is taken.
    """

    name: str
    kind: str
    output_shape: tuple
    parameters: int
    multiply_adds: int | None
    stored: dict[bool | str, int]
    passing: int


@dataclass(frozen=True)
class Profile:
    """What `profile` gives.

    Attributes:
        layers: The model's outermost layers.
        parameters: All weights, moving statistics among them.
        trainable_parameters: Those that the optimizer moves.
        bytes_per_value: 4 in float32, 2 in mixed precision, 8 in float64.
    """

    layers: list[LayerCost]
    parameters: int
    trainable_parameters: int
    bytes_per_value: int

    @property
    def multiply_adds(self) -> int | None:
        """Of one picture, forward; None if a layer is unknown."""
        counts = [layer.multiply_adds for layer in self.layers]
        return None if None in counts else sum(c for c in counts if c is not None)

    def training_bytes(self, memory_efficient: bool | str) -> int:
        """Give the bytes that each picture of a batch takes in training.

        All that is kept for the gradient, and the most that passes by at one time.
        """
        stored = sum(layer.stored[memory_efficient] for layer in self.layers)
        passing = max((layer.passing for layer in self.layers), default=0)
        return (stored + passing) * self.bytes_per_value


def profile(model: keras.Model) -> Profile:
    """Count what a functional or sequential model costs, without running it.

    A layer that is made of others says itself what it costs, by methods
    `multiply_adds(input_shape)`, `stored_values(input_shape, memory_efficient)` and
    `passing_values(input_shape)`, as those of this package do. Keras's convolutions and
    dense layers are known; a layer without matrices has no multiply-adds; others are
    unknown. They keep their output. A layer that is used twice is counted once.

    Args:
        model: Built, with sizes that are known.

    Returns:
        The costs by layer, and of the whole.

    Raises:
        ValueError: Another kind of model, or a size is free (`None`).

    Example:
        >>> layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)]
        >>> profile(keras.Sequential(layers)).multiply_adds  # 6 6 times 3 3 3 4
        3888
    """
    inputs = getattr(model, "inputs", None)
    if not inputs or any(None in tensor.shape[1:] for tensor in inputs):
        raise ValueError(
            f"What {model.name} costs is known where it is functional or sequential, "
            "and input_shape has numbers alone. Received: inputs="
            f"{[tensor.shape for tensor in inputs or ()]}"
        )
    compute_dtype = keras.backend.standardize_dtype(model.compute_dtype)
    return Profile(
        [_cost(layer) for layer in model.layers],
        model.count_params(),
        sum(math.prod(weight.shape) for weight in model.trainable_weights),
        {"float64": 8, "float32": 4}.get(compute_dtype, 2),
    )


def _cost(layer: keras.layers.Layer) -> LayerCost:
    outputs = keras.tree.flatten(layer.output)
    values = sum(_values(tensor.shape) for tensor in outputs)
    stored: dict[bool | str, int] = dict.fromkeys(MEMORY_MODES, values)
    passing = 2 * values  # what it gives, and its gradient
    if hasattr(layer, "stored_values"):
        shape = layer.input.shape
        stored = {mode: layer.stored_values(shape, mode) for mode in MEMORY_MODES}
        passing = layer.passing_values(shape)
    elif _is_made_of_layers(layer):
        costs = [_cost(inner) for inner in layer.layers]
        stored = {mode: sum(c.stored[mode] for c in costs) for mode in MEMORY_MODES}
        passing = max(cost.passing for cost in costs)
    return LayerCost(
        layer.name,
        type(layer).__name__,
        outputs[0].shape,
        layer.count_params(),
        _multiply_adds(layer),
        stored,
        passing,
    )


def _is_made_of_layers(layer: keras.layers.Layer) -> bool:
    """Whether it is a functional or sequential model, not a subclass of one's own."""
    return isinstance(layer, keras.Model) and bool(getattr(layer, "inputs", None))


def _multiply_adds(layer: keras.layers.Layer) -> int | None:
    """Give a layer's multiply-adds for one picture; None if nobody knows."""
    if hasattr(layer, "multiply_adds"):
        return layer.multiply_adds(layer.input.shape)
    if _is_made_of_layers(layer):
        counts = [_multiply_adds(inner) for inner in layer.layers]
        return None if None in counts else sum(c for c in counts if c is not None)
    if not any(len(weight.shape) > 1 for weight in layer.weights):
        return 0  # a batch norm, say
    if not isinstance(layer, _MATRICES):
        return None
    # Each weight is used once at each place: of a transposed convolution's input.
    is_transposed = "Transpose" in type(layer).__name__
    shape = layer.input.shape if is_transposed else layer.output.shape
    is_first = getattr(layer, "data_format", None) == "channels_first"
    places = shape[2:] if is_first else shape[1:-1]
    kernels = [weight for weight in layer.weights if weight.name.endswith("kernel")]
    return math.prod(places) * sum(math.prod(kernel.shape) for kernel in kernels)


def _values(shape: tuple) -> int:
    return math.prod(shape[1:])
