"""The command line, as LightningCLI's.

    python -m keras_densenet fit --model.network DenseNetBC --model.depth 100
        --data CIFAR10 --data.batch_size 64 --trainer.max_epochs 300
    python -m keras_densenet fit --config runs/.../config.yaml --trainer.max_epochs 5
    python -m keras_densenet fit --config ... --trainer.callbacks+=EarlyStopping
        --trainer.callbacks.patience=3
    python -m keras_densenet test --config runs/.../config.yaml --ckpt_path last
    python -m keras_densenet report --config runs/.../config.yaml --ckpt_path best
    python -m keras_densenet predict --config runs/.../config.yaml --ckpt_path best
        --pictures photos/ another.jpg
    python -m keras_densenet export --config ... --ckpt_path last --export_dir served/x

Options of the trainer are the `Flags` of `keras_densenet.training`; those of the model
are the network's and `ImageClassifier`'s; those of the data the data module's. A file
of options is YAML: `--print_config` prints one, and each run keeps its own.
`python -m keras_densenet fit --help` lists the options of a stage.
"""

import argparse
import inspect
import json
import platform
import re
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn, Union

import yaml
from jsonargparse import (
    ArgumentParser,
    DefaultHelpFormatter,
    Namespace,
    get_loader,
    set_loader,
)

import keras_densenet as kd
from keras_densenet.command_line.class_paths import imported, moved
from keras_densenet.command_line.mistyped import explained, without_stage
from keras_densenet.command_line.stages import STAGES, Made
from keras_densenet.command_line.user_errors import one_line_errors
from keras_densenet.training.flags import Flags

TRIED = re.compile(
    "^(Does not validate|Subtypes:|Errors:|Given value)|NoneType|NestedArg|"
    "not correspond to a subclass|^Expected a path but"
)
ROOT = "trainer.default_root_dir"
DATA = (
    *("CIFAR10", "CIFAR100", "SVHN", "ImageNet", "Digits", "DigitMosaics"),
    "DigitVolumes",
    *("ImageFolder", "ImageTable", "MaskFolder", "DigitScenes"),
)
NETWORKS = "DenseNetBC, DenseNet121, FCDenseNet, ..., or the import path of your own"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one stage, as the command line says.

    Raises:
        SystemExit: After help, after an error of the user's, after Ctrl-C.
    """
    arguments = _data_last(sys.argv[1:] if arguments is None else arguments)
    arguments = _pictures_as_one(arguments)
    with one_line_errors(("--ckpt_path", "last")):
        parser = _parser(arguments)
        given = parser.parse_args(arguments or ["--help"])
        stage = given.stage
        if given[stage].seed_everything is not None:
            kd.seed_everything(given[stage].seed_everything)  # the data draw theirs
        try:
            given = parser.instantiate(given)[stage]
        except ValueError as error:  # of what is made, in jsonargparse's account
            raise ValueError(_in_one_line(str(error))) from error
        options = {name: given[name] for name in _parameters(STAGES[stage])[1:]}
        made = _made(given)
        if options.get("ckpt_path") in ("last", "best"):
            has_root = any(it.startswith(f"--{ROOT}") for it in arguments)
            path = _of_the_run(made, given.config, options["ckpt_path"], has_root)
            options["ckpt_path"] = path
        STAGES[stage](made, **options)


def _made(given: Namespace) -> Made:
    """Return trainer, module and data; jsonargparse has made data and callbacks."""
    options = given.model.as_dict()
    network, path = _network(options.pop("network")), options.pop("class_path")
    module = (imported(path) if path else kd.ImageClassifier)(network, **options)
    return Made(kd.Trainer(**vars(given.trainer)), module, given.data)


def _of_the_run(
    made: Made, configs: Sequence[Any] | None, ckpt_path: str, has_root: bool
) -> str | Path:
    """Return the checkpoint of the run that a config.yaml lies in, if one does.

    Args:
        made: What the command line describes; its trainer goes on where the run lies,
            unless `has_root` says that the user named another place.
        configs: Files of options.
        ckpt_path: "last" or "best".
        has_root: Whether the command line has the trainer's `default_root_dir`.
    """
    from keras_densenet.command_line.run_of_config import checkpoint_for, run_of_config

    run = run_of_config(configs)
    if run is None:
        return ckpt_path
    if not has_root:
        made.trainer.runs = run.parent  # wherever it was moved to
    return checkpoint_for(made, run, ckpt_path)


# --- the options -----------------------------------------------------------------


class _Parser(ArgumentParser):
    """Says what is wrong in one line.

    Attributes:
        typed: The command line; of the class, as jsonargparse makes some of its own.
    """

    typed: Sequence[str] = ()

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        said, stage = _in_one_line(message), next(iter(self.typed), "")
        if stage in STAGES:
            said = explained(said, stage, _known_options(stage, self.typed), DATA)
        else:
            said = without_stage(stage.partition("=")[0], [*STAGES])
        self.exit(2, f"error: {said}\n")


def _known_options(stage: str, arguments: Sequence[str]) -> list[str]:
    """Name the options of a stage, and of the network and the data that are given."""
    network, path = _named("network", arguments), _named("class_path", arguments)
    module = imported(path) if path else kd.ImageClassifier
    given = [it.removeprefix("--data=") for it in arguments if it.startswith("--data=")]
    data = getattr(kd.data, given[-1], None) if given else None
    names = {
        "--": ["config", "seed_everything", "data", *_parameters(STAGES[stage])[1:]],
        "--trainer.": _parameters(Flags),
        "--model.": [
            *("network", "class_path", *_parameters(module)),
            *(_parameters(_network(network)) if network else ()),
        ],
        "--data.": _parameters(data) if data else [],
    }
    return [prefix + name for prefix, these in names.items() for name in these]


def _in_one_line(message: str) -> str:
    r"""Leave out of an account of jsonargparse's which types it has tried.

    >>> _in_one_line("Key x:\n  Subtypes: [int]\n  - Expected a <class 'int'>")
    "Key x: Expected a <class 'int'>"
    """
    lines = dict.fromkeys(line.strip(" -") for line in message.splitlines())
    return " ".join(line for line in lines if not TRIED.search(line))


class _Formatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Leaves the lines of a description as they are."""


def _parser(arguments: Sequence[str]) -> ArgumentParser:
    """Return the parser, with the options of the stage that is asked for."""
    _Parser.typed = arguments
    parser = _Parser(
        prog="python -m keras_densenet",
        description=__doc__,
        formatter_class=_Formatter,
        allow_abbrev=False,
        parser_mode="moved",
    )
    parser.add_argument(
        "--version", action="version", version=_versions(), help="Show versions."
    )
    stages = parser.add_subcommands(dest="stage", title="stages", metavar="STAGE")
    for name, stage in STAGES.items():
        asked = name == next(iter(arguments), None)
        options = _options(stage, arguments) if asked else _Parser()
        what, _, _ = (stage.__doc__ or "").partition("\n")
        stages.add_subcommand(name, options, help=what)
    return parser


def _versions() -> str:
    """Return one line: the versions of this package, Keras, TensorFlow and Python.

    They are those of the installed distributions: nothing is imported to learn them.
    """
    found = []
    for name, distribution in (("Keras", "keras"), ("TensorFlow", "tensorflow")):
        try:
            found.append(f"{name} {version(distribution)}")
        except PackageNotFoundError:  # of TensorFlow on another of Keras's backends
            found.append(f"no {name}")
    with_python = ", ".join([*found, f"Python {platform.python_version()}"])
    return f"keras_densenet {kd.__version__} ({with_python})"


def _options(stage: Callable, arguments: Sequence[str]) -> ArgumentParser:
    """Return the parser of a stage.

    Help is given without Keras, which takes seconds to load: what the options of
    network and data are it says when it is asked for these.
    """
    parser = _Parser(
        usage="%(prog)s [options]",
        allow_abbrev=False,
        formatter_class=_Formatter,
        parser_mode="moved",
    )
    parser.add_argument("--config", action="config", help="a YAML file of options")
    parser.add_argument("--seed_everything", type=int | None, default=None)
    parser.add_function_arguments(stage, as_group=False, skip={"made"})
    parser.add_argument("--model.network", help=NETWORKS)
    parser.add_argument(
        "--model.class_path", help="the import path of an ImageClassifier of your own"
    )
    quick = {"-h", "--help"} & set(arguments)
    (_add_names if quick else _add_classes)(parser, arguments)
    return parser


def _add_names(parser: ArgumentParser, arguments: Sequence[str]) -> None:
    """Add the trainer's options, and what is to be said of network and data."""
    parser.add_argument(
        "--model.help",
        help="show the options of --model.network, and ImageClassifier's",
    )
    parser.add_argument("--data", help=f"{', '.join(DATA)}, or your own's import path")
    parser.add_argument("--data.help", metavar="CLASS", help="show its options")
    parser.add_class_arguments(Flags, "trainer", instantiate=False)


def _add_classes(parser: ArgumentParser, arguments: Sequence[str]) -> None:
    """Add the options of the data, of the network, of its training, of the trainer."""
    from keras.callbacks import Callback

    parser.add_subclass_arguments(kd.data.DataModule, "data", required=True)
    # jsonargparse cannot let options depend on the value of one beside them: the
    # network is looked for before, and its options are added by name.
    asks_for_data = any(it.startswith("--data.help") for it in arguments)
    network = _named("network", arguments) or ("DenseNetBC" if asks_for_data else None)
    path = _named("class_path", arguments)
    module = imported(path) if path else kd.ImageClassifier
    # Where both have an option, as FineTuning and DenseNet121 have weights, it is the
    # module's.
    skip: set[str | int] = {"classes", "input_shape", *_parameters(module)}
    parser.add_function_arguments(_network(network), "model", as_group=False, skip=skip)
    skip = {"network", "options"}
    parser.add_class_arguments(
        module, "model", as_group=False, instantiate=False, skip=skip
    )
    # By a short name, as ModelCheckpoint, ours are found before Keras's.
    ours = (
        kd.callbacks.CSVLogger,
        kd.callbacks.ModelCheckpoint,
        kd.callbacks.TensorBoard,
    )
    one: Any = Union[(*ours, Callback)]
    for option, kind, default in (
        ("--trainer.callbacks", list[one] | None, None),
        ("--trainer.logger", bool | one | list[one], True),
    ):
        action = parser.add_argument(option, type=kind, default=default)
        # Keras's callbacks have arguments without types.
        action.sub_add_kwargs = {"fail_untyped": False}
    parser.add_class_arguments(
        Flags, "trainer", instantiate=False, skip={"callbacks", "logger"}
    )
    if "--model.help" in arguments:
        parser.print_help()
        parser.exit()


def _parameters(thing: Callable) -> list[str]:
    return list(inspect.signature(thing).parameters)


def _data_last(arguments: Sequence[str]) -> list[str]:
    """Let options of the data come last: jsonargparse must know before what they are.

    Names of our own data may be written in any case.

    >>> _data_last(["fit", "--data.batch_size", "8", "--data=digits", "--x"])
    ['fit', '--data=Digits', '--x', '--data.batch_size=8']
    """
    names = {name.lower(): name for name in DATA}
    others: list[str] = []
    options: list[str] = []
    rest = list(arguments)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        of_data = name.startswith("--data.")
        has_value = rest and not rest[0].startswith("--")
        if (of_data or name == "--data") and not equals and has_value:
            equals, value = "=", rest.pop(0)
        if name == "--data":
            value = names.get(value.lower(), value)
        (options if of_data else others).append(name + equals + value)
    return others + options


def _pictures_as_one(arguments: Sequence[str]) -> list[str]:
    """Write the files after --pictures as one list, as jsonargparse takes it.

    >>> _pictures_as_one(["predict", "--pictures", "a.jpg", "b.jpg", "--x"])
    ['predict', '--pictures=["a.jpg", "b.jpg"]', '--x']
    """
    others: list[str] = []
    pictures: list[str] = []
    is_asked = False  # of none, too, which is refused
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, _, value = argument.partition("=")
        if name != "--pictures":
            others.append(argument)
            continue
        is_asked = True
        pictures += [value] if value else []
        while rest and not rest[0].startswith("--"):
            pictures.append(rest.pop(0))
    at = next((n for n, it in enumerate(others) if it.startswith("--")), len(others))
    asked = [f"--pictures={json.dumps(pictures)}"] if pictures or is_asked else []
    return others[:at] + asked + others[at:]


# --- what is named ---------------------------------------------------------------


def _named(option: str, arguments: Sequence[str]) -> str | None:
    """Return an option of the model from the command line, or else from its files."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument(f"--model.{option}", dest="value")
    first.add_argument("--config", action="append", default=[])
    known, _ = first.parse_known_args(arguments)
    value = known.value
    for file in reversed(known.config):
        value = value or _of_file(file).get(option)
    return value


def _of_file(file: str) -> dict[str, Any]:
    """Return the options of the model that a file has."""
    if Path(file).is_dir():
        sys.exit(f"error: --config {file} is a folder: give the config.yaml in it.")
    if not Path(file).is_file():
        sys.exit(f"error: --config {file}: there is no such file.")
    try:
        config = yaml.safe_load(Path(file).read_text()) or {}
    except (yaml.YAMLError, ValueError) as error:
        said = " ".join(str(error).split())
        sys.exit(f"error: --config {file} is no YAML file of options: {said}")
    model = (config.get("model") or {}) if isinstance(config, dict) else None
    if not isinstance(model, dict):
        sys.exit(
            f"error: --config {file} is no YAML file of options: they are under "
            "model:, data: and trainer:, as --print_config prints them."
        )
    return model


def _network(name: str | None) -> Callable:
    """Return the function that makes a network."""
    if name is None:
        sys.exit(f"error: --model.network is needed: {NETWORKS}.")
    return imported(name if "." in name else f"keras_densenet.{name}")


set_loader("moved", lambda text: moved(get_loader("yaml")(text)), (yaml.YAMLError,))
