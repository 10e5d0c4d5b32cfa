"""What a run leaves in its folder, and what a person reads."""

import csv
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from linear_network import linear
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import keras_densenet as kd
from keras_densenet.analysis.curves import plot_curves, read_metrics
from keras_densenet.callbacks import (
    CSVLogger,
    ModelCheckpoint,
    StopOnNaN,
    ThroughputMonitor,
)
from keras_densenet.training import MisconfigurationError


def densenet(**options):
    return kd.ImageClassifier(kd.DenseNetBC, depth=10, growth_rate=4, **options)


def light(**options):
    """Return what trains in no time: for all that does not name the network."""
    return kd.ImageClassifier(linear, **options)


def fit(folder, epochs, ckpt_path=None, module=light, **flags):
    data = kd.data.Digits(batch_size=250, seed=7)  # 5 steps an epoch
    trainer = kd.Trainer(epochs, default_root_dir=folder, **flags)
    trainer.fit(module(milestones=()), data, ckpt_path=ckpt_path)
    return trainer


def scalars(folder, name):
    events = EventAccumulator(str(folder), {"tensors": 0})
    events.Reload()
    return [
        (event.step, float(tf.make_ndarray(event.tensor_proto)))
        for event in events.Tensors(name)
    ]


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """Two epochs, then two more, validated every other epoch."""
    folder = tmp_path_factory.mktemp("run")
    kd.seed_everything(5)
    flags = {"log_every_n_steps": 2, "check_val_every_n_epoch": 2}
    fit(folder, 2, module=densenet, **flags)
    return fit(folder, 4, "last", module=densenet, **flags)


def test_where_everything_is(resumed):
    folder = resumed.log_dir
    assert folder.parts[-3:] == ("runs", "digits-densenet_bc_10_4", "version_0")
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("config.yaml", "metrics.csv", "curves.png"),
        *("train", "validation", "checkpoints"),
    }


def test_a_resumed_log_keeps_its_columns(resumed):
    with (resumed.log_dir / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["val_loss"] == "NA" for row in rows] == [True, False, True, False]
    assert "val_learning_rate" not in rows[0]
    assert all(0.0 <= float(row["accuracy"]) <= 1.0 for row in rows)
    assert all(float(row["images_per_second"]) > 0 for row in rows)
    assert None not in rows[-1]  # a row has no more values than columns


def test_tensorboards_steps_go_on(resumed):
    steps = [step for step, _ in scalars(resumed.log_dir / "train", "batch_loss")]
    assert steps == [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]  # every 2 of 4 epochs' 20
    epochs = [step for step, _ in scalars(resumed.log_dir / "train", "epoch_loss")]
    assert epochs == [0, 1, 2, 3]
    validated = scalars(resumed.log_dir / "validation", "epoch_loss")
    with (resumed.log_dir / "metrics.csv").open() as file:
        logged = [row["val_loss"] for row in csv.DictReader(file)]
    assert [value for _, value in validated] == pytest.approx(
        [float(value) for value in logged if value != "NA"]
    )


def test_the_config_has_what_was_given(resumed):
    text = (resumed.log_dir / "config.yaml").read_text()
    assert "# since epoch 2: trainer.max_epochs was 2 and is 4\n" in text
    config = yaml.safe_load(text)
    assert config["seed_everything"] == 5
    assert config["trainer"]["max_epochs"] == 4
    assert config["trainer"]["log_every_n_steps"] == 2
    assert config["model"]["network"] == "keras_densenet.models.DenseNetBC"
    assert config["model"]["depth"] == 10
    assert config["data"] == {
        "class_path": "keras_densenet.data.digits.Digits",
        "init_args": {
            "batch_size": 250,
            "augment": True,
            "mirror": False,
            "shift": 4,
            "crop": None,
            "seed": 7,
        },
    }


def test_the_curves_of_literal_metrics(tmp_path):
    (tmp_path / "metrics.csv").write_text(
        "epoch,accuracy,loss,val_accuracy,val_loss\n"
        "0,0.25,2.0,NA,NA\n1,0.5,1.0,0.75,0.5\n"
    )
    assert read_metrics(tmp_path / "metrics.csv")["val_loss"][1] == 0.5
    figure = plot_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
    loss, accuracy = figure.axes
    assert (loss.get_title(), accuracy.get_title()) == ("loss", "accuracy")
    training, validation = loss.lines
    np.testing.assert_array_equal(training.get_xydata(), [[1, 2.0], [2, 1.0]])
    np.testing.assert_array_equal(validation.get_xydata(), [[2, 0.5]])
    assert (tmp_path / "curves.png").stat().st_size > 5_000


def test_no_log_where_none_is_wanted(tmp_path):
    trainer = fit(tmp_path, 1, logger=False)
    names = {path.name for path in trainer.log_dir.iterdir()}
    assert names == {"config.yaml", "checkpoints"}


def test_a_logger_of_ones_own(tmp_path):
    mine = keras.callbacks.CSVLogger(tmp_path / "mine.csv")
    trainer = fit(tmp_path, 1, logger=mine)
    assert (tmp_path / "mine.csv").read_text().startswith("epoch,accuracy")
    with pytest.raises(MisconfigurationError, match="append=True"):
        fit(tmp_path, 2, "last", logger=mine)
    assert not (trainer.log_dir / "metrics.csv").exists()


@pytest.mark.slow
def test_the_profiler_records_steps(tmp_path):
    trainer = fit(tmp_path, 4, profiler="tensorboard")  # 20 steps: 10 to 14
    assert list((trainer.log_dir / "train").glob("plugins/profile/*/*.xplane.pb"))


def test_what_is_printed(tmp_path, capsys):
    trainer = fit(tmp_path, 2, module=densenet)
    out = capsys.readouterr().out
    # Stem 3 3 3 8, by hand; 2 blocks' transitions; 216 weights at 32 x 32 places.
    assert re.search(r"stem_conv +NarrowConvolution +32 x 32 x 8 +216 +221 K", out)
    assert re.search(r"dense_block1 +DenseBlock +32 x 32 x 12", out)
    assert "2,666 trainable parameters, 196 others" in out
    assert "one device, 1 replica, 32-true, global batch 250, 5 steps an epoch" in out
    assert "Trainer.fit stopped: max_epochs=2 reached." in out
    best = trainer.checkpoint_callback
    assert f"{best.best_model_path} (val_accuracy {best.best_model_score:.4f})" in out
    assert f"tensorboard --logdir {trainer.log_dir}" in out
    assert re.search(r"Took 0:0\d:\d\d, [\d,]+ images/s in training", out)


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ({"max_steps": 7}, "max_steps=7 reached"),
        ({"max_time": {"milliseconds": 1}}, "max_time={'milliseconds': 1} is over"),
        (
            {
                "callbacks": [
                    keras.callbacks.EarlyStopping("loss", patience=0, min_delta=1000)
                ]
            },
            "loss has not improved for 0 epochs",
        ),
    ],
)
def test_why_it_stopped(tmp_path, capsys, flags, why):
    fit(tmp_path, 9, **flags)
    assert f"stopped: {why}" in capsys.readouterr().out


def test_nothing_is_printed_where_that_is_wanted(tmp_path, capsys):
    fit(tmp_path, 1, enable_progress_bar=False, enable_model_summary=False)
    assert capsys.readouterr().out == ""


def test_a_model_of_any_size_is_named(tmp_path, capsys):
    trainer = kd.Trainer(1, default_root_dir=tmp_path, fast_dev_run=True)
    with trainer.scope():
        model = kd.DenseNetBC(10, 4, input_shape=(None, None, 3))
        model.compile("sgd", "sparse_categorical_crossentropy")
    trainer.fit(model, kd.data.Digits(batch_size=250))
    assert "densenet_bc_10_4: 2,666 trainable parameters" in capsys.readouterr().out


# --- callbacks -------------------------------------------------------------------


def test_callbacks_are_called_in_the_order_that_they_need(tmp_path):
    class Mine(keras.callbacks.Callback):
        pass

    kerass = keras.callbacks.ModelCheckpoint(tmp_path / "k.keras")
    ema = keras.callbacks.SwapEMAWeights()
    callbacks = [ModelCheckpoint(), kerass, ema, Mine()]
    trainer = kd.Trainer(1, default_root_dir=tmp_path, max_steps=1, callbacks=callbacks)
    with trainer.scope():
        model = linear(10, (32, 32, 3))
        model.compile(
            keras.optimizers.SGD(0.01, use_ema=True), "sparse_categorical_crossentropy"
        )
    trainer.fit(model, kd.data.Digits(batch_size=250))
    names = [type(callback).__name__ for callback in trainer._run.callbacks]
    assert names == [
        *("StopOnNaN", "MaxSteps", "LearningRateMonitor", "ThroughputMonitor"),
        *("Mine", "SwapEMAWeights", "ModelCheckpoint"),  # Keras's checkpoint
        "MonitoredMetrics",
        *("ProgressBar", "CSVLogger", "TensorBoard"),
        *("ModelCheckpoint", "History"),
    ]
    assert trainer._run.callbacks[0].__class__ is StopOnNaN
    assert trainer._run.callbacks[6] is kerass


@pytest.mark.parametrize(
    ("callbacks", "words"),
    [
        ([ModelCheckpoint(every_n_train_steps=5)], "2 ModelCheckpoints"),
        ([keras.callbacks.BackupAndRestore("x")], "ckpt_path='last'"),
        (
            [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)],
            "averages are what is validated",
        ),
    ],
)
def test_callbacks_that_cannot_be_together_are_refused(tmp_path, callbacks, words):
    class Watched(kd.ImageClassifier):
        def configure_callbacks(self):
            return [ModelCheckpoint(every_n_train_steps=5)]

    trainer = kd.Trainer(1, default_root_dir=tmp_path, callbacks=callbacks)
    with pytest.raises(MisconfigurationError, match=words):
        trainer.fit(
            Watched(kd.DenseNetBC, depth=10, growth_rate=4),
            kd.data.Digits(batch_size=250),
        )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"logger": "tensorboard"}, "must be keras.callbacks.Callbacks"),
        ({"callbacks": ["EarlyStopping"]}, "must be keras.callbacks.Callbacks"),
        ({"profiler": "simple"}, "'tensorboard' or None"),
        ({"profiler": "tensorboard", "logger": False}, "needs logger=True"),
        ({"log_every_n_steps": 0}, "log_every_n_steps must be 1 or more"),
    ],
)
def test_wrong_loggers_are_refused(flags, words):
    with pytest.raises(MisconfigurationError, match=words):
        kd.Trainer(1, **flags)


def test_throughput_by_a_fake_clock(monkeypatch):
    """Steps of 4, 1, 1 and 2 seconds with 10 pictures each; the first is left out."""
    times = iter([0, 4, 10, 11, 20, 21, 30, 32])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    monitor = ThroughputMonitor(images_per_step=10)
    monitor.set_model(keras.Sequential())
    monitor.model.steps_per_execution = 1
    monitor.on_train_begin()
    for epoch in (0, 1):
        monitor.on_epoch_begin(epoch)
        for batch in (0, 1):
            monitor.on_train_batch_begin(batch)
            monitor.on_train_batch_end(batch)
        logs = {}
        monitor.on_epoch_end(epoch, logs)
        assert logs["images_per_second"] == pytest.approx([10.0, 20 / 3][epoch])
    assert monitor.images_per_second == pytest.approx(30 / 4)


def test_an_epoch_of_one_step_has_a_speed(monkeypatch):
    times = iter([0, 4])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    monitor = ThroughputMonitor(images_per_step=10)
    monitor.set_model(keras.Sequential())
    monitor.model.steps_per_execution = 1
    monitor.on_train_begin()
    monitor.on_epoch_begin(0)
    monitor.on_train_batch_begin(0)
    monitor.on_train_batch_end(0)
    logs = {}
    monitor.on_epoch_end(0, logs)
    assert logs["images_per_second"] == 2.5


def test_a_log_of_other_columns_is_appended_to_in_its_own(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,loss,val_loss\n0,2.0,NA\n")
    logger = CSVLogger(path)
    logger.on_train_begin()
    logger.on_epoch_end(1, {"val_loss": 3.0, "loss": 1.0, "extra": 9.0})
    logger.on_train_end()
    assert path.read_text().splitlines()[-1] == "1,1.0,3.0"
