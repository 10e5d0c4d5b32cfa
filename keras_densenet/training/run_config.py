"""What a run was made with, as `python -m keras_densenet fit --config` reads it."""

import datetime
import functools
import hashlib
import inspect
import os
import platform
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import yaml

from keras_densenet import callbacks
from keras_densenet.data import DataModule
from keras_densenet.training.flags import Flags
from keras_densenet.training.image_classifier import ImageClassifier
from keras_densenet.training.seed import last_seed
from keras_densenet.whole_file import whole_file

CONFIG = "config.yaml"  # in a run's folder
RUN = "# run "  # before the run's number, in its comments
MOST_NUMBERS = 1000  # of an array that is written out
_OF_THE_DATA = ("classes", "input_shape")  # arguments that the data tell a network


def write_config(
    path: Path,
    flags: Flags,
    module: ImageClassifier | keras.Model,
    data: DataModule,
    run: str,
) -> None:
    """Write `config.yaml`: the seed, the trainer, the network and the data.

    Args:
        path: Of the file.
        flags: What the user said.
        module: What is trained.
        data: What it is trained on.
        run: The run's number.
    """
    _write(path, [_versions(), RUN + run], _config(flags, module, data))


def renew_config(
    path: Path,
    flags: Flags,
    module: ImageClassifier | keras.Model,
    data: DataModule,
    when: str,
) -> list[str]:
    """Write to the `config.yaml` of a run that goes on what is other than before.

    What it was stands in the comments that the file begins with.

    Args:
        path: Of the file.
        flags: What the user said.
        module: What is trained.
        data: What it is trained on.
        when: How far the run has come, such as "epoch 2".

    Returns:
        What is other than before, such as "trainer.max_epochs was 2 and is 4".
    """
    text = path.read_text()
    before = yaml.safe_load(text) or {}
    now = _config(flags, module, data)
    now["seed_everything"] = before.get("seed_everything")  # all that is drawn goes on
    # Options that came later were not written; they had their defaults.
    defaults = _flat(_defaults(module, data))
    changes = list(_changes(defaults | _flat(before), defaults | _flat(now)))
    if changes:
        comments = [line for line in text.splitlines() if line.startswith("#")]
        _write(path, [*comments, *(f"# since {when}: {c}" for c in changes)], now)
    return changes


def run_in(folder: Path) -> str | None:
    """Return the number of the run that a folder is of; None where it does not say."""
    config = folder / CONFIG
    lines = config.read_text().splitlines() if config.is_file() else []
    return next((n.removeprefix(RUN) for n in lines if n.startswith(RUN)), None)


def _config(
    flags: Flags, module: ImageClassifier | keras.Model, data: DataModule
) -> dict[str, Any]:
    return {
        "seed_everything": last_seed(),
        "trainer": described_flags(flags),
        "model": described_module(module),
        "data": described(data),
    }


def _defaults(module: ImageClassifier | keras.Model, data: DataModule) -> dict:
    """Return the defaults of all options in the places that `_config` has them in."""
    of_model: dict[str, Any] = {}
    if isinstance(module, ImageClassifier):
        of_model = defaults_of(type(module)) | defaults_of(module.network)
    return {
        "model": {n: v for n, v in of_model.items() if n not in _OF_THE_DATA},
        "data": {"init_args": defaults_of(type(data))},
    }


def _write(path: Path, comments: Sequence[str], config: dict[str, Any]) -> None:
    with whole_file(path) as beside:
        text = yaml.safe_dump(config, sort_keys=False)
        beside.write_text("\n".join([*comments, text]))


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a tree of options as dotted names and values.

    >>> _flat({"trainer": {"max_epochs": 2}, "data": "mine"})
    {'trainer.max_epochs': 2, 'data': 'mine'}
    """
    flat: dict[str, Any] = {}
    for name, value in config.items():
        deeper = isinstance(value, Mapping)
        flat |= _flat(value, f"{prefix}{name}.") if deeper else {prefix + name: value}
    return flat


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Say in words what is other than before."""
    for name in [*before, *(name for name in now if name not in before)]:
        was, is_ = (
            _in_a_line(it[name]) if name in it else "its default"
            for it in (before, now)
        )
        if was != is_:
            yield f"{name} was {was} and is {is_}"


def _in_a_line(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")


def _versions() -> str:
    packages = ("keras-densenet", "tensorflow", "keras")
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    return f"# {versions}, Python {platform.python_version()}"


def described_flags(flags: Flags) -> dict[str, Any]:
    """Return the flags that are not the defaults, as YAML and JSON have them."""
    return _plain(flags.given())


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say in words what is other in one tree of options than it was in another.

    >>> differences({"trainer": {"max_epochs": 2}}, {"trainer": {"max_epochs": 4}})
    ['trainer.max_epochs was 2 and is 4']
    """
    return list(_changes(_flat(before), _flat(now)))


def described_module(module: ImageClassifier | keras.Model) -> dict[str, Any]:
    """Return a module's arguments and its network's, side by side."""
    if isinstance(module, keras.Model):
        return {"network": f"{module.name}, a {_path(type(module))} of your own"}
    options = {k: v for k, v in module.options.items() if k not in _OF_THE_DATA}
    arguments = {"network": module.network, **_arguments(module), **options}
    if type(module) is not ImageClassifier:
        arguments = {"class_path": type(module), **arguments}
    return _plain(arguments)


def described(thing: Any) -> dict[str, Any] | str:
    """Return class and arguments, as LightningCLI writes them."""
    if not hasattr(thing, "__dict__"):
        return repr(thing)
    return {"class_path": _path(type(thing)), "init_args": _plain(_arguments(thing))}


def _arguments(thing: Any) -> dict[str, Any]:
    """Return a thing's arguments, which by custom are attributes of the same names."""
    try:
        names = _names_of_arguments(type(thing))
    except ValueError:  # of a class that is not Python's own
        return {}
    attributes = vars(thing)
    # A private one is what was given where the public one is what came of it.
    return {
        name: attributes.get(f"_{name}", attributes.get(name))
        for name in names
        if f"_{name}" in attributes or name in attributes
    }


def defaults_of(thing: Callable[..., Any]) -> dict[str, Any]:
    """Return the defaults of a class's or a function's arguments, None for none."""
    try:
        parameters = inspect.signature(thing).parameters
    except ValueError:  # of one that is not Python's own
        return {}
    return {
        name: None
        if parameters[name].default is inspect.Parameter.empty
        else _plain(parameters[name].default)
        for name in _names_of_arguments(thing)
        if name in parameters
    }


def _names_of_arguments(thing: Callable[..., Any]) -> list[str]:
    """Name a class's arguments; where it passes others on, its parent's, too."""
    parameters = inspect.signature(thing).parameters.values()
    names = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
    parent = getattr(thing, "__base__", None)
    if len(names) < len(parameters) and parent not in (None, object):
        names += [n for n in _names_of_arguments(parent) if n not in names]
    return names


@functools.singledispatch
def _plain(value: Any) -> Any:
    """Turn a value into what YAML has."""
    return described(value)


@_plain.register(bool)
@_plain.register(float)
@_plain.register(str)
@_plain.register(type(None))
def _(value: Any) -> Any:
    return value


@_plain.register
def _(value: int) -> int:
    return int(value)  # an enumeration's, too


@_plain.register
def _(value: Mapping) -> dict:
    return {str(key): _plain(item) for key, item in value.items()}


@_plain.register(list)
@_plain.register(tuple)
def _(value: Any) -> list:
    return [_plain(item) for item in value]


@_plain.register
def _(value: np.generic) -> Any:
    return value.item()


@_plain.register
def _(value: np.ndarray) -> Any:
    if value.size <= MOST_NUMBERS:
        return value.tolist()
    digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    return f"{value.dtype} {value.shape}, sha256 {digest[:16]}"


@_plain.register
def _(value: os.PathLike) -> str:
    return os.fspath(value)


@_plain.register
def _(value: datetime.timedelta) -> dict:
    return {"seconds": value.total_seconds()}


@_plain.register
def _(value: tf.distribute.Strategy) -> str:
    return type(value).__name__


@_plain.register(type)
@_plain.register(types.FunctionType)
def _(value: Any) -> str:
    return _path(value)


def _path(thing: Any) -> str:
    """Return where a user imports a thing from: callbacks not from where they lie."""
    name = str(thing.__qualname__)
    for room in (callbacks, keras.callbacks):
        if getattr(room, name, None) is thing:
            return f"{room.__name__}.{name}"
    return f"{thing.__module__}.{name}"
