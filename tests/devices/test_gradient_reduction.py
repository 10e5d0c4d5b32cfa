"""Two replicas clip, accumulate and scale as one device does with the same batches."""

from contextlib import nullcontext

import keras
import numpy as np
import pytest
import tensorflow as tf
from crash import CrashError

import keras_densenet as kd
from keras_densenet.callbacks import ModelCheckpoint
from keras_densenet.devices.gradient_reduction import reduce_first
from keras_densenet.devices.strategy import make_strategy


def two_layers(classes, input_shape):
    """Build a network without batch norms: halves of a batch add up to the whole."""
    return keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Flatten(),
            keras.layers.Dense(8, activation="tanh"),
            keras.layers.Dense(classes, activation="softmax"),
        ],
        name="two_layers",
    )


class Losses(keras.callbacks.Callback):
    """Keeps the epoch's loss so far after each step, and may end as a crash does."""

    def __init__(self, end_at=None):
        super().__init__()
        self.seen, self.end_at = [], end_at

    def on_train_batch_end(self, batch, logs=None):
        """Note the loss."""
        self.seen.append(logs["loss"])
        if len(self.seen) == self.end_at:
            raise CrashError


def train(folder, devices, *callbacks, ckpt_path=None, **flags):
    """Train twenty steps in float64, and return each one's loss and the model."""
    keras.utils.set_random_seed(1)
    losses = Losses(flags.pop("end_at", None))
    trainer = kd.Trainer(
        1,
        strategy="none" if devices == 1 else "mirrored",
        devices=devices,
        precision="64-true",
        limit_train_batches=20,
        limit_val_batches=0,
        default_root_dir=folder,
        callbacks=[*callbacks, losses],
        logger=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        **flags,
    )
    module = kd.ImageClassifier(two_layers, learning_rate=0.5, milestones=())
    trainer.fit(module, kd.data.Digits(batch_size=50), ckpt_path=ckpt_path)
    return losses.seen, module.model


CLIPPED_BY_NORM = {"gradient_clip_val": 0.1}
CLIPPED_BY_VALUE = {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"}
ACCUMULATED = {"accumulate_grad_batches": 3}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return train(tmp_path_factory.mktemp("plain"), 1, enable_checkpointing=False)[0]


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(CLIPPED_BY_NORM, id="norm", marks=pytest.mark.slow),
        pytest.param(CLIPPED_BY_VALUE, id="value"),
        pytest.param(ACCUMULATED, id="accumulated", marks=pytest.mark.slow),
        pytest.param(CLIPPED_BY_NORM | ACCUMULATED, id="both"),
    ],
)
def test_two_replicas_lose_what_one_device_loses(tmp_path, plain, flags):
    one, _ = train(tmp_path, 1, enable_checkpointing=False, **flags)
    two, _ = train(tmp_path, 2, enable_checkpointing=False, **flags)
    assert len(one) == 20
    np.testing.assert_allclose(two, one, rtol=1e-9)
    assert abs(plain[-1] - one[-1]) > 1e-3  # the flags do something


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_a_run_goes_on_in_the_middle_of_an_accumulation(tmp_path, devices):
    """It ends after 8 of 20 steps: two of three batches are accumulated."""
    flags = CLIPPED_BY_NORM | ACCUMULATED

    def checkpoint():
        return ModelCheckpoint(every_n_train_steps=8)

    _, whole = train(tmp_path / "whole", devices, checkpoint(), **flags)
    with pytest.raises(CrashError):
        train(tmp_path / "ended", devices, checkpoint(), end_at=9, **flags)
    _, resumed = train(
        tmp_path / "ended", devices, checkpoint(), ckpt_path="last", **flags
    )
    for one, other in zip(
        whole.variables + whole.optimizer.variables,
        resumed.variables + resumed.optimizer.variables,
        strict=True,
    ):
        np.testing.assert_array_equal(other, one)


# --- optimizers of Keras ----------------------------------------------------------


def fitted(strategy, optimizer, *, policy="float32", pictures=None, seen=None):
    """Train a Keras model on 12 batches of 8; return all its variables."""
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(96, 6)), rng.integers(0, 3, 96)
    x = x if pictures is None else pictures(x)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    with strategy.scope() if strategy else nullcontext():
        model = keras.Sequential(
            [
                keras.Input((6,)),
                keras.layers.Dense(5, activation="tanh"),
                keras.layers.Dense(3, activation="softmax", dtype="float32"),
            ]
        )
        model.compile(optimizer(), "sparse_categorical_crossentropy")
        model.optimizer.build(model.trainable_variables)
        if strategy:
            reduce_first(model)
            reduce_first(model)  # of a second fit: once is enough
    keras.config.set_dtype_policy(before)
    batches = tf.data.Dataset.from_tensor_slices((x.astype("float32"), y)).batch(8)
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(
            scale_and_steps(model.optimizer)
        )
    )
    model.fit(
        batches, shuffle=False, verbose=0, callbacks=[note] if seen is not None else []
    )
    return [np.array(v) for v in (*model.variables, *model.optimizer.variables)]


def scale_and_steps(optimizer):
    return float(np.array(optimizer.dynamic_scale)), int(np.array(optimizer.iterations))


@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param(
            lambda: keras.optimizers.Adam(0.1, global_clipnorm=0.01),
            id="norm of all",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda: keras.optimizers.SGD(0.5, momentum=0.9, clipnorm=0.1),
            id="norm of each",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda: keras.optimizers.AdamW(
                0.1, weight_decay=0.1, clipvalue=0.01, gradient_accumulation_steps=5
            ),
            id="accumulated",
        ),
        pytest.param(
            lambda: keras.optimizers.SGD(
                0.5,
                use_ema=True,
                ema_overwrite_frequency=2,
                gradient_accumulation_steps=2,
            ),
            id="averaged",
        ),
        pytest.param(
            lambda: keras.optimizers.SGD(0.5, use_ema=True, ema_overwrite_frequency=3),
            id="overwritten",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_any_optimizer_on_two_replicas_is_that_on_one_device(optimizer):
    one = fitted(None, optimizer)
    two = fitted(make_strategy("mirrored", 2), optimizer)
    for value, expected in zip(two, one, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("replica", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_an_overflow_on_any_replica_skips_the_step_on_all(replica):
    """The second batch has a number that float16 has not, in one replica's half."""

    def poisoned(x):
        x[8 + 4 * replica] = 1e5
        return x

    def optimizer():
        return keras.optimizers.SGD(0.5, global_clipnorm=0.5)

    seen = []
    two = fitted(
        make_strategy("mirrored", 2),
        optimizer,
        policy="mixed_float16",
        pictures=poisoned,
        seen=seen,
    )
    first = 2.0**15  # Keras's
    assert seen[:3] == [(first, 1), (first / 2, 1), (first / 2, 2)]
    one = fitted(None, optimizer, policy="mixed_float16", pictures=poisoned)
    for value, expected in zip(two, one, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-2, atol=1e-2)


def test_an_optimizer_that_only_adds_up_is_left_to_keras():
    strategy = make_strategy("mirrored", 2)
    with strategy.scope():
        model = two_layers(3, (2, 2, 1))
        model.compile(kd.training.TorchSGD(0.1), "mse")
        reduce_first(model)
    assert "apply" not in vars(model.optimizer)
