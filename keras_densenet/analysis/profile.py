"""What a network costs: parameters, multiply-adds, memory in training.

The costs of one picture are those of one signal or one volume where the network reads
these.
"""

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
    """What one of a model's outermost layers costs.

    Attributes:
        name: Name of the layer.
        kind: Name of its class.
        output_shape: Shape of its output, such as `(None, H, W, C)` of pictures,
            `(None, T, C)` of signals, `(None, D, H, W, C)` of volumes.
        parameters: Number of its weights, moving statistics among them.
        multiply_adds: Multiply-adds of convolutions and matrix products for one picture
            in the forward pass, as the paper draws the layers; None where the layer is
            unknown.
        stored: Number of values that training stores for the gradient of one picture,
            by `memory_efficient`.
        passing: Number of values that one picture needs only while the layer's gradient
            is taken.
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
    """What a model costs; `print` shows it as a table.

    Attributes:
        layers: Costs of the model's outermost layers.
        parameters: Number of all weights, moving statistics among them.
        trainable_parameters: Number of the weights that the optimizer moves.
        bytes_per_value: 4 in float32, 2 in mixed precision, 8 in float64.
        batch_size: Number of pictures that the table and `training_peak` are for.
    """

    layers: list[LayerCost]
    parameters: int
    trainable_parameters: int
    bytes_per_value: int
    batch_size: int = 1

    @property
    def multiply_adds(self) -> int | None:
        """Multiply-adds of a forward pass for one picture; None if one is unknown."""
        counts = [layer.multiply_adds for layer in self.layers]
        return None if None in counts else sum(c for c in counts if c is not None)

    def training_bytes(self, memory_efficient: bool | str) -> int:
        """Return the bytes that each picture of a batch takes in training.

        They are all that is stored for the gradient, and what the layer that needs most
        takes while its gradient is computed.
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
        """Return the bytes that training takes with `batch_size` pictures.

        TensorFlow itself takes half a gigabyte more, and on a GPU cuDNN takes its
        working memory.
        """
        pictures = self.batch_size * self.training_bytes(memory_efficient)
        return self.weight_bytes + pictures

    def largest_batch(self, memory: float, memory_efficient: bool | str = False) -> int:
        """Return the largest batch that training has room for, 0 if it has for none.

        Args:
            memory: Bytes that are free for the training, such as 16e9.
            memory_efficient: The network's mode: False, True or "full".

        Raises:
            ValueError: There is no such mode.
        """
        if memory_efficient not in MEMORY_MODES:
            raise ValueError(
                "memory_efficient must be one of "
                f"{', '.join(map(repr, MEMORY_MODES))}. Received: "
                f"memory_efficient={memory_efficient!r}."
            )
        room = memory - self.weight_bytes
        return max(0, int(room // self.training_bytes(memory_efficient)))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the costs as columns of a table, with a value for each layer.

        The columns are "name", "parameters", "multiply_adds" of one picture (NaN where
        unknown), and "stored_False", "stored_True" and "stored_full": the bytes that
        are stored for the gradient of `batch_size` pictures.
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
        """Return the table: a line for each layer, and one for the whole model."""
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

    A layer that is made of others can say itself what it costs, as those of this
    package do, with the methods `multiply_adds(input_shape)`,
    `stored_values(input_shape, memory_efficient)` and `passing_values(input_shape)`.
    For all other layers their output counts as stored. Keras's convolutions and dense
    layers have known multiply-adds, a layer without matrices has none, and those of
    other layers are unknown. A layer that is used twice is counted once.

    Args:
        model: A built model, whose input has a known size.
        batch_size: Number of pictures in a batch of training.

    Returns:
        The costs by layer, and of the whole model.

    Raises:
        ValueError: The model is of another kind, or a size is unknown (`None`), or
            batch_size is below 1.

    Examples:
        >>> layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)]
        >>> profile(keras.Sequential(layers)).multiply_adds  # 6 * 6 * (3 * 3 * 3 * 4)
        3888
    """
    if batch_size < 1:
        raise ValueError(
            f"batch_size must be 1 or more. Received: batch_size={batch_size}."
        )
    inputs = getattr(model, "inputs", None)
    if not inputs or any(None in tensor.shape[1:] for tensor in inputs):
        raise ValueError(
            f"The costs of {model.name} can be counted if it is functional or "
            "sequential, and its input_shape has numbers alone. Build it with a fixed "
            "input_shape. Received: inputs of shapes "
            f"{[tensor.shape for tensor in inputs or ()]}."
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
    passing = 2 * values  # the output and its gradient
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
    """Return whether it is a functional or a sequential model, no subclass."""
    return isinstance(layer, keras.Model) and bool(getattr(layer, "inputs", None))


def _multiply_adds(layer: keras.layers.Layer) -> int | None:
    """Return a layer's multiply-adds for one picture; None if they are unknown."""
    if hasattr(layer, "multiply_adds"):
        return layer.multiply_adds(layer.input.shape)
    if _is_made_of_layers(layer):
        counts = [_multiply_adds(inner) for inner in layer.layers]
        return None if None in counts else sum(c for c in counts if c is not None)
    if not any(len(weight.shape) > 1 for weight in layer.weights):
        return 0  # such as a batch norm
    if not isinstance(layer, _MATRICES):
        return None
    # Each weight of a kernel is used once for each pixel of the output, but once for
    # each pixel of the input in a transposed convolution.
    is_transposed = "Transpose" in type(layer).__name__
    shape = layer.input.shape if is_transposed else layer.output.shape
    is_first = getattr(layer, "data_format", None) == "channels_first"
    places = shape[2:] if is_first else shape[1:-1]
    kernels = [weight for weight in layer.weights if weight.name.endswith("kernel")]
    return math.prod(places) * sum(math.prod(kernel.shape) for kernel in kernels)


def _values(shape: tuple) -> int:
    return math.prod(shape[1:])
