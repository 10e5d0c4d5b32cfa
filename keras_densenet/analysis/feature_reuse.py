"""Which layers use which features: Figure 5 of the paper, and what it says of it."""

import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from keras_densenet.layers import DenseBlock, Transition

DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError)  # what a broken archive raises
COLOURS = "turbo"  # blue is nearly none, red is strong, as in the paper


def feature_reuse(model: keras.Model | str | os.PathLike) -> list[np.ndarray]:
    """Measure how strongly each layer of a dense block reads each layer before it.

    Args:
        model: A DenseNet of this package, trained; or a `.keras` file of one; or a
            run's folder, of which the last checkpoint is taken.

    Returns:
        One matrix a block, float32 `(L + 1, L + 1)`. Row 0 is the block's input, row s
        dense layer s; column l - 1 is dense layer l, the last column what reads the
        whole block (a transition or the classifier). An entry is the mean absolute
        weight that joins source and reader; NaN where the source comes later.

    Raises:
        ValueError: The model has no dense block, or is quantised; or the file is
            damaged, or no model.
        FileNotFoundError: There is no such file, or no checkpoint in the folder.
    """
    if not isinstance(model, keras.Model):
        model = _loaded(Path(model))
    blocks = [layer for layer in model.layers if isinstance(layer, DenseBlock)]
    if not blocks:
        raise ValueError(
            f"{model.name} has no DenseBlock among its own layers: feature reuse is "
            "measured in networks of keras_densenet (keras.applications' have no block "
            "to look into). Of a network within a model give the network: "
            "model.get_layer(name)."
        )
    readers = _readers(model, len(blocks))
    return [
        _block_matrix(block, reader)
        for block, reader in zip(blocks, readers, strict=True)
    ]


def _loaded(path: Path) -> keras.Model:
    """Load a `.keras` file; of a run's folder the last checkpoint that is whole."""
    paths = [path]
    if path.is_dir():
        names = ("last.keras", "before-last.keras")
        paths = [path / "checkpoints" / name for name in names]
    there = [path for path in paths if path.is_file()]
    if not there:
        raise FileNotFoundError(
            f"There is no {paths[0]}. Give a .keras file, or the folder of a run, as "
            "runs/cifar10-densenet_40_12/version_0."
        )
    problem: Exception
    for file in there:
        try:
            with zipfile.ZipFile(file):  # or Keras says that there is no such file
                return keras.saving.load_model(file, compile=False)
        except (OSError, ValueError, KeyError, TypeError, *DAMAGED) as error:
            problem = error
    raise ValueError(f"{there[0]} is damaged, or no model of Keras: {problem}")


def _readers(model: keras.Model, num_blocks: int) -> list[np.ndarray | None]:
    """Give the weights `(..., C, out)` that read each whole block, if there are any."""
    readers = [
        layer.conv.kernel for layer in model.layers if isinstance(layer, Transition)
    ]
    # Of several dense layers the first one reads the maps.
    dense = [x.kernel for x in model.layers if isinstance(x, keras.layers.Dense)]
    return [*readers, *dense[:1], None][:num_blocks]


def _block_matrix(block: DenseBlock, reader: Any) -> np.ndarray:
    kernels = [_first_kernel(layer) for layer in block.dense_layers]
    # Source s ends where the maps that layer s + 1 reads end: k0, k0 + k, ...
    ends = [kernel.shape[-2] for kernel in kernels]
    matrix = np.full((len(kernels) + 1,) * 2, np.nan, "float32")
    last = block.dense_layers[-1]
    maps = ends[-1] + last.growth_rate
    if reader is not None and reader.shape[-2] != maps:
        reader = None  # it reads something else, such as maps that were flattened
    for column, kernel in enumerate([*kernels, reader]):
        if kernel is not None:
            if "int" in str(kernel.dtype):
                raise ValueError(
                    "Feature reuse is measured before a model is quantised."
                )
            weights = np.abs(keras.ops.convert_to_numpy(kernel))  # (..., C, out)
            by_source = np.split(weights, ends[:column], axis=-2)
            matrix[: column + 1, column] = [part.mean() for part in by_source]
    return matrix


def _first_kernel(layer: Any) -> Any:
    """Give the kernel that reads the concatenated maps."""
    return layer.bottleneck_conv.kernel if layer.bottleneck else layer.conv.kernel


def rescaled(matrix: np.ndarray) -> np.ndarray:
    """Divide each column by its largest entry: which sources its reader prefers."""
    largest = np.nanmax(np.where(np.isnan(matrix), 0, matrix), axis=0)
    return matrix / np.where(largest > 0, largest, 1)


# --- what the paper observes -----------------------------------------------------


def observe_feature_reuse(matrices: Sequence[np.ndarray]) -> list[str]:
    """Say what the paper's four observations amount to, and whether they hold.

    Args:
        matrices: What `feature_reuse` gives.

    Returns:
        A sentence for each observation that the network has the layers for.
    """
    observations = [_spread_of_layers(matrices)]
    if len(matrices) > 1:
        observations += [_spread_of_transitions(matrices[:-1])]
        observations += [_use_of_transitions(matrices[1:])]
    if np.isfinite(matrices[-1][:, -1]).all():
        observations += [_leaning_of_classifier(matrices[-1][:, -1])]
    return [f"{n}. {text}" for n, text in enumerate(observations, 1)]


def _spread_of_layers(matrices: Sequence[np.ndarray]) -> str:
    """Compare the weight on the earlier half of the sources with an equal share."""
    shares = []
    for matrix in matrices:
        for column in range(3, len(matrix) - 1):  # those with four sources or more
            weights = matrix[: column + 1, column]
            half = len(weights) // 2
            equal = half / len(weights)
            shares.append(weights[:half].sum() / weights.sum() / equal)
    if not shares:
        return "Blocks are too short to say how far back their layers reach."
    share = float(np.mean(shares))
    return (
        f"Layers give the earlier half of their sources {share:.2f} of what an equal "
        f"share of weight would be: features of early layers are used throughout the "
        f"block{_verdict(share > 0.5)}"
    )


def _spread_of_transitions(matrices: Sequence[np.ndarray]) -> str:
    """Compare the least read source of each transition with the mean."""
    columns = [matrix[:, -1] for matrix in matrices]
    least = [float(column.min() / column.mean()) for column in columns]
    return (
        f"Transitions give the layer that they read least {_listed(least)} of the mean "
        f"weight: they read all layers of their block{_verdict(min(least) > 0.2)}"
    )


def _use_of_transitions(matrices: Sequence[np.ndarray]) -> str:
    """Compare the first row, which a transition made, with the rows below."""
    ratios, are_least = [], []
    for matrix in (m for m in matrices if len(m) > 3):  # of three layers or more
        layers = matrix[:, :-1]
        rows = [np.nanmean(row) for row in layers[:-2]]  # with two readers or more
        ratios.append(float(rows[0] / np.nanmean(layers[1:])))
        are_least.append(rows[0] == min(rows))
    if not ratios:
        return "Blocks are too short to say how much they use what a transition made."
    return (
        f"Blocks after a transition give what it made {_listed(ratios)} of the weight "
        "that they give their own layers: it is what they use least"
        f"{_verdict(all(are_least))}"
    )


def _leaning_of_classifier(column: np.ndarray) -> str:
    third = max(1, len(column) // 3)
    ratio = float(column[-third:].mean() / column[:third].mean())
    return (
        f"The classifier gives the last third of the maps {ratio:.2f} times the weight "
        f"of the first third: it leans to the last maps{_verdict(ratio > 1.1)}"
    )


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:.2f}" for number in numbers)


def _verdict(holds: bool) -> str:
    return " (holds)." if holds else " (does not hold here)."


# --- the picture -----------------------------------------------------------------


def plot_feature_reuse(
    matrices: Sequence[np.ndarray],
    path: str | os.PathLike | None = None,
    *,
    observations: bool = True,
) -> Figure:
    """Draw the matrices as heat maps, and write the paper's observations below.

    Above as they are; below each column divided by its largest entry, which shows what
    sources its reader prefers: the paper does not say which of them it drew. Columns
    that read a whole block, of transitions and classifier, are framed.

    Args:
        matrices: What `feature_reuse` gives.
        path: Of the picture, if it is to be saved; its ending, such as `.png` or
            `.svg`, says the format.
        observations: Whether to write them below.

    Returns:
        The figure.
    """
    width = max(9.0, 4.2 * len(matrices) + 0.8)
    heights = [4.2, 4.2, 1.0][: 3 if observations else 2]
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    parts: Any = figure.subfigures(len(heights), 1, height_ratios=heights)
    top, bottom, *words = parts
    largest = max(float(np.nanmax(matrix)) for matrix in matrices)
    _draw(top, matrices, largest, "mean |weight|")
    of_largest = "mean |weight| / the column's largest"
    _draw(bottom, [rescaled(matrix) for matrix in matrices], 1.0, of_largest)
    for below in words:
        text = "\n".join(observe_feature_reuse(matrices))
        below.text(0.01, 0.95, text, va="top", fontsize=8.5, wrap=True)
    if path:
        figure.savefig(path, dpi=150)
    return figure


def _draw(
    part: Any, matrices: Sequence[np.ndarray], largest: float, meaning: str
) -> None:
    axes = part.subplots(1, len(matrices), squeeze=False)[0]
    for number, (axis, matrix) in enumerate(zip(axes, matrices, strict=True), 1):
        image = axis.imshow(matrix, cmap=COLOURS, vmin=0, vmax=largest or 1)
        label_readers(axis, number, len(matrix) - 1, last=number == len(matrices))
    part.colorbar(image, ax=list(axes), label=meaning)


def label_readers(axis: Any, number: int, num_layers: int, last: bool) -> None:
    """Label a block's matrix, and frame the column of what reads the whole block."""
    step = max(1, num_layers // 6)
    ticks = range(0, num_layers + 1, step)
    axis.set_title(f"Dense block {number}")
    axis.set_xlabel("reading layer")
    axis.set_ylabel("source layer (0: the block's input)")
    axis.set_yticks(ticks)
    reader = "classifier" if last else "transition"
    layers = range(0, num_layers - (step if step > 1 else 0), step)
    axis.set_xticks(
        [*layers, num_layers], [*(str(layer + 1) for layer in layers), reader]
    )
    frame = (num_layers - 0.5, -0.5), 1, num_layers + 1
    axis.add_patch(Rectangle(*frame, fill=False, edgecolor="black", linewidth=1.5))
