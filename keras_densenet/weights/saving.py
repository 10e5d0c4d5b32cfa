"""Writing our weights as files that torchvision, timm and MONAI load."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import keras
import numpy as np
from safetensors.numpy import save_file

from keras_densenet.weights.errors import WeightsError
from keras_densenet.weights.names import (
    COUNTER,
    monai_name,
    to_pytorch,
    unnamed_weights,
    weights_by_name,
)
from keras_densenet.weights.pytorch_files import write_pth
from keras_densenet.whole_file import whole_file

_NAMES: dict[str, Callable[[str], str]] = {"torchvision": str, "monai": monai_name}


def save(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    layout: Literal["torchvision", "monai"] = "torchvision",
) -> Path:
    """Write a network's weights as a state dict of PyTorch's.

    `torchvision.models.densenet121().load_state_dict(torch.load(path))` loads it; so do
    the deeper networks and those of timm. With `layout="monai"` it is
    `monai.networks.nets.DenseNet121(...)` that does, also of signals and of volumes.

    Args:
        model: A DenseNet of this package.
        path: Path of the file, which ends in `.pth`, `.pt` or `.safetensors`.
        layout: Whose names the weights have: "torchvision", which timm has, too, or
            "monai".

    Returns:
        The path.

    Raises:
        WeightsError: The path has another ending or is a folder, or the model has no
            dense block, or other weights than a DenseNet's, or there is no such layout.
    """
    path = Path(path)
    if layout not in _NAMES:
        raise WeightsError(
            f"layout says whose names the weights have: {' or '.join(_NAMES)}. "
            f"Received: layout={layout!r}."
        )
    arrays = {}
    for weight in weights_by_name(model):
        array = keras.ops.convert_to_numpy(weight.variable).astype("float32")
        arrays[weight.name] = np.ascontiguousarray(to_pytorch(array))
        if weight.name.endswith("running_var"):
            counter = weight.name.removesuffix(".running_var") + COUNTER
            arrays[counter] = np.zeros((), "int64")
    if not any("denseblock" in name for name in arrays):
        raise WeightsError(
            f"{model.name} is no DenseNet of keras_densenet. Only networks with a "
            "DenseBlock can be saved for PyTorch."
        )
    extra = [weight.path for weight in unnamed_weights(model)]
    if extra:
        raise WeightsError(
            f"{model.name} has weights that torchvision's DenseNet has no place for: "
            f"{', '.join(extra)}. Save the DenseNet without these layers."
        )
    if path.suffix not in (".pth", ".pt", ".safetensors"):
        raise WeightsError(
            f"The path of a file of weights must end in .pth, .pt or .safetensors. "
            f"Received: {path}."
        )
    if path.is_dir():
        raise WeightsError(f"{path} is a folder. Give the path of a file in it.")
    arrays = {_NAMES[layout](name): array for name, array in arrays.items()}
    write = save_file if path.suffix == ".safetensors" else _write_pth
    with whole_file(path) as beside:
        write(arrays, beside)
    return path


def _write_pth(arrays: dict[str, np.ndarray], path: Path) -> None:
    write_pth(path, arrays)
