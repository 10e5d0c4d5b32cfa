"""The command line, as LightningCLI's.

    python -m keras_densenet fit --model.network DenseNetBC --model.depth 100
        --data CIFAR10 --data.batch_size 64 --trainer.max_epochs 300
    python -m keras_densenet fit --config runs/.../config.yaml --trainer.max_epochs 5
    python -m keras_densenet test --config runs/.../config.yaml --ckpt_path last
    python -m keras_densenet report --config runs/.../config.yaml --ckpt_path best
    python -m keras_densenet export --config ... --ckpt_path last --export_dir served/x

Options of the trainer are the `Flags` of `keras_densenet.training`; those of the model
are the network's and `ImageClassifier`'s; those of the data the data module's. A file
of options is YAML: `--print_config` prints one, and each run keeps its own.
"""

import argparse
import importlib
import inspect
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from keras_densenet.training.flags import Flags

if TYPE_CHECKING:
    import keras

    from keras_densenet.data import DataModule
    from keras_densenet.training import ImageClassifier, Trainer

STAGES = {
    "fit": "Train, and keep checkpoints.",
    "validate": "Give loss and metrics on the validation pictures.",
    "test": "Give loss and metrics on the test pictures.",
    "predict": "Write the class of each picture to predict.",
    "report": "Write a page about a run: curves, mistakes, feature reuse, costs.",
    "export": "Write a SavedModel for TensorFlow Serving.",
}
DATA = ("CIFAR10", "CIFAR100", "SVHN", "ImageNet", "ImageFolder", "Digits")
NETWORKS = "DenseNet, DenseNetBC, DenseNet121, ..., or the import path of your own"
RECIPE_SHORTCUTS = {  # what the recipes for small pictures have in common
    "--network": "--model.network",
    "--depth": "--model.depth",
    "--growth-rate": "--model.growth_rate",
    "--memory-efficient": "--model.memory_efficient",
    "--cosine": "--model.lr_schedule=cosine",
    "--scale-lr": "--model.scale_lr_from=64",
    "--batch-size": "--data.batch_size",
    "--data-dir": "--data.data_dir",
    "--manual-dir": "--data.manual_dir",
    "--max-epochs": "--trainer.max_epochs",
    "--strategy": "--trainer.strategy",
    "--precision": "--trainer.precision",
    "--fast-dev-run": "--trainer.fast_dev_run=true",
    "--export-dir": "--export_dir",
    "--resume": "--ckpt_path=last",
    "--seed": "--seed_everything",
}
# Within TensorFlow's errors:
BROKEN_PICTURE = re.compile("BrokenPictureError: (.+)")
DAMAGED_FILE = re.compile(
    "^.*(No such file|corrupted record|truncated record|contained only).*$", re.M
)
NOT_FINISHED = (130, 143)  # exit codes after Ctrl-C and SIGTERM


def add_nothing(parser: ArgumentParser) -> None:
    """Add no options."""


def add_export_dir(parser: ArgumentParser) -> None:
    """Add where to export to."""
    parser.add_argument(
        "--export_dir",
        required=True,
        help="as saved_models/cifar10; then its version. Of other formats the file",
    )
    parser.add_argument(
        "--format", choices=("savedmodel", "litert", "onnx"), default="savedmodel"
    )
    parser.add_argument(
        "--quantize", choices=("dynamic", "int8"), default=None, help="of litert"
    )


def add_optional_export_dir(parser: ArgumentParser) -> None:
    """Add where to export to, if at all."""
    parser.add_argument(
        "--export_dir", default=None, help="write a SavedModel for TF Serving there"
    )


def add_predictions(parser: ArgumentParser) -> None:
    """Add where to write what is predicted."""
    parser.add_argument(
        "--predictions", default="predictions.csv", help="a line a picture"
    )


def add_report_path(parser: ArgumentParser) -> None:
    """Add where to write the page."""
    parser.add_argument(
        "--path", default=None, help="of the page; else report.html in the run's folder"
    )


ADDED = {  # options of a stage
    "export": add_export_dir,
    "predict": add_predictions,
    "report": add_report_path,
}


def main(arguments: Sequence[str] | None = None) -> int | None:
    """Run one stage, as the command line says."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] not in STAGES:
        return _overview(arguments)
    stage, *rest = arguments
    options = parse(
        rest,
        STAGES[stage],
        prog=f"python -m keras_densenet {stage}",
        add=ADDED.get(stage, add_nothing),
    )
    with no_traceback(resume=("--ckpt_path", "last")):
        run(stage, options)
    return None


def _overview(arguments: list[str]) -> int | None:
    """Say which stages there are; an error where another was asked for."""
    lines = [__doc__ or "", "Stages:"]
    lines += [f"  {name:10}{what}" for name, what in STAGES.items()]
    lines.append("\n`python -m keras_densenet fit --help` lists the options.")
    if _asks_for_help(arguments):
        print("\n".join(lines))
        return None
    wrong = f"error: there is no stage {arguments[0]!r}\n\n" if arguments else ""
    print(wrong + "\n".join(lines), file=sys.stderr)
    return 2


def run(stage: str, options: "Options") -> None:
    """Do what a stage is for.

    Args:
        stage: One of `STAGES`.
        options: What the command line says.
    """
    options.seed()
    data, module, trainer = options.data(), options.module(), options.trainer()
    given = options.values
    if stage == "fit":
        trainer.fit(module, data, ckpt_path=given.ckpt_path)
    elif stage == "predict":
        _write_predictions(
            trainer.predict(module, data, given.ckpt_path), data, given.predictions
        )
    elif stage == "report":
        trainer.report(module, data, given.ckpt_path, given.path)
    elif stage == "export":
        trainer.export(
            module,
            given.export_dir,
            datamodule=data,
            ckpt_path=given.ckpt_path,
            format=given.format,
            quantize=given.quantize,
        )
    else:
        getattr(trainer, stage)(module, data, given.ckpt_path)


def _write_predictions(probabilities: Any, data: "DataModule", path: str) -> None:
    """Write a line a picture: its number, class and probability."""
    lines = ["picture,class,probability"]
    for number, row in enumerate(probabilities):
        best = int(row.argmax())
        lines.append(f"{number},{data.class_names[best]},{row[best]:.6f}")
    Path(path).write_text("\n".join(lines) + "\n")
    print(f"Wrote {path}")


class Options:
    """What a command line says, and the things that it describes.

    Args:
        values: What it read.
        network: That `--model.network` names.
        names_data: Whether data were named, and are not the default.

    Attributes:
        values: By name, such as `values.ckpt_path`.
        names_data: Whether data were named.
    """

    def __init__(
        self,
        values: Namespace,
        network: Callable,
        names_data: bool,
    ) -> None:
        self.values = values
        self.names_data = names_data
        self._network = network

    def seed(self) -> None:
        """Seed everything, if a seed is given."""
        from keras_densenet.training import seed_everything

        if self.values.seed_everything is not None:
            seed_everything(self.values.seed_everything)

    def data(self, **others: Any) -> "DataModule":
        """Make the data module; `others` win."""
        described = self.values.data.as_dict()
        described["init_args"] = (described.get("init_args") or {}) | others
        return _made(described)

    def data_or_digits(self) -> "DataModule":
        """Make and prepare the data module; digits where unnamed data cannot be had."""
        from keras_densenet.data import ImageFolder, prepared_or_digits

        data = self.data()
        if not self.names_data:
            return prepared_or_digits(data)  # type: ignore[arg-type]
        data.prepare_data()
        if isinstance(data, ImageFolder):
            data.refuse_empty("test")  # which comes after hours of training
        return data

    def module(self, **others: Any) -> "ImageClassifier":
        """Make the network with its training; `others` win."""
        from keras_densenet.training import ImageClassifier

        given = self.values.model.as_dict()
        del given["network"]
        path = given.pop("class_path")
        made = _imported(path) if path else ImageClassifier
        return made(self._network, **given | others)

    def trainer(self, **others: Any) -> "Trainer":
        """Make the trainer; `others` win."""
        from keras_densenet.training import Trainer

        flags = {field.name: self.values.trainer[field.name] for field in fields(Flags)}
        flags |= {
            "callbacks": _made(flags["callbacks"]),
            "logger": _made(flags["logger"]),
        }
        return Trainer(**flags | others)


def _made(value: Any) -> Any:
    """Make what class_path and init_args describe, also in a list."""
    if isinstance(value, list | tuple):  # of descriptions, or of names alone
        return [_made({"class_path": v} if isinstance(v, str) else v) for v in value]
    if isinstance(value, Mapping | Namespace):
        described = value.as_dict() if isinstance(value, Namespace) else dict(value)
        if "class_path" not in described:
            sys.exit(f"error: class_path and init_args are needed, not {described}")
        try:
            made = _imported(described["class_path"])
            return made(**described.get("init_args") or {})
        except TypeError as error:
            sys.exit(f"error: {described['class_path']}: {error}")
    return value


def parse(
    arguments: Sequence[str],
    description: str,
    *,
    prog: str | None = None,
    defaults: Mapping[str, Any] | None = None,
    shortcuts: Mapping[str, str] | None = None,
    add: Callable[[ArgumentParser], Any] = add_nothing,
) -> Options:
    """Read a command line; help is given before TensorFlow takes its seconds to load.

    Args:
        arguments: Of the command line.
        description: Above the help.
        prog: The program's name; None for the file's.
        defaults: By name, such as `{"model.depth": 100}`.
        shortcuts: Short names, such as `{"--depth": "--model.depth"}`.
        add: Adds options of one's own to the parser.

    Raises:
        SystemExit: After help, and after an error.
    """
    defaults, shortcuts = dict(defaults or {}), dict(shortcuts or {})
    written = _written_out(arguments, shortcuts)
    parser = _parser(description, prog, shortcuts)
    add(parser)
    if _asks_for_help(written):
        _add_names(parser)
        theirs = ("model.", "data.")  # who says what these are is not loaded
        shown = {k: v for k, v in defaults.items() if not k.startswith(theirs)}
        parser.set_defaults(shown)
        parser.parse_args(written)  # prints, and ends
    if any(argument.startswith("--data.help") for argument in written):
        defaults.setdefault("model.network", "DenseNetBC")  # any will do
    network = _network(written, defaults)
    class_path = _named(written, "class_path") or defaults.get("model.class_path")
    _add_arguments(parser, network, class_path)
    if "--model.help" in written:
        parser.print_help()
        parser.exit()
    parser.set_defaults(defaults)
    named = any(argument.startswith(("--data=", "--config=")) for argument in written)
    return Options(parser.parse_args(written), network, named)


def run_recipe(
    main: Callable[["Options"], Any],
    description: str | None,
    *,
    defaults: Mapping[str, Any],
    shortcuts: Mapping[str, str] = RECIPE_SHORTCUTS,
    add: Callable[[ArgumentParser], Any] = add_optional_export_dir,
) -> None:
    """Run a recipe as its command line says.

    It has all the options of `python -m keras_densenet fit`, and its short names. Help
    is given before TensorFlow takes its seconds to load: import the package in `main`.

    Args:
        main: What the recipe does.
        description: The recipe's docstring, above the help.
        defaults: By name, such as `{"model.depth": 100}`.
        shortcuts: Short names, such as `{"--depth": "--model.depth"}`.
        add: Adds options of the recipe's own to the parser.
    """
    options = parse(
        sys.argv[1:],
        description or "",
        defaults=defaults,
        shortcuts=shortcuts,
        add=add,
    )
    resume = ("--resume",) if "--resume" in shortcuts else ("--ckpt_path", "last")
    with no_traceback(resume=resume):
        main(options)


def _written_out(arguments: Sequence[str], shortcuts: Mapping[str, str]) -> list[str]:
    """Write short names out, and data by the names of their classes.

    A shortcut with a value, `--resume` for `--ckpt_path=last`, gives it where none is
    given. It may stand for several options. `--data auto` is the default.

    >>> _written_out(["--resume", "--data=cifar10"], {"--resume": "--ckpt_path=last"})
    ['--ckpt_path=last', '--data=CIFAR10']
    >>> _written_out(["--resume", "a.keras"], {"--resume": "--ckpt_path=last"})
    ['--ckpt_path=a.keras']
    >>> _written_out(["--plain"], {"--plain": "--data.augment=false --model.rate=0.2"})
    ['--model.rate=0.2', '--data.augment=false']
    """
    written, rest = [], list(arguments)
    while rest:
        short, _, value = rest.pop(0).partition("=")
        if not value and rest and not rest[0].startswith("--"):
            value = rest.pop(0)
        option, *more = shortcuts.get(short, short).split(" ")
        name, _, default = option.partition("=")
        if value and (more or default == "false"):
            sys.exit(f"error: {short} takes no value. Received: {value}")
        written += more
        value = value or default
        if name == "--data":
            value = {data.lower(): data for data in DATA}.get(value.lower(), value)
        if (name, value) != ("--data", "auto"):
            written.append(f"{name}={value}" if value else name)
    # What the data are is read before what their options are.
    return sorted(written, key=lambda argument: argument.startswith("--data."))


def _asks_for_help(arguments: Sequence[str]) -> bool:
    return bool({"-h", "--help"} & set(arguments))


class _Formatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Leaves the lines of a description as they are."""


def _parser(
    description: str, prog: str | None, shortcuts: Mapping[str, str]
) -> ArgumentParser:
    """Give what all command lines have, without Keras."""
    short = [f"  {name:20}{long}" for name, long in shortcuts.items()]
    if short:
        description = "\n".join([description.rstrip(), "", "short names:", *short])
    parser = ArgumentParser(
        prog=prog,
        usage="%(prog)s [options]",
        allow_abbrev=False,
        description=description,
        formatter_class=_Formatter,
    )
    parser.add_argument("--config", action="config", help="a YAML file of options")
    parser.add_argument("--seed_everything", type=int | None, default=None)
    parser.add_argument(
        "--ckpt_path", type=str | None, default=None, help="a path, last or best"
    )
    parser.add_class_arguments(Flags, "trainer", instantiate=False)
    return parser


def _add_names(parser: ArgumentParser) -> None:
    """Add what is said of network and data where Keras is not loaded."""
    parser.add_argument("--model.network", help=NETWORKS)
    parser.add_argument(
        "--model.help",
        help="show the options of --model.network, and ImageClassifier's",
    )
    parser.add_argument("--data", help=f"{', '.join(DATA)}, or your own's import path")
    parser.add_argument("--data.help", metavar="CLASS", help="show its options")


def _add_arguments(
    parser: ArgumentParser, network: Callable, class_path: str | None
) -> None:
    """Add the options of a network, of its training, and of the data."""
    from keras_densenet.data import DataModule
    from keras_densenet.training import ImageClassifier

    parser.add_argument("--model.network", help=NETWORKS)
    parser.add_argument(
        "--model.class_path", default=None, help="a subclass of ImageClassifier"
    )
    module = _imported(class_path) if class_path else ImageClassifier
    # Where both have an option, as FineTuning and DenseNet121 have weights, it is the
    # module's.
    skip: set[str | int] = {"classes", "input_shape"}
    skip |= {*inspect.signature(module).parameters}
    parser.add_function_arguments(network, "model", as_group=False, skip=skip)
    parser.add_class_arguments(
        module,
        "model",
        as_group=False,
        instantiate=False,
        skip={"network", "options"},
    )
    parser.add_subclass_arguments(DataModule, "data", required=True)


def _network(
    arguments: Sequence[str], defaults: Mapping[str, Any]
) -> "Callable[..., keras.Model]":
    """Find the network first: which options there are depends on it."""
    name = _named(arguments, "network") or defaults.get("model.network")
    if name is None:
        sys.exit(f"error: --model.network is needed: {NETWORKS}.")
    return _imported(name if "." in name else f"keras_densenet.{name}")


def _named(arguments: Sequence[str], option: str) -> str | None:
    """Give an option of the model from the command line, or else from its files."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument(f"--model.{option}", dest="value")
    first.add_argument("--config", action="append", default=[])
    known, _ = first.parse_known_args(arguments)
    value = known.value
    for file in reversed(known.config):
        value = value or _of_file(file).get(option)
    return value


def _of_file(file: str) -> dict[str, Any]:
    """Give the options of the model that a file has."""
    if not Path(file).is_file():
        sys.exit(f"error: --config {file}: there is no such file.")
    try:
        config = yaml.safe_load(Path(file).read_text()) or {}
        return dict(config.get("model") or {})
    except (yaml.YAMLError, AttributeError, ValueError, TypeError) as error:
        sys.exit(f"error: --config {file} is no YAML file of options: {error}")


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    module = module or "keras.callbacks"  # the short form, as EarlyStopping
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        sys.exit(f"error: there is no {path}: {error}")


@contextmanager
def no_traceback(resume: Sequence[str]) -> Iterator[None]:
    """Print an error of the user's as one line, and after Ctrl-C how to go on.

    Args:
        resume: What is added to the command line to go on.
    """
    try:
        yield
    except SystemExit as end:
        if end.code in NOT_FINISHED:
            print("To go on:", shlex.join(_resuming(sys.orig_argv[1:], resume)))
        raise
    except KeyboardInterrupt:  # before or after the training
        sys.exit(NOT_FINISHED[0])
    except Exception as error:
        message = _for_the_user(error)
        if message is None:
            raise
        sys.exit(f"error: {message}")


def _resuming(arguments: Sequence[str], resume: Sequence[str]) -> list[str]:
    """Give the command line that goes on, instead of one that begins elsewhere.

    >>> _resuming(["-m", "x", "--ckpt_path", "a.keras"], ["--ckpt_path", "last"])
    ['python', '-m', 'x', '--ckpt_path', 'last']
    """
    kept: list[str] = []
    rest = list(arguments)
    while rest:
        name = rest.pop(0)
        if name.partition("=")[0] not in ("--resume", "--ckpt_path"):
            kept.append(name)
        elif "=" not in name and rest and not rest[0].startswith("--"):
            rest.pop(0)  # its value
    return ["python", *kept, *resume]


def _for_the_user(error: Exception) -> str | None:
    """Give what to tell of an error of the user's; None if it is none."""
    import tensorflow as tf

    from keras_densenet.data import DataUnavailableError
    from keras_densenet.data.preparation import DAMAGED
    from keras_densenet.errors import NotANumberError, WorkerLostError

    if isinstance(error, tf.errors.OpError):
        broken = BROKEN_PICTURE.search(error.message)
        is_damage = broken or isinstance(error, DAMAGED)
        return _line_of(error.message, broken) if is_damage else None
    ours = DataUnavailableError, NotANumberError, WorkerLostError
    if isinstance(error, (ValueError, OSError, *ours)):
        return str(error)
    return None


def _line_of(message: str, broken: re.Match | None) -> str:
    """Give the line of TensorFlow's error that is for people."""
    if broken:
        return broken[1]
    said = DAMAGED_FILE.search(message)
    return (
        f"{said[0] if said else message}. A file of the data set is damaged, or gone "
        "since the training began."
    )
