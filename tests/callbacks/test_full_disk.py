"""What is only written down ends no training."""

import contextlib
import errno
import os
import subprocess
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_densenet as kd
from keras_densenet.callbacks.loggers import let_go_on, only_written_down

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def averaging(classes, input_shape):
    layers = [keras.Input(input_shape), keras.layers.GlobalAveragePooling2D()]
    return keras.Sequential([*layers, keras.layers.Dense(classes, "softmax")])


def fit(trainer):
    images = np.arange(16).reshape(16, 1, 1, 1)
    module = kd.ImageClassifier(averaging)
    return trainer.fit(module, kd.data.Arrays(images, images.ravel() // 8, 4))


def failing(kind, hook, error, *args):
    """Return a logger whose hook fails, and which counts its calls."""

    def fail(self, *args, **kwargs):
        self.calls += 1
        raise error

    return type("Failing", (kind,), {hook: fail, "calls": 0})(*args)


def test_a_logger_that_cannot_write_warns_once_and_training_goes_on(tmp_path):
    exhausted = tf.errors.ResourceExhaustedError(None, None, "no space")
    csv = failing(keras.callbacks.CSVLogger, "on_epoch_end", FULL, tmp_path / "x.csv")
    board = failing(
        keras.callbacks.TensorBoard, "on_epoch_end", exhausted, str(tmp_path)
    )
    trainer = kd.Trainer(
        3,
        default_root_dir=tmp_path,
        logger=csv,
        callbacks=[board],
        enable_progress_bar=False,
        enable_checkpointing=False,
    )
    for calls in (3, 6):  # a second fit warns again
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            assert len(fit(trainer).epoch) == 3
        said = [str(w.message) for w in warned if "could not be written" in str(w)]
        assert len(said) == 2
        assert "no space" in said[0]
        assert os.strerror(errno.ENOSPC) in said[1]
        assert (csv.calls, board.calls) == (calls, calls)


def test_one_that_could_not_begin_is_left_alone():
    csv = failing(keras.callbacks.CSVLogger, "on_train_begin", FULL, "nowhere.csv")
    let_go_on(csv)
    let_go_on(csv)  # is to change nothing
    csv.set_model(None)
    with pytest.warns(UserWarning, match="What Failing logs could not be written"):
        csv.on_train_begin()
    csv.on_epoch_end(0, {"loss": 1.0})  # there is no file
    csv.on_train_end()
    assert csv.calls == 1


def test_other_errors_are_raised():
    csv = failing(keras.callbacks.CSVLogger, "on_epoch_end", KeyError("mine"), "x.csv")
    let_go_on(csv)
    with pytest.raises(KeyError, match="mine"):
        csv.on_epoch_end(0, {})
    with pytest.raises(KeyError, match="mine"), only_written_down("x"):
        raise KeyError("mine")


def test_curves_and_config_are_only_written_down(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise FULL

    monkeypatch.setattr("keras_densenet.training.trainer.plot_curves", full)
    monkeypatch.setattr("keras_densenet.training.beginning.write_config", full)
    trainer = kd.Trainer(
        1,
        default_root_dir=tmp_path,
        enable_progress_bar=False,
        enable_checkpointing=False,
    )
    with (
        pytest.warns(UserWarning, match=r"config\.yaml could not be written"),
        pytest.warns(UserWarning, match=r"curves\.png could not be written"),
    ):
        assert len(fit(trainer).epoch) == 1


@pytest.fixture
def small_disk(tmp_path):
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(tmp_path)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


@pytest.mark.slow
def test_a_disk_that_becomes_full(small_disk):
    class Fills(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            filler = (small_disk / "filler").open("ab", buffering=0)
            with filler, contextlib.suppress(OSError):
                while True:
                    filler.write(bytes(4096))

    trainer = kd.Trainer(
        3,
        default_root_dir=small_disk,
        callbacks=[Fills()],
        enable_progress_bar=False,
        enable_checkpointing=False,
    )
    with pytest.warns(UserWarning, match="could not be written"):
        assert len(fit(trainer).epoch) == 3
    (small_disk / "filler").unlink()
