"""Which layers use which features: Figure 5 of the paper."""

import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from keras_densenet.layers import DenseBlock, Transition


def feature_reuse(model: keras.Model) -> list[np.ndarray]:
    """Measure how strongly each layer of a dense block reads each layer before it.

    Args:
        model: A DenseNet of this package, trained.

    Returns:
        One matrix a block, float32 `(L + 1, L + 1)`. Row 0 is the block's input, row s
        dense layer s; column l - 1 is dense layer l, the last column what reads the
        whole block (a transition or the classifier). An entry is the mean absolute
        weight that joins source and reader; NaN where the source comes later.

    Raises:
        ValueError: The model has no dense block.
    """
    blocks = [layer for layer in model.layers if isinstance(layer, DenseBlock)]
    if not blocks:
        raise ValueError(
            f"{model.name} has no DenseBlock: feature reuse is measured in networks of "
            "keras_densenet (keras.applications' have no block to look into)."
        )
    readers = _readers(model, len(blocks))
    return [
        _block_matrix(block, reader)
        for block, reader in zip(blocks, readers, strict=True)
    ]


def _readers(model: keras.Model, num_blocks: int) -> list[np.ndarray | None]:
    """Give the weights `(..., C, out)` that read each whole block, if there are any."""
    readers = [
        layer.conv.kernel for layer in model.layers if isinstance(layer, Transition)
    ]
    last = model.layers[-1]
    classifier = last.kernel if isinstance(last, keras.layers.Dense) else None
    return [*readers, classifier][:num_blocks]


def _block_matrix(block: DenseBlock, reader: Any) -> np.ndarray:
    kernels = [_first_kernel(layer) for layer in block.dense_layers]
    # Source s ends where the maps that layer s + 1 reads end: k0, k0 + k, ...
    ends = [kernel.shape[-2] for kernel in kernels]
    matrix = np.full((len(kernels) + 1,) * 2, np.nan, "float32")
    for column, kernel in enumerate([*kernels, reader]):
        if kernel is not None:
            weights = np.abs(keras.ops.convert_to_numpy(kernel))  # (..., C, out)
            by_source = np.split(weights, ends[:column], axis=-2)
            matrix[: column + 1, column] = [part.mean() for part in by_source]
    return matrix


def _first_kernel(layer: Any) -> Any:
    """Give the kernel that reads the concatenated maps."""
    return layer.bottleneck_conv.kernel if layer.bottleneck else layer.conv.kernel


def plot_feature_reuse(
    matrices: Sequence[np.ndarray], path: str | os.PathLike
) -> Figure:
    """Draw the matrices as heat maps, side by side, and save the picture.

    Each column is divided by its largest entry, as the colours of Figure 5 suggest: a
    column shows which sources its reader prefers.

    Args:
        matrices: What `feature_reuse` gives.
        path: Of the picture; its ending, such as `.png` or `.svg`, says the format.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(4.2 * len(matrices) + 0.8, 4.2), layout="constrained")
    axes = figure.subplots(1, len(matrices), squeeze=False)[0]
    for number, (axis, matrix) in enumerate(zip(axes, matrices, strict=True), 1):
        image = axis.imshow(
            matrix / np.nanmax(matrix, axis=0),
            cmap=colormaps["viridis"],
            vmin=0,
            vmax=1,
        )
        _label(axis, number, len(matrix) - 1, last=number == len(matrices))
    figure.colorbar(
        image, ax=list(axes), label="mean |weight|, of the column's largest"
    )
    figure.savefig(path, dpi=150, bbox_inches="tight")
    return figure


def _label(axis: Any, number: int, num_layers: int, last: bool) -> None:
    step = max(1, num_layers // 6)
    ticks = range(0, num_layers + 1, step)
    axis.set_title(f"Dense block {number}")
    axis.set_xlabel("reading layer")
    axis.set_ylabel("source layer (0: the block's input)")
    axis.set_yticks(ticks)
    reader = "classifier" if last else "transition"
    layers = range(0, num_layers - step // 2, step)
    axis.set_xticks(
        [*layers, num_layers], [*(str(layer + 1) for layer in layers), reader]
    )
