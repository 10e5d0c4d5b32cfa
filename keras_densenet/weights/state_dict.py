"""The DenseNet in a file of PyTorch, wherever it is in it and whatever its names."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from keras_densenet.weights.errors import WeightsError
from keras_densenet.weights.file_kind import FileKind
from keras_densenet.weights.inert_pickle import Inert, refuse_inert
from keras_densenet.weights.names import KINDS, by_todays_names, stems_in
from keras_densenet.weights.pytorch_files import StoredArray, named, read_pth

# What training scripts call the weights, beside their averages and other networks.
USUAL = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
MOST_VISITED = 100_000  # objects of a file in which weights are looked for


class StateDict(NamedTuple):
    """A network's arrays by today's names, as a file of PyTorch has them.

    Attributes:
        arrays: The arrays, in PyTorch's shapes; `as_array` reads them.
        left_out: Names of what is no layer's: counters, thresholds.
        place: Where they are in the file, such as "state_dict"; "" for the file itself.
        beginning: What the names of the features begin with, such as
            "module.features.".
        class_name: Of the pickled model that has them, such as
            "torchvision.models.densenet.DenseNet"; "" where there is none.
    """

    arrays: dict[str, Any]
    left_out: list[str]
    place: str = ""
    beginning: str = ""
    class_name: str = ""


class Named(NamedTuple):
    """Arrays by name, and of which class the pickled model was that had them."""

    arrays: dict[str, Any]
    class_name: str = ""


def network_in(path: Path, kind: FileKind) -> StateDict:
    """Find the DenseNet in a file of PyTorch."""
    with named(path):
        is_safe = kind == "safetensors"
        return of_pytorch(_read_safetensors(path) if is_safe else read_pth(path))


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise WeightsError(
            f"no file of safetensors, or damaged ({error}). Copy or download it anew."
        ) from error


def of_pytorch(saved: Any) -> StateDict:
    """Find the DenseNet in a state dict, a checkpoint or a pickled model.

    Raises:
        WeightsError: There is none, or it is not said which of several.
    """
    found = state_dicts(saved)
    if not found:
        refuse_inert(saved)
        raise WeightsError(
            "The file has no weights by name. Save a state dict: "
            "torch.save(model.state_dict(), path)."
        )
    place = _place_of_the_network(found)
    values, class_name = found[place]
    arrays = {name: value for name, value in values.items() if is_array(value)}
    others = [name for name in values if name not in arrays]
    for name in others:
        if name.rpartition(".")[2] in KINDS:
            raise WeightsError(
                f"{name} is no array but a {_described(values[name])}. Weights are "
                "arrays or tensors by name, as model.state_dict() returns them."
            )
    beginning = next(iter(stems_in(arrays)), "")
    arrays, left_out = by_todays_names(arrays)
    _refuse_other_kinds(arrays)
    return StateDict(arrays, left_out + others, place, beginning, class_name)


def _place_of_the_network(found: Mapping[str, Named]) -> str:
    """Return which of the places in a file has the network's weights.

    Of several DenseNets it is the outermost; of those beside each other, as weights are
    beside their averages, the one that has a usual name.
    """
    densenets = [place for place, named in found.items() if stems_in(named.arrays)]
    if not densenets:
        return next(iter(found))  # whose missing weights are told
    if "" in densenets:
        return ""
    depth = min(place.count(".") for place in densenets)
    outermost = [place for place in densenets if place.count(".") == depth]
    by_name = {place.rpartition(".")[2]: place for place in outermost}
    usual = [by_name[name] for name in USUAL if name in by_name]
    if len(outermost) > 1 and not usual:
        raise WeightsError(
            f"The file has {len(outermost)} DenseNets, and it is not said which one is "
            f"meant: {', '.join(outermost)}. Load it with PyTorch, and save one of "
            "them alone."
        )
    return (usual or outermost)[0]


def _described(value: Any) -> str:
    if isinstance(value, Inert):
        return f"{value.described}, which was not made"
    return type(value).__name__


def _refuse_other_kinds(arrays: Mapping[str, np.ndarray]) -> None:
    """Raise a `WeightsError` that names which relative of DenseNet it is of timm's."""
    if "features.conv1.weight" in arrays:
        raise WeightsError(
            "These weights are of a network with a deep stem (three 3x3 convolutions), "
            "such as timm's densenet264d: another network than the paper's. Give "
            "weights of torchvision's or timm's densenet121, 161, 169 or 201."
        )
    if any(name.endswith(".filt") for name in arrays):
        raise WeightsError(
            "These weights are of a network with blur pooling, such as timm's "
            "densenetblur121d: another network than the paper's. Give weights of "
            "torchvision's or timm's densenet121, 161, 169 or 201."
        )


# --- where arrays are ------------------------------------------------------------


def state_dicts(saved: Any) -> dict[str, Named]:
    """Find all that has arrays by name: dictionaries, and pickled models.

    Args:
        saved: What `read_pth` returned, or a dictionary.

    Returns:
        What was found, by its place in `saved`, such as "state_dict"; "" for `saved`
        itself. Those further out come first.
    """
    found: dict[str, Named] = {}
    waiting: list[tuple[str, Any]] = [("", saved)]
    seen: set[int] = set()
    while waiting and len(seen) < MOST_VISITED:
        place, thing = waiting.pop(0)
        entries = _entries(thing)
        if id(thing) in seen or not entries:
            continue
        seen.add(id(thing))
        if _is_module(thing):
            found[place] = Named(dict(_of_module(thing)), thing.described)
            continue
        if any(is_array(value) for value in entries.values()):
            found[place] = Named({str(n): value for n, value in entries.items()})
        beginning = f"{place}." if place else ""
        waiting += [(f"{beginning}{name}", value) for name, value in entries.items()]
    return found


def _entries(thing: Any) -> Mapping[Any, Any]:
    """Return what a dictionary has by name, or what an inert object has."""
    if isinstance(thing, Inert):
        return {**thing.attributes, **thing.entries}
    return thing if isinstance(thing, Mapping) else {}


def is_array(value: Any) -> bool:
    """Return whether a value is an array: in a file, NumPy's or PyTorch's."""
    return isinstance(value, StoredArray | np.ndarray) or hasattr(value, "detach")


def as_array(value: Any) -> np.ndarray:
    """Return the numbers of what `is_array` says is one."""
    if hasattr(value, "detach"):  # a tensor of PyTorch
        value = value.detach().cpu().float().numpy()
    return np.asarray(value)


def _is_module(thing: Any) -> bool:
    """Return whether an inert object was a module of PyTorch."""
    return isinstance(thing, Inert) and "_modules" in thing.attributes


def _of_module(
    module: Inert, beginning: str = "", within: tuple = ()
) -> Iterator[tuple[str, Any]]:
    """Iterate over a module's arrays, by the names that its state dict would have."""
    if any(module is outer for outer in within):
        raise WeightsError("the file has a module within itself. Download it anew.")
    for kind in ("_parameters", "_buffers"):
        for name, value in _entries(module.attributes.get(kind)).items():
            if is_array(value):
                yield f"{beginning}{name}", value
    for name, inner in _entries(module.attributes["_modules"]).items():
        if _is_module(inner):
            yield from _of_module(inner, f"{beginning}{name}.", (*within, module))
