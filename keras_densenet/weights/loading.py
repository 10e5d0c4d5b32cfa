"""Loading weights of keras.applications, torchvision and timm into our networks."""

import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import h5py
import keras
import numpy as np

from keras_densenet.layers import DenseBlock
from keras_densenet.weights.errors import WeightsError
from keras_densenet.weights.file_kind import BY_SUFFIX, OF_KERAS, FileKind, kind_of
from keras_densenet.weights.names import (
    CLASSIFIER,
    Weight,
    from_pytorch,
    layers_within,
    unnamed_weights,
    weights_by_name,
)
from keras_densenet.weights.pytorch_files import named
from keras_densenet.weights.state_dict import (
    StateDict,
    as_array,
    network_in,
    of_pytorch,
)

Source: TypeAlias = keras.Model | Mapping[str, Any] | str | os.PathLike

IMAGENET = "imagenet"
APPLICATIONS: dict[
    tuple[int, ...], str
] = {  # dense layers in each block, of growth rate 32
    (6, 12, 24, 16): "DenseNet121",
    (6, 12, 32, 32): "DenseNet169",
    (6, 12, 48, 32): "DenseNet201",
}
TOPS = ("dense", "predictions", "fc1000", "classifier")  # what files call classifiers
SEEDS = "seed_generator"
MOST_NAMED = 5  # weights that an error text lists
MOST_QUOTED = 400  # letters of Keras's error that ours quotes
DAMAGED = (OSError, ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile)


class Loaded(NamedTuple):
    """What `load` has done.

    Attributes:
        weights: How many arrays were loaded.
        unused: Names of the source's arrays that were not loaded: PyTorch's counters,
            vectors that are of no layer (thresholds, a loss's weights), and the
            classifier where the network has none or `include_top` is False. All layers
            after the last batch norm are the classifier.
    """

    weights: int
    unused: list[str]


def load(model: keras.Model, source: Source, *, include_top: bool = True) -> Loaded:
    """Load weights of another library, or of a file, into a DenseNet.

    All weights are accounted for: where one is missing, unexpected or of another shape,
    none is loaded. PyTorch's files are read without PyTorch, and no code in them is
    run.

    Args:
        model: A DenseNet of this package.
        source: One of

            - "imagenet": keras.applications downloads its weights, and keeps them
            - a `keras.Model` of this package or of `keras.applications`, also within
              another model
            - `model.state_dict()` of PyTorch, or arrays by its names: those of
              torchvision and timm, of 2017 (`norm.1`), of MONAI (`layers.norm1`) or of
              efficient_densenet_pytorch (`norm_final`), whatever the names of all
              features begin with (`module.densenet121.`, `backbone.0.`, nothing)
            - a file of these, whatever its ending, also within a checkpoint, of which
              all else is passed over, or as a whole pickled model
            - a `.keras`, `.weights.h5` or `.h5` file of this package
            - a `.weights.h5` or `.h5` file of `keras.applications`, with its classifier
              or without (`_notop`)
        include_top: Whether the classifier is loaded, too. False leaves the network's
            own classifier as it is, which may have other classes.

    Returns:
        What was loaded, and what was not.

    Raises:
        WeightsError: The weights are those of another network, or the file cannot be
            read. The model is unchanged.
        FileNotFoundError: There is no such file.
    """
    ours = weights_by_name(model)
    if not any(isinstance(layer, DenseBlock) for layer in model.layers):
        raise WeightsError(
            f"{model.name} is no DenseNet of keras_densenet. Give a network that has a "
            "DenseBlock among its own layers."
        )
    _refuse_unloaded(model, ours, include_top)
    if not include_top:
        ours = [weight for weight in ours if not weight.name.startswith(CLASSIFIER)]
    theirs, left_out = _arrays_of(model, source)
    arrays, unused = _matched(ours, theirs)
    for weight, array in zip(ours, arrays, strict=True):
        weight.variable.assign(array)
    return Loaded(len(ours), unused + left_out)


def _arrays_of(
    model: keras.Model, source: Source
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the arrays of a source by PyTorch's names, with Keras's axes.

    The names of what is no layer's are returned, too.
    """
    if isinstance(source, keras.Model):
        return _arrays_of_keras(model, source), []
    if isinstance(source, Mapping):
        return _with_keras_axes(of_pytorch(source))
    if source == IMAGENET:
        return _arrays_of_keras(model, _downloaded(model)), []
    path, kind = checked_path(source)
    if kind in OF_KERAS:
        return _arrays_of_keras(model, _read_keras(model, path, kind)), []
    return _arrays_in(path, kind)


def read_state_dict(path: Path, kind: FileKind = "pytorch") -> dict[str, np.ndarray]:
    """Return the arrays of a file of PyTorch by today's names, with Keras's axes."""
    return _arrays_in(path, kind)[0]


def _arrays_in(path: Path, kind: FileKind) -> tuple[dict[str, np.ndarray], list[str]]:
    with named(path):
        return _with_keras_axes(network_in(path, kind))


def _with_keras_axes(state: StateDict) -> tuple[dict[str, np.ndarray], list[str]]:
    """Read the arrays, and turn their axes."""
    arrays = {name: from_pytorch(as_array(v)) for name, v in state.arrays.items()}
    return arrays, state.left_out


def _refuse_unloaded(
    model: keras.Model, ours: Sequence[Weight], include_top: bool
) -> None:
    """Refuse a model with weights that nothing would be loaded into.

    Without the classifier these may come after the last weight that is loaded.
    """
    extra = [weight for weight in unnamed_weights(model) if weight.trainable]
    if not include_top:
        extra = _amid_features(model, ours, extra)
    if extra:
        raise WeightsError(
            f"{model.name} has weights that no other DenseNet has, and they would stay "
            f"as they are: {_few([weight.path for weight in extra])}. Load the weights "
            "before these layers are added; of layers after the last batch norm, with "
            "include_top=False."
        )


def _amid_features(
    model: keras.Model, named: Sequence[Weight], weights: Sequence[keras.Variable]
) -> list[keras.Variable]:
    """Return those of the weights that come before the last one of the features."""
    features = {id(w.variable) for w in named if not w.name.startswith(CLASSIFIER)}
    places = {id(weight): place for place, weight in enumerate(model.weights)}
    last = max((places[weight] for weight in features), default=0)
    return [weight for weight in weights if places[id(weight)] < last]


def checked_path(source: str | os.PathLike) -> tuple[Path, FileKind]:
    """Return the path of a file of weights, and of which kind it is.

    Raises:
        WeightsError: The source is no path, or the file is of another kind.
        FileNotFoundError: There is no such file.
    """
    if not isinstance(source, str | os.PathLike):
        raise WeightsError(
            f'Weights must be "{IMAGENET}", a model, a state dict, or a path. '
            f"Received: an object of type {type(source).__name__}."
        )
    path = Path(source)
    if path.is_dir():
        raise FileNotFoundError(
            f"{path} is a folder: give the file of weights in it, of a run one of its "
            "checkpoints/."
        )
    if not path.is_file():
        raise FileNotFoundError(
            f'There is no file {path}. Weights must be "{IMAGENET}", a model, a state '
            f"dict, or a file that ends in one of {', '.join(BY_SUFFIX)}."
        )
    return path, kind_of(path)


# --- keras.applications ------------------------------------------------------------


def _application_of(model: keras.Model) -> str:
    """Return the name that keras.applications has for a model's network."""
    blocks = [layer for layer in model.layers if isinstance(layer, DenseBlock)]
    name = APPLICATIONS.get(tuple(block.num_layers for block in blocks))
    if name is None or blocks[0].growth_rate != 32:
        raise WeightsError(
            "keras.applications has weights for DenseNet121, 169 and 201, but not for "
            f"{model.name}. Give a file of torchvision's or timm's, or a checkpoint of "
            "your own."
        )
    return name


def _downloaded(model: keras.Model) -> keras.Model:
    """Download the network of keras.applications with its weights for ImageNet."""
    name = _application_of(model)
    has_top = any(layer.name == "classifier" for layer in model.layers)
    try:
        return getattr(keras.applications, name)(include_top=has_top)
    except Exception as error:  # Keras raises a bare Exception if a download fails
        top = "" if has_top else "_notop"
        file = f"{name.lower()}_weights_tf_dim_ordering_tf_kernels{top}.h5"
        raise WeightsError(
            f"The weights of {name} for ImageNet could not be downloaded ({error}). "
            f"Put {file} of Keras's own releases into ~/.keras/models/, or give a file "
            "of torchvision's or timm's as weights."
        ) from error


# --- files of Keras ----------------------------------------------------------------


def _read_keras(model: keras.Model, path: Path, kind: FileKind) -> keras.Model:
    """Build the network of a file of Keras, and load its weights."""
    try:
        if kind == "keras":
            return keras.saving.load_model(path, compile=False)
        with h5py.File(path) as file:
            network = _network_of(model, layers_in(file))
            count = _count_weights(layers_in(file))
        network.load_weights(path)
    except DAMAGED as error:
        raise WeightsError(
            f"{path} is damaged, or of another network than {model.name}. Of a network "
            "within a model give that network: load the model in Keras, and pass "
            "model.get_layer(name). Keras says: "
            f"{' '.join(str(error).split())[:MOST_QUOTED]}"
        ) from error
    if count != len(network.weights):  # Keras passes over what it does not look for
        raise WeightsError(
            f"{path} has {count} weights and {network.name} has "
            f"{len(network.weights)}: it has other layers, such as hidden ones "
            "before the classifier. Load the model in Keras, and pass it."
        )
    return network


def layers_in(file: h5py.File) -> Mapping[str, Any]:
    """Return the groups of a file's layers by name.

    Keras 3 has them in "layers", a whole model in "model_weights", Keras 2 beside each
    other.
    """
    return file.get("layers") or file.get("model_weights") or file


def _count_weights(layers: Mapping[str, Any]) -> int:
    """Return how many arrays a file's layers have, without the seeds of dropout."""
    names: list[str] = []

    def count(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset) and SEEDS not in name:
            names.append(name)

    layers.visititems(count)  # type: ignore[attr-defined]
    return len(names)


def _network_of(model: keras.Model, layers: Mapping[str, Any]) -> keras.Model:
    """Build the network that a file has the weights of: ours, or Keras's.

    A file of Keras 3 names layers by their class, one of Keras 2 by their name.
    """
    tops = [layers[name] for name in layers if name in TOPS]
    classes = _classes_in(tops[0]) if tops else None
    if any(name.startswith("dense_block") for name in layers):
        return _with_classes(model, classes)
    make = getattr(keras.applications, _application_of(model))
    return make(weights=None, include_top=bool(tops), classes=classes or 1000)


def _classes_in(classifier: h5py.Group) -> int | None:
    """Return the number of classes: the kernel is a classifier's only matrix."""
    found: list[int] = []

    def look_for_kernel(_: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim == 2:
            found.append(item.shape[-1])

    classifier.visititems(look_for_kernel)
    return found[0] if found else None


def _with_classes(model: keras.Model, classes: int | None) -> keras.Model:
    """Build a network like a model, with so many classes in its classifier."""

    def copied(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if layer.name == "classifier" and classes:
            config["units"] = classes
        return type(layer).from_config(config)

    return keras.models.clone_model(model, clone_function=copied)


def _arrays_of_keras(model: keras.Model, theirs: keras.Model) -> dict[str, np.ndarray]:
    """Return the arrays of a model of Keras by name, those of its classifier last."""
    if any(isinstance(layer, DenseBlock) for layer in layers_within(theirs)):
        arrays, rest = _arrays_by_name(theirs)
    else:
        arrays, rest = _arrays_in_order(model, theirs)
    shapes = [len(weight.shape) for weight in rest]
    is_classifier = shapes == [2, 1] and f"{CLASSIFIER}weight" not in arrays
    names = ["weight", "bias"] if is_classifier else [w.path for w in rest]
    for name, weight in zip(names, rest, strict=True):
        arrays[CLASSIFIER + name] = keras.ops.convert_to_numpy(weight)
    return arrays


def _arrays_by_name(
    theirs: keras.Model,
) -> tuple[dict[str, np.ndarray], list[keras.Variable]]:
    """Return the arrays of a network of ours by name, and its other weights.

    Raises:
        WeightsError: It has other weights before its last batch norm.
    """
    named = weights_by_name(theirs)
    rest = unnamed_weights(theirs)
    amid = _amid_features(theirs, named, rest)
    if amid:
        raise WeightsError(
            f"{theirs.name} has weights before its last batch norm that a DenseNet has "
            f"not: {_few([w.path for w in amid])}. Give weights of the same network; "
            "of one within a model, model.get_layer(name)."
        )
    return {w.name: keras.ops.convert_to_numpy(w.variable) for w in named}, rest


def _arrays_in_order(
    model: keras.Model, theirs: keras.Model
) -> tuple[dict[str, np.ndarray], list[keras.Variable]]:
    """Return the arrays of a network of Keras by name: their order is that of ours.

    Returns:
        The arrays up to the last batch norm, and the weights after them.

    Raises:
        WeightsError: The network is another one.
    """
    ours = [w for w in weights_by_name(model) if not w.name.startswith(CLASSIFIER)]
    in_order = theirs.weights
    pairs = list(zip(ours, in_order, strict=False))
    if len(in_order) < len(ours) or not all(_is_same(*pair) for pair in pairs):
        raise WeightsError(
            f"{theirs.name} has {len(in_order)} weights and {model.name} has "
            f"{len(model.weights)}, and they are of another network or in another "
            "order. Give weights of the same network; of one within a model, "
            "model.get_layer(name)."
        )
    arrays = {
        weight.name: keras.ops.convert_to_numpy(variable) for weight, variable in pairs
    }
    return _with_our_epsilon(arrays, theirs), in_order[len(ours) :]


def _is_same(ours: Weight, theirs: keras.Variable) -> bool:
    """Return whether a weight of Keras has the shape and the role of one of ours."""
    role = ours.variable.path.rsplit("/", 1)[-1]
    has_role = theirs.path.rsplit("/", 1)[-1] == role
    return has_role and tuple(theirs.shape) == tuple(ours.variable.shape)


def _with_our_epsilon(
    arrays: dict[str, np.ndarray], theirs: keras.Model
) -> dict[str, np.ndarray]:
    """Add what Keras's epsilon, 1.001e-5, is above the paper's 1e-5 to variances."""
    norms = (
        layer
        for layer in layers_within(theirs)
        if isinstance(layer, keras.layers.BatchNormalization)
    )
    norm = next(norms, None)
    if norm is None:
        raise WeightsError(
            f"{theirs.name} has no batch norms, so that it is another network than "
            "DenseNet. Give a DenseNet of keras.applications."
        )
    difference = norm.epsilon - 1e-5
    return {
        name: array + difference if name.endswith("running_var") else array
        for name, array in arrays.items()
    }


# --- every weight is accounted for -------------------------------------------------


def _matched(
    ours: Sequence[Weight], theirs: Mapping[str, np.ndarray]
) -> tuple[list[np.ndarray], list[str]]:
    """Find an array for each of our weights.

    Returns:
        The arrays in the order of `ours`, and the names of those that are left over.

    Raises:
        WeightsError: A weight is missing, unexpected or of another shape.
    """
    names = {weight.name for weight in ours}
    unused = [name for name in theirs if name not in names]
    has_top = any(name.startswith(CLASSIFIER) for name in names)
    problems = {
        "missing": [weight.name for weight in ours if weight.name not in theirs],
        "unexpected": [
            name for name in unused if has_top or not name.startswith(CLASSIFIER)
        ],
        "of another shape": [
            f"{weight.name} is {theirs[weight.name].shape}, not "
            f"{tuple(weight.variable.shape)}"
            for weight in ours
            if weight.name in theirs
            and theirs[weight.name].shape != tuple(weight.variable.shape)
        ],
    }
    found = "; ".join(
        f"{what}: {_few(which)}" for what, which in problems.items() if which
    )
    if found:
        all_of_them = [name for which in problems.values() for name in which]
        is_top = all(name.startswith(CLASSIFIER) for name in all_of_them)
        hint = (
            "Leave the classifier out with include_top=False"
            if is_top
            else "Give weights of the same network"
        )
        raise WeightsError(f"These are weights of another network. {found}. {hint}.")
    return [theirs[weight.name] for weight in ours], unused


def _few(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
