"""Loading weights of other libraries into our networks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from rich.console import Console

from keras_densenet.errors import few
from keras_densenet.layers import DenseBlock
from keras_densenet.weights.architecture import architecture_of, variant_of
from keras_densenet.weights.channels import STEM, adapted_kernel
from keras_densenet.weights.errors import WeightsError
from keras_densenet.weights.inflation import inflated
from keras_densenet.weights.names import (
    CLASSIFIER,
    Weight,
    unnamed_weights,
    weights_by_name,
)
from keras_densenet.weights.sources import (
    IMAGENET,
    Network,
    Source,
    network_of,
    title,
)

# Those that keras.applications has weights for ImageNet of.
APPLICATIONS = ("DenseNet121", "DenseNet169", "DenseNet201")
MOST_NAMED = 5  # weights that end alike and are named one by one


class Loaded(NamedTuple):
    """What `load` has done.

    Attributes:
        weights: How many arrays were loaded.
        unused: Names of the source's arrays that were not loaded: PyTorch's counters,
            vectors that are of no layer (thresholds, a loss's weights), and the
            classifier where the network has none or `include_top` is False. All layers
            after the last batch norm are the classifier.
        new: Names of the network's arrays that stay as they were: the classifier, where
            `include_top` is False.
        channels: How many channels the source's pictures have, and how many the
            network's.
        guess: What of the network the source does not say, in words; "" for nothing.
    """

    weights: int
    unused: list[str]
    new: list[str]
    channels: tuple[int, int]
    guess: str = ""

    def __str__(self) -> str:
        """Return what was done, in one line."""
        parts = [f"{self.weights} arrays loaded"]
        before, after = self.channels
        if before != after:
            only = f", of its first {after} kernels alone" if before > after > 1 else ""
            parts.append(
                f"the first convolution made for {after} "
                f"channel{'s' * (after > 1)} instead of {before}" + only
            )
        parts += [f"left out: {counted(self.unused)}"] * bool(self.unused)
        parts += [f"new: {counted(self.new)}"] * bool(self.new)
        parts += [f"a guess: {self.guess}"] * bool(self.guess)
        return "; ".join(parts)


def load(
    model: keras.Model,
    source: Source,
    *,
    include_top: bool = True,
    inflate: bool = False,
) -> Loaded:
    """Load weights of another library, or of a file, into a DenseNet.

    All weights are accounted for: where one is missing, unexpected or of another shape,
    none is loaded. Files of PyTorch are read without PyTorch, those of Keras without
    building their model, and no code in them is run. A line on standard error says what
    was loaded, what was left out and what is new.

    Where the network is for pictures of other channels than the source's, its first
    convolution is adapted as timm does: kernels are added up for one channel, repeated
    and rescaled for others.

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
            - a `.keras`, `.weights.h5` or `.h5` file of this package or of
              `keras.applications`, with its classifier or without (`_notop`), also
              within another model
        include_top: Whether the classifier is loaded, too. False leaves the network's
            own classifier as it is, which may have other classes.
        inflate: Whether weights of a network for pictures are loaded into one for
            volumes: each kernel is repeated along the depth, and divided by how often
            (Carreira and Zisserman 2017).

    Returns:
        What was loaded, and what was not.

    Raises:
        WeightsError: The weights are those of another network, or the file cannot be
            read. The model is unchanged.
        FileNotFoundError: There is no such file.
    """
    ours = weights_by_name(model)
    _refuse_other_networks(model, ours)
    _refuse_unloaded(model, ours, include_top)
    if not include_top:
        ours = [weight for weight in ours if not weight.name.startswith(CLASSIFIER)]
    found = network_of(_downloaded(model) if source == IMAGENET else source)
    if inflate:
        _refuse_to_inflate(model.name, ours)
        found = found._replace(arrays=inflated(found.arrays))
    theirs, channels = _for_our_channels(found, ours)
    arrays, unused = _matched(ours, theirs)
    for weight, array in zip(ours, arrays, strict=True):
        weight.variable.assign(array)
    loaded = {weight.name for weight in ours}
    new = [w.name for w in weights_by_name(model) if w.name not in loaded]
    done = Loaded(len(ours), unused + found.left_out, new, channels, found.guess)
    Console(stderr=True).print(
        f"Weights of {title(source)}: {done}.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return done


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file by today's names of PyTorch, with Keras's axes."""
    return network_of(path).arrays


def _for_our_channels(
    found: Network, ours: Sequence[Weight]
) -> tuple[dict[str, np.ndarray], tuple[int, int]]:
    """Adapt the first convolution; return how many channels it has and had, too."""
    kernel = found.arrays.get(STEM)
    *sizes, channels, _ = _stem_shape(ours)
    if kernel is None or kernel.ndim != len(sizes) + 2:
        return found.arrays, (channels, channels)
    before = kernel.shape[-2]
    if before in (0, channels):
        return found.arrays, (channels, channels)
    adapted = {STEM: adapted_kernel(kernel, channels)}
    return found.arrays | adapted, (before, channels)


def _refuse_other_networks(model: keras.Model, ours: Sequence[Weight]) -> None:
    """Refuse a model that has no dense block, or no stem to begin with."""
    if not any(isinstance(layer, DenseBlock) for layer in model.layers):
        raise WeightsError(
            f"{model.name} is no DenseNet of keras_densenet. Give a network that has a "
            "DenseBlock among its own layers."
        )
    if not any(weight.name == STEM for weight in ours):
        raise WeightsError(
            f"{model.name} has neither a layer 'stem_conv', the convolution that "
            "each DenseNet begins with, nor a Stem. Give a network of keras_densenet, "
            "or name your first convolution 'stem_conv'."
        )


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
            f"as they are: {few([weight.path for weight in extra])}. Load the weights "
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


# --- keras.applications ------------------------------------------------------------


def _application_of(model: keras.Model) -> str:
    """Return the name that keras.applications has for a model's network."""
    arrays = {weight.name: weight.variable for weight in weights_by_name(model)}
    name, _ = variant_of(architecture_of(arrays))
    if name not in APPLICATIONS:
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
        f"{what}: {few(which)}" for what, which in problems.items() if which
    )
    if found:
        wrong = [name for which in problems.values() for name in which]
        cure = _cure(wrong, ours, theirs)
        raise WeightsError(f"These are weights of another network. {found}. {cure}.")
    return [theirs[weight.name] for weight in ours], unused


def _cure(
    wrong: Sequence[str], ours: Sequence[Weight], theirs: Mapping[str, np.ndarray]
) -> str:
    """Return what to do where weights are wrong."""
    are_of_pictures = STEM in theirs and theirs[STEM].ndim == 4
    if are_of_pictures and len(_stem_shape(ours)) == 5:
        return (
            "Those of pictures are loaded for volumes with inflate=True, of "
            "keras_densenet.weights.load or FineTuning"
        )
    if all(name.startswith(CLASSIFIER) for name in wrong):
        return "Leave the classifier out with include_top=False"
    return (
        "Give weights of the same network; keras_densenet.weights.describe says what a "
        "file has"
    )


def _stem_shape(ours: Sequence[Weight]) -> tuple[int, ...]:
    """Return the shape of the first kernel, such as `(H, W, in, out)`."""
    (stem,) = (weight.variable for weight in ours if weight.name == STEM)
    return tuple(stem.shape)


def _refuse_to_inflate(name: str, ours: Sequence[Weight]) -> None:
    rank = len(_stem_shape(ours)) - 2
    if rank != 3:
        raise WeightsError(
            "inflate=True makes weights of pictures those of volumes, and "
            f"{name} is a network of {'pictures' if rank == 2 else 'signals'}: leave "
            "it out."
        )


def counted(names: Sequence[str]) -> str:
    """Return names in a few words: of many that end alike, how many there are.

    >>> counted(["front.weight", *["bn.num_batches_tracked"] * 6])
    '6 num_batches_tracked, front.weight'
    """
    many = Counter(name.rpartition(".")[2] for name in names)
    few = [name for name in names if many[name.rpartition(".")[2]] <= MOST_NAMED]
    counts = [
        f"{count} {ending}" for ending, count in many.items() if count > MOST_NAMED
    ]
    return ", ".join(counts + few)
