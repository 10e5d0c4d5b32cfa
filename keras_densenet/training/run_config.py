"""What a run was made with, as `python -m keras_densenet fit --config` reads it."""

import datetime
import inspect
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import yaml

from keras_densenet.data import DataModule
from keras_densenet.training.flags import Flags
from keras_densenet.training.image_classifier import ImageClassifier
from keras_densenet.training.seed import last_seed

if TYPE_CHECKING:
    from keras_densenet.training.trainer import Trainer


def given_flags(trainer: "Trainer") -> dict[str, Any]:
    """Give a trainer's arguments that are not the defaults, before it changes any."""
    given = {field.name: getattr(trainer, field.name) for field in fields(Flags)}
    defaults = {field.name: field.default for field in fields(Flags)}
    return {name: value for name, value in given.items() if value != defaults[name]}


def write_config(
    path: Path,
    flags: dict[str, Any],
    module: ImageClassifier | keras.Model,
    data: DataModule,
) -> None:
    """Write `config.yaml`: the seed, the trainer, the network and the data.

    Args:
        path: Of the file.
        flags: What `given_flags` gave.
        module: What is trained.
        data: What it is trained on.
    """
    config = {
        "seed_everything": last_seed(),
        "trainer": _plain(flags),
        "model": _model(module),
        "data": _described(data),
    }
    path.write_text(f"{_versions()}\n{yaml.safe_dump(config, sort_keys=False)}")


def _versions() -> str:
    packages = ("keras-densenet", "tensorflow", "keras")
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    return f"# {versions}, Python {platform.python_version()}"


def _model(module: ImageClassifier | keras.Model) -> dict[str, Any]:
    """Give a module's arguments and its network's, side by side."""
    if isinstance(module, keras.Model):
        return {"network": f"{module.name}, a {_path(type(module))} of your own"}
    arguments = {"network": module.network, **_arguments(module), **module.options}
    if type(module) is not ImageClassifier:
        arguments = {"class_path": type(module), **arguments}
    return _plain(arguments)


def _described(thing: Any) -> dict[str, Any]:
    """Give class and arguments, as LightningCLI writes them."""
    return {"class_path": _path(type(thing)), "init_args": _plain(_arguments(thing))}


def _arguments(thing: Any) -> dict[str, Any]:
    """Give a thing's arguments, which by custom are attributes of the same names."""
    parameters = inspect.signature(type(thing)).parameters.values()
    names = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
    return {name: vars(thing)[name] for name in names if name in vars(thing)}


def _plain(value: Any) -> Any:
    """Turn a value into what YAML has."""
    if isinstance(value, bool | float | str | type(None)):
        return value
    if isinstance(value, int):
        return int(value)  # an enumeration's, too
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, datetime.timedelta):
        return {"seconds": value.total_seconds()}
    if inspect.isclass(value) or inspect.isfunction(value):
        return _path(value)
    return _described(value)


def _path(thing: Any) -> str:
    """Give where to import a thing from: Keras's callbacks not from where they lie."""
    name = str(thing.__qualname__)
    is_kerass = getattr(keras.callbacks, name, None) is thing
    return f"{'keras.callbacks' if is_kerass else thing.__module__}.{name}"
