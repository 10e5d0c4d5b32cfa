"""`python -m keras_densenet`, as a user types it."""

import csv
import dataclasses
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from PIL import Image

import keras_densenet as kd
from keras_densenet.command_line import cli as command_line
from keras_densenet.command_line.user_errors import one_line_errors
from keras_densenet.training.flags import Flags

DIGITS = ["--data", "Digits", "--data.batch_size", "250"]
SMALL = [
    *("--model.network", "DenseNetBC", "--model.depth", "10"),
    *("--model.growth_rate", "4", *DIGITS),
]


OLD_RUN = Path(__file__).parents[1] / "helpers" / "old_run"


def python(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize("arguments", [[], ["--help"], ["fit", "--help"]])
def test_help_is_given_without_keras(arguments, tmp_path):
    for name in ("tensorflow", "keras"):  # importing them fails here
        (tmp_path / f"{name}.py").write_text("raise ImportError('too early')")
    answer = python(
        "-m", "keras_densenet", *arguments, cwd=tmp_path, PYTHONPATH=_path(tmp_path)
    )
    assert answer.returncode == 0, answer.stderr
    assert "fit" in answer.stdout
    if "fit" in arguments:
        for field in dataclasses.fields(Flags):
            assert f"--trainer.{field.name}" in answer.stdout


def test_versions_are_printed_without_keras(tmp_path):
    for name in ("tensorflow", "keras"):  # importing them fails here
        (tmp_path / f"{name}.py").write_text("raise ImportError('too early')")
    answer = python(
        "-m", "keras_densenet", "--version", cwd=tmp_path, PYTHONPATH=_path(tmp_path)
    )
    assert answer.returncode == 0, answer.stderr
    python_version = ".".join(map(str, sys.version_info[:3]))
    assert answer.stdout == (
        f"keras_densenet {kd.__version__} (Keras {keras.__version__}, "
        f"TensorFlow {tf.__version__}, Python {python_version})\n"
    )


def test_without_tensorflow_versions_say_so(monkeypatch, capsys):
    def version(name):
        if name == "tensorflow":
            raise PackageNotFoundError(name)
        return "3.0"

    monkeypatch.setattr(command_line, "version", version)
    with pytest.raises(SystemExit) as end:
        command_line.main(["--version"])
    assert end.value.code == 0
    assert "(Keras 3.0, no TensorFlow, Python 3." in capsys.readouterr().out


def test_a_broken_picture_is_named_without_traceback(tmp_path):
    broken = tmp_path / "cat" / "0.png"
    broken.parent.mkdir()
    broken.write_bytes(b"no picture")
    data = kd.data.ImageFolder(tmp_path, 1, validation_fraction=0, check_files=False)
    data.setup("fit")
    with pytest.raises(SystemExit) as end, one_line_errors(resume=()):
        next(iter(data.train_dataset()))
    assert str(end.value).startswith(f"error: {broken} cannot be read: it is no")
    assert "\n" not in str(end.value)


def test_a_picture_that_is_gone_is_named_in_one_line(tmp_path):
    from PIL import Image

    (tmp_path / "cat").mkdir()
    gone = tmp_path / "cat" / "0.jpg"
    Image.new("RGB", (9, 9)).save(gone)
    data = kd.data.ImageFolder(tmp_path, 1, validation_fraction=0)
    data.setup("fit")
    gone.unlink()
    with pytest.raises(SystemExit) as end, one_line_errors(resume=()):
        next(iter(data.train_dataset()))
    said = str(end.value)
    assert said.startswith("error: ")
    assert f"{gone}; No such file" in said
    assert said.endswith("damaged, or gone since the training began.")
    assert "\n" not in said


def test_what_is_no_error_of_the_users_keeps_its_traceback():
    with pytest.raises(KeyError), one_line_errors(resume=()):
        raise KeyError("ours")


def _path(first):
    return os.pathsep.join([str(first), os.environ.get("PYTHONPATH", "")])


def test_masks_are_predicted_as_pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in range(8):
        mask = np.zeros((16, 16), np.uint8)
        mask[number : number + 8] = 1
        Image.fromarray(mask).save(f"masks/{number}.png")
        Image.fromarray(mask * 200).convert("RGB").save(f"images/{number}.png")
    command_line.main(
        [
            *("fit", "--model.network", "FCDenseNet", "--model.blocks", "[1, 1, 1]"),
            *("--model.growth_rate", "4", "--data", "MaskFolder", "--data.root", "."),
            *("--data.classes", "[ground, band]", "--data.image_size", "16"),
            *("--data.batch_size", "2", "--trainer.max_epochs", "1"),
        ]
    )
    (config,) = tmp_path.glob("runs/*/version_0/config.yaml")
    again = ["predict", "--config", str(config), "--ckpt_path", "last"]
    new = ["--pictures", "images/1.png", "images/3.png", "--predictions", "found.csv"]
    command_line.main([*again, *new])
    found = sorted((tmp_path / "found").iterdir())
    assert [path.name for path in found] == ["00000-1.png", "00001-3.png"]
    with Image.open(found[0]) as image:
        assert image.size == (16, 16)
        assert set(np.unique(image)) <= {0, 1}


@pytest.mark.slow
def test_a_run_from_the_command_line_and_from_its_config(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    stopping = (
        '[{"class_path": "keras.callbacks.EarlyStopping",'
        ' "init_args": {"monitor": "val_loss", "patience": 9}}]'
    )
    command_line.main(
        [
            *("fit", "--model.network", "linear_network.linear", *DIGITS),
            *("--seed_everything", "3", "--trainer.max_epochs", "1"),
            *("--trainer.callbacks", stopping),
        ]
    )
    (config,) = tmp_path.glob("runs/digits-linear/version_0/config.yaml")
    written = yaml.safe_load(config.read_text())
    assert written["trainer"]["callbacks"][0]["class_path"] == (
        "keras.callbacks.EarlyStopping"
    )
    assert written["trainer"]["callbacks"][0]["init_args"]["patience"] == 9
    # Goes on by its own file, with one option changed; and each other stage reads it.
    again = ["--config", str(config), "--ckpt_path", "last"]
    command_line.main(["fit", *again, "--trainer.max_epochs", "2"])
    command_line.main(["validate", *again])
    command_line.main(["test", *again])
    command_line.main(["predict", *again, "--predictions", "p.csv"])
    for number in range(2):
        Image.new("RGB", (40, 50)).save(f"{number}.png")
    new = ["--pictures", "0.png", "1.png", "--predictions", "new.csv"]
    command_line.main(["predict", *again, *new])
    flip = ["--views", "flip", "--data.mirror", "true", "--predictions", "flip.csv"]
    command_line.main(["predict", *again, *flip])
    command_line.main(["export", *again, "--export_dir", "served/digits"])
    out = capfd.readouterr().out
    assert "Resuming after epoch 1" in out
    assert "Epoch   2/2" in out
    lines = (tmp_path / "p.csv").read_text().splitlines()
    assert lines[0] == "picture,class,probability"
    assert len(lines) == 361
    assert lines[1].split(",")[1] in kd.data.Digits.class_names
    flipped = (tmp_path / "flip.csv").read_text().splitlines()
    assert len(flipped) == 361
    assert flipped != lines
    header, *rows = csv.reader((tmp_path / "new.csv").read_text().splitlines())
    assert (header[3], header[-1]) == ("file", "probability_5")
    assert [row[3] for row in rows] == ["0.png", "1.png"]
    assert (tmp_path / "served" / "digits" / "1" / "saved_model.pb").is_file()


def test_print_config(capsys):
    with pytest.raises(SystemExit) as end:
        command_line.main(["fit", *SMALL, "--print_config"])
    assert end.value.code == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["model"]["depth"] == 10
    assert config["trainer"]["precision"] == "32-true"
    assert config["data"]["init_args"]["batch_size"] == 250


def test_own_blocks_are_said(capsys):
    blocks = ["--model.blocks", "[6, 12]", "--model.bn_size", "2"]
    arguments = [*SMALL[:2], *blocks, "--model.stem", "imagenet", "--data", "Digits"]
    model = config(capsys, *arguments)["model"]
    expected = {"depth": None, "blocks": [6, 12], "bn_size": 2, "stem": "imagenet"}
    assert given(model, **expected) == expected


def test_the_networks_options_are_shown(capsys):
    with pytest.raises(SystemExit):
        command_line.main(["fit", "--model.network", "DenseNetBC", "--model.help"])
    shown = capsys.readouterr().out
    assert "--model.growth_rate" in shown
    assert "--model.weight_decay" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "--data", "Digits"], "--model.network is needed"),
        (["fit", "--model.network", "DenseNet122"], "there is no"),
        (["fit", "--model.network", "no.such.network"], "there is no"),
        (["fit", "--config", "none.yaml"], "no such file"),
        (["fit", *SMALL, "--model.depht", "4"], "--model.depht"),
        (["fit", *SMALL, "--trainer.max_epoch", "1"], "mean --trainer.max_epochs?"),
        (["fit", *SMALL, "--max_epochs", "1"], "mean --trainer.max_epochs?"),
        (["fit", *SMALL, "--trainer.gpus", "1"], "mean accelerator='gpu'"),
        (["fit", *SMALL, "--nonsense", "1"], "`fit --help` lists"),
        (["fit", "--model.network", "DenseNetCB"], "mean DenseNetBC?"),
        (["fit", *SMALL[:-2], "--data", "Cifar"], "mean CIFAR10?"),
        (["fit", "--model.network", "DenseNetBC"], "--data is needed: CIFAR10"),
        (["fit", *SMALL, "--data=ImageFolder"], "required: --data.root"),
        (["fit", *SMALL, "--trainer.callbacks+=EarlyStoping"], "mean EarlyStopping?"),
        (["fit", "--config", "."], "is a folder"),
        (["fit", *SMALL, "--trainer.callbacks", "[NoSuch]"], "NoSuch"),
        (["fit", *SMALL, "--trainer.callbacks+=NoSuch"], "NoSuch"),
        (
            ["fit", *SMALL, "--trainer.callbacks+=Timer", "--trainer.callbacks.x=1"],
            "Option 'x' is not accepted",
        ),
        (["fit", *SMALL, "--data", "NoSuch"], "NoSuch"),
        (["fit", *SMALL, "--data.batch_sise", "3"], "mean --data.batch_size?"),
        (["fit", *SMALL, "--trainer.max_epochs", "many"], "max_epochs"),
        (["fit", *SMALL, "--model.depth", "11", "--trainer.max_epochs", "1"], "10 or"),
        (["export", *SMALL], "required: --export_dir"),
        (["predict", *SMALL, "--pictures"], "no pictures to predict: name"),
        (["predict", *SMALL, "--views", "3"], "['flip', 10]"),
        (["fit", *SMALL, "--trainer.max_epochs", "1", "--ckpt_path", "x.keras"], "x.k"),
    ],
)
def test_a_mistake_is_an_error_of_a_line(
    arguments, words, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        command_line.main(arguments)
    assert end.value.code not in (0, None)
    said = capsys.readouterr().err or str(end.value.code)
    assert words in said
    assert said.startswith("error: ")
    assert said.strip().count("\n") == 0


@pytest.mark.parametrize("text", ["- a", "model: 3", "{", "text"])
def test_a_file_that_is_no_config_is_named(text, tmp_path):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(SystemExit, match=r"bad\.yaml"):
        command_line.main(["fit", "--config", str(tmp_path / "bad.yaml")])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train"], "There is no stage 'train'. Did you mean fit?"),
        (["predcit", *SMALL], "There is no stage 'predcit'. Did you mean predict?"),
        (["walk"], "There is no stage 'walk'. Stages"),
        (
            ["--trainer.max_epochs", "3", "fit"],
            "A stage comes first, before options such as --trainer.max_epochs. Stages",
        ),
        (["--data=digits"], "A stage comes first, before options such as --data. St"),
        (
            ["--verson"],
            "A stage comes first, before options such as --verson. Did you mean --vers",
        ),
    ],
)
def test_a_stage_that_is_not_there(arguments, words, capsys):
    with pytest.raises(SystemExit) as end:
        command_line.main(arguments)
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {words}")
    assert "Stages are fit, validate, test, calibrate, predict, report, export;" in said
    assert said.count("\n") == 1


def config(capsys, *arguments):
    """Return what --print_config prints."""
    with pytest.raises(SystemExit) as end:
        command_line.main(["fit", *arguments, "--print_config"])
    assert end.value.code == 0
    return yaml.safe_load(capsys.readouterr().out)


def given(found, **expected):
    """Return what was found of what is expected."""
    return {name: found[name] for name in expected}


def test_a_file_of_an_older_version_is_read(capsys):
    """Its classes have moved since: old_run/config.yaml is what this version reads."""
    file = OLD_RUN / "config.yaml"
    old, now = yaml.safe_load(file.read_text()), config(capsys, "--config", str(file))
    assert now["seed_everything"] == 1
    assert given(now["model"], **old["model"]) == old["model"]
    assert now["data"]["class_path"] == "keras_densenet.data.Digits"
    assert given(now["data"]["init_args"], **old["data"]["init_args"]) == {
        "batch_size": 250,
        "augment": True,
        "seed": 577090037,
    }
    callbacks = now["trainer"].pop("callbacks")
    assert [callback["class_path"] for callback in callbacks] == [
        "keras_densenet.callbacks.ModelCheckpoint",
        "keras.callbacks.EarlyStopping",
        "keras.callbacks.SwapEMAWeights",
        "averaged_training.Counting",
    ]
    for callback, before in zip(
        callbacks, old["trainer"].pop("callbacks"), strict=True
    ):
        expected = before["init_args"]
        assert given(callback["init_args"], **expected) == expected
    assert given(now["trainer"], **old["trainer"]) == old["trainer"]


def test_callbacks_are_added_one_by_one(capsys):
    first = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.patience=3"]
    second = [
        "--trainer.callbacks+=ModelCheckpoint",  # ours, not Keras's
        "--trainer.callbacks.save_top_k=2",
    ]
    stopping, checkpoint = config(capsys, *SMALL, *first, *second)["trainer"][
        "callbacks"
    ]
    assert stopping["class_path"].startswith("keras.")
    assert stopping["class_path"].endswith("callbacks.EarlyStopping")
    assert stopping["init_args"]["patience"] == 3
    assert stopping["init_args"]["monitor"] == "val_loss"  # Keras's default
    assert checkpoint["class_path"] == "keras_densenet.callbacks.ModelCheckpoint"
    assert checkpoint["init_args"]["save_top_k"] == 2


def test_the_trainer_gets_the_callbacks_that_are_described(monkeypatch):
    """Early stopping by hand: the second loss is higher, and patience is 1."""
    found = []
    monkeypatch.setitem(command_line.STAGES, "fit", lambda made: found.append(made))
    command_line.main(
        [
            *("fit", *SMALL, "--seed_everything", "3", "--trainer.logger", "false"),
            *("--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.patience=1"),
            *("--trainer.callbacks+=Timer", "--trainer.callbacks.max_time=00:00:02:00"),
        ]
    )
    (made,) = found
    stopping, timer = made.trainer.callbacks
    assert (stopping.patience, timer.max_seconds) == (1, 120.0)
    stopping.set_model(SimpleNamespace(stop_training=False))
    stopping.on_train_begin()
    for epoch, loss in enumerate((1.0, 2.0)):
        assert not stopping.model.stop_training
        stopping.on_epoch_end(epoch, {"val_loss": loss})
    assert stopping.model.stop_training


def test_options_of_the_data_may_come_first_and_its_name_in_any_case(capsys):
    data = ["--data.batch_size", "7", "--data", "digits", "--data.augment=false"]
    found = config(capsys, "--model.network", "DenseNetBC", *data)["data"]
    assert found["class_path"] == "keras_densenet.data.Digits"
    assert found["init_args"]["batch_size"] == 7
    assert found["init_args"]["augment"] is False


def test_the_data_that_help_names_are_those_that_there_are():
    names = {
        name
        for name, thing in vars(kd.data).items()
        if isinstance(thing, type)
        and issubclass(thing, kd.data.DataModule)
        and not getattr(thing, "__abstractmethods__", None)
    }
    # Views of other data, what is like other data, and what only a script has.
    names -= {"TenCrops", "Pictures", "Arrays", "Datasets"}
    assert names == set(command_line.DATA)


@pytest.mark.slow
def test_your_own_network_and_data_by_their_import_paths(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import keras, keras_densenet as kd\n"
        "def small(classes, input_shape, width: int = 3):\n"
        "    inputs = keras.Input(input_shape)\n"
        "    x = keras.layers.GlobalAveragePooling2D()(inputs)\n"
        "    x = keras.layers.Dense(width)(x)\n"
        "    x = keras.layers.Dense(classes, 'softmax')(x)\n"
        "    return keras.Model(inputs, x, name='small')\n"
        "class Mine(kd.data.Digits):\n"
        "    pass\n"
        "class Module(kd.ImageClassifier):\n"
        "    def configure_callbacks(self):\n"
        "        print('mine is called')\n"
        "        return []\n"
    )
    answer = python(
        *("-m", "keras_densenet", "fit", "--trainer.max_epochs", "1"),
        *("--model.network", "mine.small", "--model.width", "5"),
        *("--model.class_path", "mine.Module", "--trainer.devices", "1"),
        *("--trainer.callbacks+=TerminateOnNaN", "--trainer.limit_val_batches", "1"),
        *("--data.batch_size", "250", "--data", "mine.Mine"),
        cwd=tmp_path,
        PYTHONPATH=_path(tmp_path),
    )
    assert answer.returncode == 0, answer.stderr
    assert "mine is called" in answer.stdout
    (config,) = tmp_path.glob("runs/mine-small/version_0/config.yaml")
    written = yaml.safe_load(config.read_text())
    assert written["trainer"]["limit_val_batches"] == 1
    assert written["trainer"]["callbacks"][0]["class_path"].endswith("TerminateOnNaN")
    assert written["model"]["class_path"] == "mine.Module"
    again = python(
        *("-m", "keras_densenet", "fit", "--config", config),
        *("--ckpt_path", "last", "--trainer.max_epochs", "2"),
        cwd=tmp_path,
        PYTHONPATH=_path(tmp_path),
    )
    assert again.returncode == 0, again.stderr
    assert "mine is called" in again.stdout


def made_by(monkeypatch, *arguments):
    """Return what a stage is given: trainer, module and data."""
    found = []
    monkeypatch.setitem(command_line.STAGES, "fit", lambda made: found.append(made))
    command_line.main(["fit", *SMALL, *arguments])
    return found[0]


def test_callbacks_of_keras_have_arguments_without_types(monkeypatch, tmp_path):
    """Keras's `ModelCheckpoint(filepath)` and `CSVLogger(filename)` have no types."""
    config = tmp_path / "config.yaml"
    config.write_text(
        """
trainer:
  callbacks:
  - class_path: keras.callbacks.ModelCheckpoint
    init_args: {filepath: k.keras, monitor: loss, mode: auto}
  logger:
  - class_path: keras.callbacks.CSVLogger
    init_args: {filename: a.csv, append: true, separator: ','}
"""
    )
    trainer = made_by(monkeypatch, "--config", str(config)).trainer
    assert [type(c) for c in trainer.callbacks] == [keras.callbacks.ModelCheckpoint]
    assert trainer.callbacks[0].filepath == "k.keras"
    assert trainer.logger[0].filename == "a.csv"
    more = "--trainer.callbacks+=keras.callbacks.CSVLogger"
    name = "--trainer.callbacks.filename=b.csv"
    trainer = made_by(monkeypatch, more, name).trainer
    assert trainer.callbacks[0].filename == "b.csv"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data.batch_size", "0"], "batch_size must be 1 or more"),
        (["--data", "ImageFolder", "--data.root", "/nothing"], "no folder /nothing"),
        (
            ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.mode=x"],
            "mode",
        ),
    ],
)
def test_what_cannot_be_made_is_one_line(arguments, words):
    with pytest.raises(SystemExit) as end:
        command_line.main(["fit", *SMALL, *arguments])
    assert words in str(end.value)
    assert "\n" not in str(end.value)
    assert "Given value" not in str(end.value)
