"""The DenseNet in a file of PyTorch, wherever it is in it and whatever its names."""

import re
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from keras_densenet.layers.batch_norm import EPSILON
from keras_densenet.weights.errors import MOST_LETTERS, WeightsError, shown
from keras_densenet.weights.file_kind import FileKind
from keras_densenet.weights.inert_pickle import Global, Inert, refuse_inert
from keras_densenet.weights.names import (
    KINDS,
    at_our_epsilon,
    by_todays_names,
    stems_in,
    with_named_features,
)
from keras_densenet.weights.pytorch_files import StoredArray, read_pth

# What training scripts call the weights, beside their averages and other networks.
USUAL = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
_SCRIPT = "__torch__"  # with which torch.jit has the names of all classes begin
_OF_RELU = re.compile(r"denselayer\d+\.(layers\.)?relu\d?$")
MOST_VISITED = 2_000_000  # entries of a file among which weights are looked for


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
    is_safe = kind == "safetensors"
    return of_pytorch(_read_safetensors(path) if is_safe else read_pth(path))


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise WeightsError(
            f"no file of safetensors, or damaged ({shown(error)}). Copy or download it "
            "anew."
        ) from error
    except AttributeError as error:  # "module 'numpy' has no attribute 'float8_e5m2'"
        raise WeightsError(
            "the file has numbers of a kind that NumPy does not have "
            f"({shown(error)}). Load it with PyTorch, and save "
            "model.float().state_dict()."
        ) from error


def of_pytorch(saved: Any) -> StateDict:
    """Find the DenseNet in a state dict, a checkpoint or a pickled model.

    Raises:
        WeightsError: There is none, or it is not said which of several.
    """
    found = {
        place: named._replace(arrays=with_named_features(named.arrays))
        for place, named in state_dicts(saved).items()
    }
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
            f"meant: {shown(', '.join(outermost))}. Load it with PyTorch, and save one "
            "of them alone."
        )
    return (usual or outermost)[0]


def _described(value: Any) -> str:
    if isinstance(value, Global | Inert):
        kind = value.described if isinstance(value, Inert) else value
        return f"{kind}, which was not made"
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
    search = _Search()
    waiting = deque([("", saved)])
    seen: set[int] = set()
    while waiting:
        place, thing = waiting.popleft()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if _is_module(thing):
            class_name = str(thing.described).removeprefix(f"{_SCRIPT}.")
            found[place] = Named(search.arrays_of(thing), class_name)
            continue
        entries = search.entries_of(thing)
        if any(_is_weight(name, value) for name, value in entries.items()):
            found[place] = Named({_name(n): value for n, value in entries.items()})
        waiting += search.within(place, entries)
    return found


class _Search:
    """Looks into what a file has, as long as that has an end.

    Dictionaries and modules may have one and the same within them many times, and that
    in turn, so that there are far more ways through a file than it has bytes.
    """

    def __init__(self) -> None:
        self._visited = 0

    def entries_of(self, thing: Any) -> dict[Any, Any]:
        """Return what a dictionary has by name, or what an inert object has."""
        parts = thing.parts if isinstance(thing, Inert) else [thing]
        parts = [part for part in parts if isinstance(part, Mapping)]
        self._count(1 + sum(map(len, parts)))
        return {name: value for part in parts for name, value in part.items()}

    def _count(self, visited: int) -> None:
        """Raise a `WeightsError` where more is visited than a file has."""
        self._visited += visited
        if self._visited > MOST_VISITED:
            raise WeightsError(
                f"the file has more than {MOST_VISITED:,} entries among which weights "
                "could be. Save the weights alone: "
                "torch.save(model.state_dict(), path)."
            )

    def within(
        self, place: str, entries: Mapping[Any, Any]
    ) -> Iterator[tuple[str, Any]]:
        """Iterate over what may have more in it, and its place."""
        beginning = f"{place}." if place else ""
        for name, thing in entries.items():
            if isinstance(thing, Inert | Mapping) and len(beginning) < MOST_LETTERS:
                yield f"{beginning}{_name(name)}", thing

    def arrays_of(self, module: Inert) -> dict[str, Any]:
        """Return a module's arrays, by the names that its state dict would have."""
        arrays = {}
        waiting: list[tuple[str, Any]] = [("", module)]
        while waiting:
            place, module = waiting.pop()
            _refuse_other_activation(place, module)
            beginning = f"{place}." if place else ""
            epsilon = self.entries_of(module).get("eps", EPSILON)
            inner: list[tuple[str, Any]] = []
            for part in self.parts_of(module):
                entries = self.entries_of(part)
                for name, value in entries.items():
                    if is_array(value):
                        if name == "running_var":
                            value = self._with_our_epsilon(value, epsilon)
                        arrays[f"{beginning}{_name(name)}"] = value
                inner += self.within(place, entries)
            waiting += [found for found in reversed(inner) if _is_module(found[1])]
        return arrays

    def parts_of(self, module: Inert) -> list[Any]:
        """Return what has a module's arrays and modules; of a script that is itself."""
        attributes = self.entries_of(module)
        if "_modules" not in attributes:
            return [module]
        return [
            attributes.get(part) for part in ("_parameters", "_buffers", "_modules")
        ]

    def _with_our_epsilon(self, variance: Any, epsilon: Any) -> Any:
        """Add to a batch norm's variance what its epsilon is above ours."""
        if epsilon == EPSILON or not isinstance(epsilon, float):
            return variance
        array = as_array(variance)
        self._count(array.size)  # which are copied, however many norms share them
        return at_our_epsilon(array, epsilon)


def _refuse_other_activation(place: str, module: Inert) -> None:
    """Refuse what has the name of a dense layer's ReLU, and is none.

    MONAI's DenseNet keeps the name whatever its `act` is.
    """
    if _OF_RELU.search(place) and not str(module.described).endswith("ReLU"):
        raise WeightsError(
            f"{place} is no ReLU, but {shown(module.described)}: it is another network "
            "than the paper's."
        )


def _name(key: Any) -> str:
    """Return what is under a key by name: a weight's is short, and printable."""
    return shown(key, MOST_LETTERS)


def _is_weight(name: Any, value: Any) -> bool:
    """Return whether an entry is an array, or would be the array of a layer."""
    is_layers = str(name).rpartition(".")[2] in KINDS
    return is_array(value) or (is_layers and isinstance(value, Inert))


def is_array(value: Any) -> bool:
    """Return whether a value is an array: in a file, NumPy's or PyTorch's."""
    return isinstance(value, StoredArray | np.ndarray) or hasattr(value, "detach")


def as_array(value: Any) -> np.ndarray:
    """Return the numbers of what `is_array` says is one."""
    if hasattr(value, "detach"):  # a tensor of PyTorch
        value = value.detach().cpu()
        value = (value if value.is_complex() else value.float()).numpy()
    array = np.asarray(value)
    if np.iscomplexobj(array):
        raise WeightsError(
            "the weights are complex numbers, and those of a DenseNet are real ones. "
            "Give others."
        )
    return array


def _is_module(thing: Any) -> bool:
    """Return whether an inert object was a module of PyTorch, or is one of a script."""
    if not isinstance(thing, Inert):
        return False
    is_scripts = thing.described.module.startswith(_SCRIPT)
    return is_scripts or any("_modules" in part for part in thing.parts)
