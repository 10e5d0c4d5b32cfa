"""How gradients reach the layers of a network, and through which readers.

In a dense block a map is read by every later layer and by what follows the block. Its
gradient is the sum of what comes through each of them (section 5, "Implicit Deep
Supervision"). The TensorFlow backend is needed.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure, SubFigure

from keras_densenet.analysis.feature_reuse import COLORS, label_readers
from keras_densenet.analysis.inside import parts_of, replaced
from keras_densenet.layers import DenseBlock
from keras_densenet.model_output import is_functional, output_of
from keras_densenet.tensor import Tensor

NONE_IS_ZERO = tf.UnconnectedGradients.ZERO  # the gradient of a map that nothing reads


@dataclass(frozen=True)
class GradientFlow:
    """The gradients of one batch.

    Attributes:
        layers: Names of the convolutions and matrix products, from the stem on.
        norms: L2 norm of the gradient of each layer's kernel, `(layers,)`.
        relative_norms: The same, divided by the kernel's own norm.
        shares: One matrix a dense block, `(L + 1, L + 1)`, arranged as `feature_reuse`
            has them: row s is a source, column r a reader, and an entry the share of
            the source's gradient that comes through the reader,
            `<g_sr, g_s> / <g_s, g_s>`. Rows sum to 1; a share is below 0 where a reader
            pulls the other way, and NaN where the source comes later. The list is empty
            for a network without dense blocks.
    """

    layers: list[str]
    norms: np.ndarray
    relative_norms: np.ndarray
    shares: list[np.ndarray]


def gradient_flow(
    model: keras.Model,
    batch: tuple[Tensor, Tensor],
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> GradientFlow:
    """Take the gradients of one batch, in training mode, and leave the model as it is.

    Args:
        model: A functional or sequential model, such as a DenseNet of this package or a
            ResNet; dense blocks of models within it are looked into, too.
        batch: Standardized pictures `(N, H, W, channels)`, signals `(N, T, channels)`
            or volumes `(N, D, H, W, channels)`, and class numbers `(N,)` or
            probabilities `(N, classes)`.
        loss: A function from labels and the model's output to a number; by default the
            cross-entropy of probabilities or of logits, whichever the model gives. A
            model that ends in sigmoids needs one.

    Returns:
        The gradient norms by layer, and the shares of readers in dense blocks.

    Raises:
        ValueError: The model is neither functional nor sequential, has more than one
            output or nothing to train, or the batch is empty or has other classes; or
            there is no loss, and the model gives neither probabilities of one class nor
            logits.
    """
    if not is_functional(model):
        raise ValueError(
            "gradient_flow needs a functional or sequential model. Received: a "
            f"{type(model).__name__}."
        )
    images, labels = (tf.convert_to_tensor(part) for part in batch)
    _check_batch(model, images, labels)
    loss = loss or _cross_entropy(model, labels)
    blocks = [_TappedBlock(block) for block in parts_of(model, DenseBlock)]
    kernels = [w for w in model.trainable_weights if len(w.shape) > 1]
    with _left_as_it_is(model), _tapped(blocks), tf.GradientTape() as tape:
        tape.watch(images)
        outputs = model(images, training=True)
        value = loss(labels, outputs)
        targets = [kernel.value for kernel in kernels]
        taps = [block.taps for block in blocks]
    of_kernels, of_taps = tape.gradient(
        value, (targets, taps), unconnected_gradients=NONE_IS_ZERO
    )
    norms = np.array([float(tf.norm(gradient)) for gradient in of_kernels])
    sizes = np.array([float(tf.norm(kernel.value)) for kernel in kernels])
    return GradientFlow(
        [kernel.path.removesuffix("/kernel") for kernel in kernels],
        norms,
        norms / np.where(sizes > 0, sizes, 1),
        [_shares(of_block) for of_block in of_taps],
    )


def _check_batch(model: keras.Model, images: Tensor, labels: Tensor) -> None:
    """Raise a `ValueError` where no gradient of the model on the batch can be taken."""
    if not model.trainable_weights or len(model.outputs) != 1:
        raise ValueError(
            "gradient_flow needs a model with one output and weights that are trained. "
            f"Received: {model.name} with {len(model.outputs)} outputs and "
            f"{len(model.trainable_weights)} such weights."
        )
    if len(images) == 0 or len(images) != len(labels):
        raise ValueError(
            "gradient_flow needs a label for each picture, and one picture or more. "
            f"Received: {len(images)} pictures, {len(labels)} labels."
        )
    output = output_of(model)
    classes = output.units or 0
    if output.is_of_each_class and classes == 1:
        classes = 2  # yes or no
    if labels.dtype.is_integer and not 0 <= int(tf.reduce_max(labels)) < classes:
        raise ValueError(
            f"{model.name} has {classes} classes, so that labels must be in "
            f"0..{classes - 1}. Received: labels up to {int(tf.reduce_max(labels))}."
        )


def _cross_entropy(model: keras.Model, labels: Tensor) -> keras.losses.Loss:
    output = output_of(model)
    if output.is_of_each_class or output.kind == "unknown":
        raise ValueError(
            f"{model.name} gives neither probabilities of one class a picture nor "
            f"their logits ({output.kind}). Give gradient_flow the loss that it is "
            "trained with, such as loss=keras.losses.BinaryCrossentropy() for sigmoids."
        )
    from_logits = output.kind == "logits"
    if len(labels.shape) > 1:
        return keras.losses.CategoricalCrossentropy(from_logits=from_logits)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)


@contextmanager
def _tapped(blocks: Sequence["_TappedBlock"]) -> Iterator[None]:
    """Let dense blocks compute with copies for each reader."""
    with ExitStack() as stack:
        for block in blocks:
            stack.enter_context(replaced(block.block, "call", block.call))
        yield


@contextmanager
def _left_as_it_is(model: keras.Model) -> Iterator[None]:
    """Restore moving statistics and seeds, which a run in training mode changes."""
    trainable = {id(variable) for variable in model.trainable_variables}
    others = [v for v in model.variables if id(v) not in trainable]
    before = [tf.identity(variable.value) for variable in others]
    try:
        yield
    finally:
        for variable, value in zip(others, before, strict=True):
            variable.assign(value)


class _TappedBlock:
    """A dense block in which each reader has its own copies, `taps[reader][source]`.

    The gradient of a copy is what comes through its reader.
    """

    def __init__(self, block: DenseBlock) -> None:
        self.block = block
        self.taps: list[list[Tensor]] = []

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        """Let each layer add its maps, as the block does."""
        sources = [keras.ops.cast(x, self.block.compute_dtype)]
        self.taps = []
        for layer in self.block.dense_layers:
            sources.append(layer(self._read(sources), training=training))
        return self._read(sources)

    def _read(self, sources: Sequence[Tensor]) -> Tensor:
        copies = [tf.identity(source) for source in sources]
        self.taps.append(copies)
        return keras.ops.concatenate(copies, axis=self.block.axis)


def _shares(gradients: Sequence[Sequence[Tensor]]) -> np.ndarray:
    """Compute the shares in a block from the gradients of its copies."""
    size = len(gradients)
    matrix = np.full((size, size), np.nan)
    for source in range(size):
        parts = [
            np.asarray(gradients[reader][source], "float64").ravel()
            for reader in range(source, size)
        ]
        whole = np.sum(parts, axis=0)
        length = whole @ whole
        if length > 0:
            matrix[source, source:] = [part @ whole / length for part in parts]
    return matrix


def plot_gradient_flow(
    flows: Mapping[str, GradientFlow], path: str | os.PathLike | None = None
) -> Figure:
    """Draw gradient norms by depth, and below them the shares in dense blocks.

    Args:
        flows: What `gradient_flow` returns, by the name of the network.
        path: Where to save the picture, if at all; its ending, such as `.png` or
            `.svg`, names the format.

    Returns:
        The figure.
    """
    with_blocks = {name: flow for name, flow in flows.items() if flow.shares}
    rows = 1 + len(with_blocks)
    figure = Figure(figsize=(13.4, 4.4 * rows), layout="constrained")
    parts = figure.subfigures(rows, 1, squeeze=False)
    axis = parts[0, 0].subplots()
    for name, flow in flows.items():
        depth = np.arange(1, len(flow.norms) + 1)
        axis.semilogy(depth, flow.relative_norms, marker=".", label=name)
    axis.set_xlabel("depth: the convolution's number, the classifier last")
    axis.set_ylabel("gradient norm / weight norm")
    axis.legend()
    for part, (name, flow) in zip(parts[1:, 0], with_blocks.items(), strict=True):
        _draw_shares(part, name, flow.shares)
    if path:
        figure.savefig(path, dpi=150)
    return figure


def _draw_shares(part: SubFigure, name: str, shares: Sequence[np.ndarray]) -> None:
    axes = part.subplots(1, len(shares), squeeze=False)[0]
    for number, (axis, matrix) in enumerate(zip(axes, shares, strict=True), 1):
        image = axis.imshow(matrix, cmap=COLORS, vmin=0, vmax=1)
        label_readers(axis, number, len(matrix) - 1, last=number == len(shares))
        axis.set_title(f"{name}, dense block {number}")
    label = "share of a map's gradient (below 0 drawn as 0)"
    part.colorbar(image, ax=list(axes), label=label)
