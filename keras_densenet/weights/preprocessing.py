"""How the pictures were standardized that some weights were trained with."""

import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras

from keras_densenet.checkpoint_file import read_preprocessing
from keras_densenet.weights.channels import STEM
from keras_densenet.weights.errors import WeightsError
from keras_densenet.weights.sources import (
    IMAGENET,
    XRAYS,
    Network,
    Source,
    checked_path,
    network_of,
)

OF_AN_EXPORT = Path("assets.extra") / "export.json"
IMAGENET_STEM = "features.norm0.weight"  # networks for small pictures lack it


class Preprocessing(NamedTuple):
    """The numbers that pictures are standardized with: `(raw - mean) / std`.

    Attributes:
        mean: The mean of each channel, in 0..255.
        std: The standard deviation of each channel, in 0..255.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


class GuessedPreprocessing(Preprocessing):
    """The same where the source does not say it: what such weights mostly need.

    Your own numbers take its place without an error.
    """

    __slots__ = ()


# 255 times (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225)
TORCH = Preprocessing((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
# torchxrayvision scales pictures to -1024..1024.
OF_XRAYS = Preprocessing((127.5,), (127.5 / 1024,))


class Answer(NamedTuple):
    """What is known or guessed of a source's preprocessing, and why."""

    numbers: Preprocessing | None
    reason: str


def preprocessing(
    source: Source, *, channels: int | None = None
) -> Preprocessing | None:
    """Return how the pictures were standardized that weights were trained with.

    A network answers nonsense to pictures that are standardized otherwise. Pass the
    result to the data: `ImageFolder(root, **preprocessing(source)._asdict())`.

    Args:
        source: The weights, as `load` takes them; also a version's folder that
            `Trainer.export` wrote.
        channels: Of your pictures; None for those of the source. Where they differ,
            the numbers are those of the source's channels, and their mean for one
            channel or for those that come after: a guess.

    Returns:
        Numbers that the source says, or that its library uses for all its networks: of
        "imagenet", of a checkpoint or an export of `keras_densenet.Trainer`, of
        torchxrayvision. A `GuessedPreprocessing` with Torch's numbers for other
        networks that have the stem for ImageNet's pictures and three channels. None
        for all others.

    Raises:
        WeightsError: The file cannot be read.
        FileNotFoundError: There is no such file.
    """
    known = answer_of(source).numbers
    if known is None or channels in (None, len(known.mean)):
        return known
    return GuessedPreprocessing(*(_for_channels(values, channels) for values in known))


def answer_of(source: Source, network: Network | None = None) -> Answer:
    """Return the preprocessing of a source, and how it is known.

    Args:
        source: The weights, or the folder of an export.
        network: What `network_of` returned for it, if it was read before.
    """
    if not isinstance(source, keras.Model | Mapping):
        said = _said_by(source)
        if said:
            return said
    network = network or network_of(source)
    kernel = network.arrays.get(STEM)
    channels = kernel.shape[2] if kernel is not None and kernel.ndim == 4 else 0
    if network.library == XRAYS and channels:
        numbers = (_for_channels(values, channels) for values in OF_XRAYS)
        return Answer(Preprocessing(*numbers), "torchxrayvision scales to -1024..1024")
    if IMAGENET_STEM in network.arrays and channels == 3:
        return Answer(
            GuessedPreprocessing(*TORCH),
            "a guess: the file does not say, and most such networks read ImageNet's",
        )
    return Answer(None, "not known: the file does not say")


def _said_by(source: Any) -> Answer | None:
    """Return what a name, a checkpoint or an export says itself, if it does."""
    if source == IMAGENET:
        return Answer(TORCH, "keras.applications trained them so")
    if (Path(source) / OF_AN_EXPORT).is_file():
        return Answer(_of_export(Path(source) / OF_AN_EXPORT), "the export says it")
    path, kind = checked_path(source)
    try:
        known = read_preprocessing(path) if kind == "keras" else None
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise WeightsError(
            f"{path} is damaged and cannot be read ({error}). Copy or download it anew."
        ) from error
    if not known:
        return None
    numbers = Preprocessing(tuple(known["mean"]), tuple(known["std"]))
    return Answer(numbers, "the checkpoint says it")


def _of_export(path: Path) -> Preprocessing:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))["preprocessing"]
        return Preprocessing(tuple(known["mean"]), tuple(known["std"]))
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{path} is damaged and cannot be read ({error!r}). Export anew."
        ) from error


def _for_channels(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Return a number for each of other channels.

    >>> _for_channels((1.0, 2.0, 6.0), 1), _for_channels((1.0, 2.0, 6.0), 4)
    ((3.0,), (1.0, 2.0, 6.0, 3.0))
    """
    mean = sum(values) / len(values)
    kept = values if channels > len(values) else ()
    return kept + (mean,) * (channels - len(kept))
