import keras
import numpy as np
import pytest
from keras.callbacks import EarlyStopping, ReduceLROnPlateau

import keras_densenet as kd
from keras_densenet.callbacks import ModelCheckpoint, MonitoredMetrics
from keras_densenet.callbacks.monitored import monitor_of
from keras_densenet.training import MisconfigurationError
from keras_densenet.training.callback_order import refuse_to_set_a_schedule

STEP = {"loss": 1.0, "accuracy": 0.5}
EPOCH = STEP | {"val_loss": 1.0, "val_accuracy": 0.5}


def watched(*callbacks, validated=True, model=keras.Model):
    callback = MonitoredMetrics(callbacks, validated)
    callback.set_model(model())
    callback.on_train_begin()
    return callback


def test_a_misnamed_metric_is_refused_after_the_first_step():
    callback = watched(EarlyStopping("val_acc"))
    said = r"EarlyStopping\(monitor='val_acc'\).*mean 'val_accuracy'.*There are loss"
    with pytest.raises(MisconfigurationError, match=said):
        callback.on_train_batch_end(0, STEP)
    callback = watched(ModelCheckpoint(monitor="val_acc", save_last=False))
    with pytest.raises(MisconfigurationError, match="val_acc"):
        callback.on_train_batch_end(0, STEP)


def test_no_training_is_ended_for_a_best_checkpoint():
    callback = watched(ModelCheckpoint(monitor="val_acc"))
    said = "mean 'val_accuracy'.*The last checkpoint is kept, and no best one"
    with pytest.warns(UserWarning, match=said):
        callback.on_train_batch_end(0, STEP)
    with pytest.warns(UserWarning, match="nothing to validate on"):
        watched(ModelCheckpoint(monitor="val_loss"), validated=False)


class AddsF1(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        logs["val_f1"] = 1.0


class OwnStep(keras.Model):
    def test_step(self, data):
        return {"f1": 1.0}


@pytest.mark.parametrize(
    "others",
    [
        {"callbacks": [AddsF1()]},
        {"callbacks": [keras.callbacks.LambdaCallback()]},
        {"model": OwnStep},
    ],
)
def test_what_others_add_is_waited_for(others):
    stopping = EarlyStopping("val_f1")
    model = others.get("model", keras.Model)
    callback = watched(stopping, *others.get("callbacks", ()), model=model)
    callback.on_train_batch_end(0, STEP)
    callback.on_epoch_end(0, STEP)  # validation_freq=2: not validated yet
    with pytest.raises(MisconfigurationError, match="val_f1"):
        callback.on_epoch_end(1, EPOCH)
    callback = watched(stopping, *others.get("callbacks", ()), model=model)
    callback.on_epoch_end(0, EPOCH | {"val_f1": 1.0})


@pytest.mark.parametrize("monitor", ["val_loss", "loss", "accuracy", "learning_rate"])
def test_metrics_that_are_there_are_allowed(monitor):
    callback = watched(EarlyStopping(monitor), ReduceLROnPlateau(monitor))
    callback.on_train_batch_end(0, STEP)
    callback.on_epoch_end(0, EPOCH | {"learning_rate": 0.1})


def test_without_validation_nothing_of_it_is_monitored():
    with pytest.raises(MisconfigurationError, match="nothing to validate on"):
        watched(EarlyStopping(), validated=False)
    watched(EarlyStopping("loss"), validated=False).on_train_batch_end(0, STEP)
    others = watched(EarlyStopping("val_f1"), AddsF1(), validated=False)
    others.on_epoch_end(0, STEP | {"val_f1": 1.0})


def test_what_is_no_use_to_a_callback_is_not_asked_for():
    assert monitor_of(ModelCheckpoint()) is None  # the best, if there is accuracy
    assert monitor_of(ModelCheckpoint(monitor="val_acc", save_top_k=0)) is None
    assert monitor_of(keras.callbacks.ModelCheckpoint("x.keras")) is None
    best = keras.callbacks.ModelCheckpoint("x.keras", "val_acc", save_best_only=True)
    assert monitor_of(best) == "val_acc"


def averaging(classes, input_shape):
    layers = [keras.Input(input_shape), keras.layers.GlobalAveragePooling2D()]
    return keras.Sequential([*layers, keras.layers.Dense(classes, "softmax")])


def test_a_fit_ends_after_its_first_step(tmp_path):
    labels = np.arange(16) % 2
    data = kd.data.Arrays(np.ones((16, 2, 2, 1)), labels, 4, validation_split=0.25)
    callbacks = [EarlyStopping("val_acc")]
    trainer = kd.Trainer(2, callbacks=callbacks, default_root_dir=tmp_path)
    with pytest.raises(MisconfigurationError, match="val_accuracy"):
        trainer.fit(kd.ImageClassifier(averaging), data)
    assert trainer.global_step == 1
    trainer = kd.Trainer(2, callbacks=ReduceLROnPlateau(), default_root_dir=tmp_path)
    with pytest.raises(MisconfigurationError, match=r"milestones=\(\)"):
        trainer.fit(kd.ImageClassifier(averaging), data)
    assert trainer.model is None


@pytest.mark.parametrize(
    "callback",
    [ReduceLROnPlateau(), keras.callbacks.LearningRateScheduler(lambda epoch: 0.1)],
)
def test_the_rate_of_a_schedule_cannot_be_set(callback):
    model = averaging(2, (2, 2, 1))
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    for rate, allowed in ((schedule, False), (0.1, True)):
        for scaled in (False, True):
            optimizer = keras.optimizers.SGD(rate)
            if scaled:
                optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
            model.compile(optimizer, "mse")
            if allowed:
                refuse_to_set_a_schedule([callback], model)
                continue
            with pytest.raises(MisconfigurationError, match=type(callback).__name__):
                refuse_to_set_a_schedule([callback], model)
