"""Which layers use which features: Figure 5 of the paper, and its observations."""

import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from keras_densenet.analysis.inside import parts_of
from keras_densenet.layers import DenseBlock, DenseLayer, Transition
from keras_densenet.tensor import Tensor

DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError)  # what a broken archive raises
COLORS = "turbo"  # blue is nearly none, red is strong, as in the paper


def feature_reuse(model: keras.Model | str | os.PathLike) -> list[np.ndarray]:
    """Measure how strongly each layer of a dense block reads each layer before it.

    Args:
        model: A trained DenseNet of this package, also within another model; or a
            `.keras` file of one; or the folder of a run, whose last checkpoint is
            loaded.

    Returns:
        One matrix a block, float32 `(L + 1, L + 1)`. Row 0 is the block's input, and
        row s dense layer s. Column l - 1 is dense layer l, and the last column is what
        reads the whole block: a transition or the classifier. An entry is the mean
        absolute weight that joins source and reader; NaN where the source comes later.

    Raises:
        ValueError: The model has no dense block, or is quantized; or the file is
            damaged, or no model.
        FileNotFoundError: There is no such file, or no checkpoint in the folder.
    """
    if not isinstance(model, keras.Model):
        model = _loaded(Path(model))
    blocks = parts_of(model, DenseBlock)
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


def _loaded(path: Path) -> keras.Model:
    """Load a `.keras` file, or the last whole checkpoint in the folder of a run."""
    paths = [path]
    if path.is_dir():
        names = ("last.keras", "before-last.keras")
        paths = [path / "checkpoints" / name for name in names]
    existing = [path for path in paths if path.is_file()]
    if not existing:
        raise FileNotFoundError(
            f"There is no {paths[0]}. Give a .keras file, or the folder of a run, as "
            "runs/cifar10-densenet_40_12/version_0."
        )
    problem: Exception
    for file in existing:
        try:
            with zipfile.ZipFile(file):  # Keras would say that there is no such file
                return keras.saving.load_model(file, compile=False)
        except (OSError, ValueError, KeyError, TypeError, *DAMAGED) as error:
            problem = error
    raise ValueError(
        f"{existing[0]} is damaged, or no model of Keras ({problem}). Give another "
        "file."
    )


def _readers(model: keras.Model, num_blocks: int) -> list[np.ndarray | None]:
    """Return what reads each whole block: a kernel `(..., C, out)`, or None."""
    between = [layer.conv.kernel for layer in parts_of(model, Transition)]
    if len(between) != num_blocks - 1:
        if between:
            raise ValueError(
                f"{model.name} has {num_blocks} dense blocks and {len(between)} "
                "transitions, so that it does not say which reads which. If it is of "
                "several networks, pass one: model.get_layer(name)."
            )
        between = [None] * (num_blocks - 1)
    # If there are several dense layers, the first one reads the maps.
    dense = [layer.kernel for layer in parts_of(model, keras.layers.Dense)]
    return [*between, dense[0] if dense else None]


def _block_matrix(block: DenseBlock, reader: Tensor | None) -> np.ndarray:
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
                    "Feature reuse is measured in floating-point weights, but those of "
                    f"{block.name} are {kernel.dtype}. Measure it before the model is "
                    "quantized."
                )
            weights = np.abs(keras.ops.convert_to_numpy(kernel))  # (..., C, out)
            by_source = np.split(weights, ends[:column], axis=-2)
            matrix[: column + 1, column] = [part.mean() for part in by_source]
    return matrix


def _first_kernel(layer: DenseLayer) -> Tensor:
    """Return the kernel that reads the concatenated maps, `(..., C, out)`."""
    return layer.bottleneck_conv.kernel if layer.bottleneck else layer.conv.kernel


def rescaled(matrix: np.ndarray) -> np.ndarray:
    """Divide each column by its largest entry, to show what its reader prefers."""
    largest = np.nanmax(np.where(np.isnan(matrix), 0, matrix), axis=0)
    return matrix / np.where(largest > 0, largest, 1)


# --- what the paper observes -----------------------------------------------------


def observe_feature_reuse(matrices: Sequence[np.ndarray]) -> list[str]:
    """Measure the paper's four observations, and say whether they hold.

    Args:
        matrices: What `feature_reuse` returns.

    Returns:
        A sentence for each observation that can be made with the network's layers.
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
        for column in range(3, len(matrix) - 1):  # readers of four sources or more
            weights = matrix[: column + 1, column]
            half = len(weights) // 2
            equal = half / len(weights)
            shares.append(weights[:half].sum() / weights.sum() / equal)
    if not shares:
        return "The blocks are too short to say how far back their layers reach."
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
    for matrix in (m for m in matrices if len(m) > 3):  # blocks of three or more layers
        layers = matrix[:, :-1]
        rows = [np.nanmean(row) for row in layers[:-2]]  # each has two or more readers
        ratios.append(float(rows[0] / np.nanmean(layers[1:])))
        are_least.append(rows[0] == min(rows))
    if not ratios:
        return (
            "The blocks are too short to say how much they use what a transition made."
        )
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

    The upper row shows them as they are. In the lower row each column is divided by its
    largest entry, which shows what sources its reader prefers. The paper does not say
    which of the two it drew. Columns that read a whole block, those of transitions and
    of the classifier, are framed.

    Args:
        matrices: What `feature_reuse` returns.
        path: Where to save the picture, if at all; its ending, such as `.png` or
            `.svg`, names the format.
        observations: Whether to write the observations below.

    Returns:
        The figure.
    """
    width = max(9.0, 4.2 * len(matrices) + 0.8)
    texts = observe_feature_reuse(matrices) if observations else []
    below = 1.2 if texts else 0.0  # inches, of which a wrapped line takes some
    height = 8.4 + below
    figure = Figure(figsize=(width, height))
    room = (0, below / height, 1, 1 - below / height)
    figure.set_layout_engine("constrained", rect=room, h_pad=0.1)
    figure.text(0.01, 0.98 * below / height, "\n".join(texts), va="top", wrap=True)
    top, bottom = figure.subplots(2, len(matrices), squeeze=False)
    largest = max(float(np.nanmax(matrix)) for matrix in matrices)
    _draw(top, matrices, largest, "mean |weight|")
    of_largest = "mean |weight| / the column's largest"
    _draw(bottom, [rescaled(matrix) for matrix in matrices], 1.0, of_largest)
    if path:
        figure.savefig(path, dpi=150)
    return figure


def _draw(
    axes: Sequence[Axes], matrices: Sequence[np.ndarray], largest: float, meaning: str
) -> None:
    for number, (axis, matrix) in enumerate(zip(axes, matrices, strict=True), 1):
        image = axis.imshow(matrix, cmap=COLORS, vmin=0, vmax=largest or 1)
        label_readers(axis, number, len(matrix) - 1, last=number == len(matrices))
    axes[0].figure.colorbar(image, ax=list(axes), label=meaning)


def label_readers(axis: Axes, number: int, num_layers: int, last: bool) -> None:
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
