"""What a network costs: parameters, multiply-adds, memory in training."""

import math
from dataclasses import dataclass

import keras
import numpy as np

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

    `print` shows it as a table.

    Attributes:
        layers: The model's outermost layers.
        parameters: All weights, moving statistics among them.
        trainable_parameters: Those that the optimizer moves.
        bytes_per_value: 4 in float32, 2 in mixed precision, 8 in float64.
        batch_size: Of the table, and of `training_peak`.
    """

    layers: list[LayerCost]
    parameters: int
    trainable_parameters: int
    bytes_per_value: int
    batch_size: int = 1

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

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights, their gradients and the optimizer's momentum."""
        in_float32 = max(4, self.bytes_per_value)  # in mixed precision, too
        return in_float32 * (self.parameters + 2 * self.trainable_parameters)

    def training_peak(self, memory_efficient: bool | str) -> int:
        """Give the bytes that training takes with `batch_size` pictures.

        Beside them TensorFlow itself takes half a gigabyte, and on a GPU what cuDNN
        works in.
        """
        pictures = self.batch_size * self.training_bytes(memory_efficient)
        return self.weight_bytes + pictures

    def largest_batch(self, memory: float, memory_efficient: bool | str = False) -> int:
        """Give the most pictures that training has room for; 0 if for none.

        Args:
            memory: In bytes, as 16e9; less what else has to be in it.
            memory_efficient: A mode of the network.
        """
        if memory_efficient not in MEMORY_MODES:
            raise ValueError(
                f"memory_efficient is one of {', '.join(map(repr, MEMORY_MODES))}. "
                f"Received: {memory_efficient!r}"
            )
        room = memory - self.weight_bytes
        return max(0, int(room // self.training_bytes(memory_efficient)))

    def arrays(self) -> dict[str, np.ndarray]:
        """Give the costs by layer: a value a layer, in their order.

        "name", "parameters", "multiply_adds" (NaN where unknown) of one picture, and
        "stored_False", "stored_True", "stored_full": bytes that are kept for the
        gradient, of `batch_size` pictures.
        """
        size = self.batch_size * self.bytes_per_value
        unknown = float("nan")
        counts = [layer.multiply_adds for layer in self.layers]
        return {
            "name": np.array([layer.name for layer in self.layers]),
            "parameters": np.array([layer.parameters for layer in self.layers]),
            "multiply_adds": np.array([unknown if n is None else n for n in counts]),
            **{
                f"stored_{mode}": np.array([x.stored[mode] * size for x in self.layers])
                for mode in MEMORY_MODES
            },
        }

    def __str__(self) -> str:
        """Give the table: a line a layer, and the whole."""
        rows = self.arrays()
        stored = [rows[f"stored_{mode}"] / 1e6 for mode in MEMORY_MODES]
        lines = [
            f"Of {self.batch_size} pictures, MB kept for the gradient, by "
            "memory_efficient:",
            _line("layer", "parameters", "multiply-adds", *map(str, MEMORY_MODES)),
        ]
        for n, layer in enumerate(self.layers):
            costs = _counted(layer.parameters), _counted(layer.multiply_adds)
            lines.append(_line(layer.name, *costs, *(f"{s[n]:.1f}" for s in stored)))
        costs = _counted(self.parameters), _counted(self.multiply_adds)
        lines.append(_line("whole", *costs, *(f"{s.sum():.1f}" for s in stored)))
        peaks = [self.training_peak(mode) / 1e6 for mode in MEMORY_MODES]
        peak = "peak in training, with weights"
        lines.append(_line(peak, "", "", *(f"{p:.1f}" for p in peaks)))
        return "\n".join(lines)


def _line(name: str, *values: str) -> str:
    return f"{name:32}" + "".join(f"{value:>16}" for value in values)


def _counted(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,}"


def profile(model: keras.Model, batch_size: int = 1) -> Profile:
    """Count what a functional or sequential model costs, without running it.

    A layer that is made of others says itself what it costs, by methods
    `multiply_adds(input_shape)`, `stored_values(input_shape, memory_efficient)` and
    `passing_values(input_shape)`, as those of this package do. Keras's convolutions and
    dense layers are known; a layer without matrices has no multiply-adds; others are
    unknown. They keep their output. A layer that is used twice is counted once.

    Args:
        model: Built, with sizes that are known.
        batch_size: Pictures in a batch of training.

    Returns:
        The costs by layer, and of the whole.

    Raises:
        ValueError: Another kind of model, or a size is free (`None`), or batch_size is
            below 1.

    Example:
        >>> layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)]
        >>> profile(keras.Sequential(layers)).multiply_adds  # 6 6 times 3 3 3 4
        3888
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more. Received: {batch_size}")
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
        batch_size,
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
