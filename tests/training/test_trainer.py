import csv
import errno
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from linear_network import linear

import keras_densenet as kd
from keras_densenet.callbacks import (
    ModelCheckpoint,
)
from keras_densenet.training import MisconfigurationError, NotANumberError


class Blobs(kd.data.DataModule):
    """Two classes of tiny pictures, bright and dark: learnt in a few steps."""

    num_classes = 2
    input_shape = (8, 8, 1)
    class_names = ("dark", "bright")
    mean = (100.0,)
    std = (50.0,)

    def __init__(self, batch_size=16, batches=4, copies=1, val=True):
        self.batch_size, self.batches, self.copies = batch_size, batches, copies
        self.val = val
        self.calls = []

    def prepare_data(self):
        self.calls.append("prepare_data")

    def setup(self, stage):
        self.calls.append(f"setup {stage}")

    def teardown(self, stage):
        self.calls.append(f"teardown {stage}")

    def _pictures(self, seed, n):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 2, n)
        noise = rng.normal(size=(n, *self.input_shape))
        return (noise + 2.0 * labels[:, None, None, None]).astype("float32"), labels

    def train_dataset(self):
        images, labels = self._pictures(0, self.batch_size * self.batches)
        dataset = tf.data.Dataset.from_tensor_slices((images, labels))
        dataset = dataset.batch(self.batch_size, drop_remainder=True)
        if self.copies == 1:
            return dataset
        return dataset.map(
            lambda x, y: (tf.tile(x, [self.copies, 1, 1, 1]), tf.tile(y, [self.copies]))
        )

    def val_dataset(self):
        return self._in_order(1, 17) if self.val else None

    def test_dataset(self):
        return self._in_order(2, 17)

    def predict_dataset(self):
        return self.test_dataset().map(lambda images, labels: images)

    def _in_order(self, seed, n):
        dataset = tf.data.Dataset.from_tensor_slices(self._pictures(seed, n))
        return dataset.batch(self.batch_size)  # the last batch has one picture


def light(**options):
    """What trains in no time: for all that does not depend on the network."""
    return kd.ImageClassifier(linear, **options)


def classifier(**options):
    return kd.ImageClassifier(kd.DenseNetBC, depth=10, growth_rate=4, **options)


@pytest.fixture
def trainer(tmp_path):
    return kd.Trainer(max_epochs=4, default_root_dir=tmp_path)


def test_fit_learns_logs_and_keeps_the_last_and_the_best(trainer, capsys):
    module, data = classifier(), Blobs()
    history = trainer.fit(module, data).history
    assert len(history["loss"]) == 4
    assert history["loss"][-1] < history["loss"][0]
    assert data.calls == ["prepare_data", "setup fit", "teardown fit"]
    assert trainer.log_dir.name == "version_0"
    with (trainer.log_dir / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == pytest.approx(history["loss"])
    checkpoint = trainer.checkpoint_callback
    assert checkpoint.best_model_score == max(history["val_accuracy"])
    files = sorted(path.name for path in checkpoint.dirpath.iterdir())
    best = 1 + int(np.argmax(history["val_accuracy"]))
    score = max(history["val_accuracy"])
    name = f"epoch={best:03d}-val_accuracy={score:.4f}.keras"
    assert files == ["before-last.keras", name, "last.keras"]
    out = capsys.readouterr().out
    assert "densenet_bc_10_4" in out
    assert "images/s" in out
    assert "Epoch   4/4" in out


def test_the_schedule_scales_with_the_epochs(trainer):
    module = light()
    trainer.fit(module, Blobs(batches=4))
    schedule = module.model.optimizer._learning_rate
    rates = [round(float(schedule(step)), 4) for step in range(16)]
    assert rates == [0.1] * 8 + [0.01] * 4 + [0.001] * 4


def test_resumed_training_goes_on_where_it_stopped(tmp_path):
    """Two epochs, then two more from the checkpoint: as four in one go."""

    def run(folder, module, epochs, ckpt_path=None):
        keras.utils.set_random_seed(3)
        trainer = kd.Trainer(max_epochs=epochs, default_root_dir=tmp_path / folder)
        return trainer.fit(module, Blobs(), ckpt_path=ckpt_path)

    # The rate is constant, so that the schedule is the same for both lengths.
    whole, first, second = (light(milestones=()) for _ in range(3))
    expected = run("whole", whole, 4).history["loss"]
    halves = run("halves", first, 2).history["loss"]
    resumed = run("halves", second, 4, ckpt_path="last")
    assert resumed.epoch == [2, 3]
    np.testing.assert_allclose(halves + resumed.history["loss"], expected, rtol=1e-5)
    assert int(second.model.optimizer.iterations) == 16


def test_tests_and_predicts_with_a_checkpoint_in_a_new_trainer(trainer, tmp_path):
    module, data = classifier(), Blobs()
    trainer.fit(module, data)
    expected = trainer.test(module, data)
    assert set(expected) == {"loss", "accuracy"}
    fresh, other = classifier(), kd.Trainer(default_root_dir=tmp_path)
    last = trainer.checkpoint_callback.last_model_path
    assert other.test(fresh, data, ckpt_path=last) == pytest.approx(expected, rel=1e-5)
    probabilities = other.predict(fresh, data)
    assert probabilities.shape == (17, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)
    validated = trainer.validate(module, data, ckpt_path="best")
    assert validated["accuracy"] == pytest.approx(
        trainer.checkpoint_callback.best_model_score
    )


@pytest.mark.slow
def test_a_checkpoint_is_loaded_by_keras_in_a_fresh_process(trainer):
    trainer.fit(classifier(), Blobs())
    load = (
        "import sys, keras, keras_densenet\n"
        "model = keras.saving.load_model(sys.argv[1])\n"
        "assert type(model.optimizer).__name__ == 'TorchSGD'\n"
        "assert int(model.optimizer.iterations) == 16\n"
    )
    last = trainer.checkpoint_callback.last_model_path
    subprocess.run([sys.executable, "-c", load, last], check=True)


def test_your_own_model_is_trained(trainer):
    with trainer.scope():
        model = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(2, "softmax"),
            ]
        )
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    losses = trainer.fit(model, Blobs()).history["loss"]
    assert losses[-1] < losses[0]
    assert trainer.test(model, Blobs())["accuracy"] > 0.8


def test_fast_dev_run_runs_one_batch_and_keeps_nothing(tmp_path):
    trainer = kd.Trainer(fast_dev_run=True, default_root_dir=tmp_path)
    module = light()
    trainer.fit(module, Blobs())
    trainer.test(module, Blobs())
    assert int(module.model.optimizer.iterations) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "precision",
    [
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("bf16-mixed", "16-mixed")),
        "64-true",
    ],
)
def test_precisions_train(tmp_path, precision):
    trainer = kd.Trainer(3, precision=precision, default_root_dir=tmp_path)
    module = classifier()
    losses = trainer.fit(module, Blobs()).history["loss"]
    assert losses[-1] < losses[0]
    block = module.model.get_layer("dense_block1")
    compute = {"bf16-mixed": "bfloat16", "16-mixed": "float16", "64-true": "float64"}
    assert block.compute_dtype == compute[precision]
    assert keras.config.dtype_policy().name == "float32"


# --- flags -----------------------------------------------------------------------


def steps_of(trainer, module=None, data=None):
    """Train, and give the steps taken."""
    module = module or kd.ImageClassifier(linear)
    trainer.fit(module, data or Blobs())
    assert int(module.model.optimizer.iterations) == trainer.global_step
    return trainer.global_step


@pytest.mark.parametrize(
    ("flags", "steps"),
    [
        ({}, 8),  # two epochs of four
        ({"limit_train_batches": 3}, 6),
        ({"limit_train_batches": 0.5}, 4),
        ({"max_steps": 5}, 5),
        ({"max_steps": 50}, 8),
        ({"max_time": "00:00:00:00"}, 1),
        ({"overfit_batches": 1}, 2),
        ({"fast_dev_run": 2}, 2),
        ({"steps_per_execution": 2}, 8),
    ],
)
def test_how_many_steps(tmp_path, flags, steps):
    assert steps_of(kd.Trainer(2, default_root_dir=tmp_path, **flags)) == steps


class Seen(keras.callbacks.Callback):
    """Counts what it sees."""

    def on_train_begin(self, logs=None):
        self.val_batches, self.validations = 0, 0

    def on_test_batch_end(self, batch, logs=None):
        self.val_batches += 1

    def on_test_end(self, logs=None):
        self.validations += 1


@pytest.mark.parametrize(
    ("flags", "batches", "validations"),
    [
        ({}, 6, 3),  # 17 pictures are two batches
        ({"limit_val_batches": 1}, 3, 3),
        ({"limit_val_batches": 0}, 0, 0),
        ({"check_val_every_n_epoch": 2}, 2, 1),
        ({"overfit_batches": 3}, 9, 3),
    ],
)
def test_how_much_validation(tmp_path, flags, batches, validations):
    seen = Seen()
    trainer = kd.Trainer(3, callbacks=[seen], default_root_dir=tmp_path, **flags)
    trainer.fit(light(), Blobs())
    assert (seen.val_batches, seen.validations) == (batches, validations)


def test_accumulated_gradients_are_those_of_a_larger_batch(tmp_path):
    """No BN here, so that two batches of 16 are one of 32."""
    weights = []
    for batch_size, n in ((32, 1), (16, 2)):
        keras.utils.set_random_seed(1)
        module = kd.ImageClassifier(linear, milestones=())
        trainer = kd.Trainer(
            2, accumulate_grad_batches=n, default_root_dir=tmp_path / str(n)
        )
        trainer.fit(module, Blobs(batch_size, batches=128 // batch_size))
        weights.append(module.model.get_weights())
    for one, two in zip(*weights, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_clipped_gradients(tmp_path, algorithm):
    """One step of SGD moves the weights by the rate times the clipped gradient."""
    keras.utils.set_random_seed(1)
    module = kd.ImageClassifier(
        linear, learning_rate=1.0, momentum=0.0, weight_decay=0.0, milestones=()
    )
    trainer = kd.Trainer(
        1,
        limit_train_batches=1,
        gradient_clip_val=1e-3,
        gradient_clip_algorithm=algorithm,
        default_root_dir=tmp_path,
    )
    start = []

    class Start(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            start.extend(self.model.get_weights())

    trainer.callbacks.append(Start())
    trainer.fit(module, Blobs())
    moved = [
        after - was
        for after, was in zip(module.model.get_weights(), start, strict=True)
    ]
    flat = np.concatenate([step.ravel() for step in moved])
    largest = np.sqrt((flat**2).sum()) if algorithm == "norm" else np.abs(flat).max()
    assert largest == pytest.approx(1e-3, rel=1e-3)


def test_a_loss_that_is_not_a_number_ends_the_training(tmp_path):
    class Poisoned(Blobs):
        poison = np.nan

        def train_dataset(self):
            return (
                super()
                .train_dataset()
                .enumerate()
                .map(lambda i, xy: (xy[0] * (1.0 if i < 2 else self.poison), xy[1]))
            )

    trainer = kd.Trainer(
        2,
        callbacks=[ModelCheckpoint(every_n_train_steps=1)],
        default_root_dir=tmp_path,
    )
    with pytest.raises(
        NotANumberError, match=r"loss is nan after batch 3.*last\.keras"
    ):
        trainer.fit(light(), Poisoned())
    module = light()
    clean, mended = kd.Trainer(2, default_root_dir=tmp_path), Poisoned()
    mended.poison = 1.0
    clean.fit(module, mended, ckpt_path=trainer.checkpoint_callback.last_model_path)
    assert np.isfinite(
        np.concatenate([w.ravel() for w in module.model.get_weights()])
    ).all()


def test_the_logs_have_the_learning_rate(trainer):
    trainer.fit(light(), Blobs())
    with (trainer.log_dir / "metrics.csv").open() as file:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    # After 4, 8, 12 and 16 of 16 steps; the rate drops at 8 and 12.
    assert rates == pytest.approx([0.1, 0.01, 0.001, 0.001])


def test_what_lightning_users_look_at(trainer, tmp_path):
    assert (trainer.global_step, trainer.callback_metrics) == (0, {})
    module = light()
    history = trainer.fit(module, Blobs()).history
    assert trainer.global_step == trainer.estimated_stepping_batches == 16
    assert (trainer.current_epoch, trainer.num_training_batches) == (3, 4)
    assert trainer.callback_metrics["loss"] == history["loss"][-1]
    assert (trainer.world_size, trainer.global_rank) == (1, 0)
    assert trainer.is_global_zero
    path = trainer.save_checkpoint(tmp_path / "mine.keras")
    other = light()
    more = kd.Trainer(max_epochs=5, default_root_dir=tmp_path)
    more.fit(other, Blobs(), ckpt_path=path)
    assert more.global_step == 20


def test_the_module_s_callbacks_are_called(trainer):
    class Watched(kd.ImageClassifier):
        def configure_callbacks(self):
            return [keras.callbacks.EarlyStopping("loss", patience=0, min_delta=1000)]

    trainer.fit(Watched(linear), Blobs())
    assert trainer.current_epoch == 1  # the second epoch is not better by 1000


# --- MirroredStrategy over two logical CPU devices --------------------------------


def losses_of_a_run(tmp_path, copies, **options):
    keras.utils.set_random_seed(1)
    trainer = kd.Trainer(max_epochs=3, default_root_dir=tmp_path, **options)
    module = classifier()
    data = Blobs(batch_size=16, copies=copies)
    history = trainer.fit(module, data).history
    return trainer, module, data, [*history["loss"], *history["val_loss"]]


@pytest.mark.slow
def test_two_replicas_give_the_losses_of_one_device(tmp_path):
    """Each replica sees the batch that the one device sees.

    A BN takes the moments of its replica's pictures. So both replicas get the same 16
    pictures: what is compared is the loss's scaling, the reduction of gradients, the
    optimizer, the moving statistics, and validation with a partial last batch.
    """
    *_, one = losses_of_a_run(tmp_path / "one", 1, strategy="none")
    trainer, module, data, two = losses_of_a_run(
        tmp_path / "two", 2, strategy="mirrored", devices=2
    )
    assert trainer.num_devices == 2
    np.testing.assert_allclose(two, one, rtol=1e-4)
    alone = kd.Trainer(default_root_dir=tmp_path)
    assert alone.test(module, data) == pytest.approx(
        trainer.test(module, data), rel=1e-4
    )


@pytest.mark.slow
def test_two_replicas_with_synchronized_bn_give_the_losses_of_one_device(tmp_path):
    """Each replica sees half of the batch that the one device sees."""
    losses, statistics = [], []
    for strategy, devices in (("none", 1), ("mirrored", 2)):
        keras.utils.set_random_seed(1)
        trainer = kd.Trainer(
            3, strategy=strategy, devices=devices, default_root_dir=tmp_path
        )
        module = classifier(sync_batchnorm=True)
        losses.append(trainer.fit(module, Blobs()).history["loss"])
        statistics.append(module.model.get_layer("final_bn").moving_variance.numpy())
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    np.testing.assert_allclose(statistics[1], statistics[0], rtol=1e-3)


@pytest.mark.slow
def test_replicas_agree_on_the_moving_statistics_that_are_saved(tmp_path):
    """Each replica's batches are its own; after an epoch all have the mean."""
    trainer = kd.Trainer(1, strategy="mirrored", default_root_dir=tmp_path)
    module = classifier()
    trainer.fit(module, Blobs())
    means = module.model.get_layer("final_bn").moving_mean
    first, second = trainer.strategy.experimental_local_results(means.value)
    assert np.abs(first).max() > 0.0
    np.testing.assert_array_equal(first, second)
    saved = keras.saving.load_model(trainer.checkpoint_callback.last_model_path)
    np.testing.assert_array_equal(saved.get_layer("final_bn").moving_mean, first)


@pytest.mark.slow
def test_frozen_statistics_two_replicas_share_a_batch_of_one_device(tmp_path):
    """With moving statistics every picture counts alone, so batches may be split."""
    losses = []
    for strategy, devices in (("none", 1), ("mirrored", 2)):
        keras.utils.set_random_seed(1)
        trainer = kd.Trainer(
            3, strategy=strategy, devices=devices, default_root_dir=tmp_path
        )
        with trainer.scope():
            model = kd.DenseNetBC(10, 4, classes=2, input_shape=(8, 8, 1))
            for layer in model._flatten_layers():
                if isinstance(layer, kd.layers.BatchNorm):
                    layer.trainable = False
            model.compile("sgd", "sparse_categorical_crossentropy")
        losses.append(trainer.fit(model, Blobs()).history["loss"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def test_five_pictures_are_tested_by_two_replicas_as_by_one(tmp_path):
    data = Blobs(batch_size=4, val=False)
    data.test_dataset = lambda: data._in_order(2, 5)
    alone = kd.Trainer(1, default_root_dir=tmp_path)
    alone.fit(light(), data)
    ckpt = alone.checkpoint_callback.last_model_path
    two = kd.Trainer(1, strategy="mirrored", devices=2, default_root_dir=tmp_path)
    expected = pytest.approx(alone.test(light(), data, ckpt_path=ckpt), rel=1e-5)
    assert two.test(light(), data, ckpt_path=ckpt) == expected


# --- what is refused -------------------------------------------------------------


def outside_model():
    model = kd.DenseNetBC(10, 4, classes=2, input_shape=(8, 8, 1))
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def forgets_return(classes, input_shape):
    linear(classes, input_shape)


def uncompiled_model():
    return kd.DenseNetBC(10, 4, classes=2, input_shape=(8, 8, 1))


class Unknown(Blobs):
    def train_dataset(self):
        return super().train_dataset().filter(lambda images, labels: True)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: kd.Trainer(1, strategy="horovod"), ["'horovod'", "'mirrored'"]),
        (lambda: kd.Trainer(1, strategy="none", devices=2), ["devices=1"]),
        (lambda: kd.Trainer(1, devices=99), ["devices=99", "has 2 CPU"]),
        (lambda: kd.Trainer(1, devices="all"), ["devices='all'"]),
        (lambda: kd.Trainer(1, accelerator="tpu"), ["'tpu'", "'gpu'"]),
        (lambda: kd.Trainer(1, accelerator="gpu"), ["no GPU", "'auto'"]),
        (lambda: kd.Trainer(1, max_steps=0), ["max_steps=0", "-1"]),
        (lambda: kd.Trainer("3"), ["a whole number", "max_epochs='3'"]),
        (lambda: kd.Trainer(2.5), ["a whole number", "max_epochs=2.5"]),
        (lambda: kd.Trainer(1, gradient_clip_val="1"), ["gradient_clip_val='1'"]),
        (
            lambda: kd.Trainer(1, callbacks=[keras.callbacks.EarlyStopping]),
            ["Make one of it: EarlyStopping(...)"],
        ),
        (
            lambda: kd.ImageClassifier(outside_model()),
            ["the function that makes", "the model densenet_bc_10_4"],
        ),
        (lambda: kd.ImageClassifier("DenseNetBC"), ["Received: 'DenseNetBC'"]),
        (lambda: classifier(learning_rate="0.1"), ["learning_rate='0.1'"]),
        (lambda: classifier(learning_rate=-0.1), ["0 or more", "learning_rate=-0.1"]),
        (lambda: classifier(momentum=1.5), ["[0, 1)", "momentum=1.5"]),
        (lambda: classifier(weight_decay=-1.0), ["weight_decay=-1.0"]),
        (lambda: classifier(milestones=(150, 225)), ["shares", "(150, 225)"]),
        (lambda: classifier(milestones=0.5), ["rising", "milestones=0.5"]),
        (lambda: classifier(milestones=(0.75, 0.5)), ["rising", "(0.75, 0.5)"]),
        (
            lambda: kd.Trainer(1).fit(kd.ImageClassifier(forgets_return), Blobs()),
            ["forgets_return must return a keras.Model", "NoneType"],
        ),
        (lambda: kd.Tuner(Blobs()), ["kd.Tuner(kd.Trainer(", "Received: Blobs"]),
        (lambda: kd.Trainer(1, max_time="12h"), ["'12h'", "DD:HH:MM:SS"]),
        (lambda: kd.Trainer(1, max_time={"hour": 1}), ["hour", "timedelta"]),
        (lambda: kd.Trainer(1, limit_val_batches=1.5), ["limit_val_batches=1.5"]),
        (lambda: kd.Trainer(1, limit_train_batches=0), ["trainer.validate"]),
        (lambda: kd.Trainer(1, overfit_batches=-1), ["overfit_batches=-1"]),
        (lambda: kd.Trainer(1, steps_per_execution=0), ["steps_per_execution=0"]),
        (lambda: kd.Trainer(1, gradient_clip_val=-1.0), ["gradient_clip_val=-1.0"]),
        (lambda: kd.Trainer(1, gradient_clip_algorithm="l2"), ["'l2'", "'value'"]),
        (lambda: kd.Trainer(1, jit_compile="yes"), ["'yes'"]),
        (lambda: kd.Trainer(1, jit_compile=True, run_eagerly=True), ["run_eagerly"]),
        (lambda: kd.Trainer(1, jit_compile=True, detect_anomaly=True), ["anomaly"]),
        (
            lambda: kd.Trainer(1, run_eagerly=True, steps_per_execution=2),
            ["steps_per_execution=2"],
        ),
        (
            lambda: kd.Trainer(1, precision="16-mixed", accumulate_grad_batches=2),
            ["bf16-mixed"],
        ),
        (
            lambda: kd.Trainer(1, strategy="mirrored", jit_compile=True),
            ["jit_compile"],
        ),
        (
            lambda: kd.Trainer(1, gradient_clip_val=1.0).fit(outside_model(), Blobs()),
            ["compiled yourself"],
        ),
        (
            lambda: kd.Trainer(1, steps_per_execution=9).fit(classifier(), Blobs()),
            ["4 steps", "steps_per_execution=9"],
        ),
        (
            lambda: kd.Trainer(1, sync_batchnorm=True).fit(
                kd.ImageClassifier(linear), Blobs()
            ),
            ["sync_batchnorm", "linear has"],
        ),
        (lambda: kd.Trainer(1).save_checkpoint("x.keras"), ["needs a fit"]),
        (lambda: kd.Trainer(1, precision="8-bit"), ["'8-bit'", "bf16-mixed"]),
        (lambda: kd.Trainer(0), ["max_epochs=0"]),
        (lambda: kd.Trainer().fit(classifier(), Blobs()), ["max_epochs"]),
        (
            lambda: kd.Trainer(1, strategy="mirrored").fit(outside_model(), Blobs()),
            ["trainer.scope()"],
        ),
        (lambda: kd.Trainer(1).fit(uncompiled_model(), Blobs()), ["model.compile"]),
        (
            lambda: kd.Trainer(1, strategy="mirrored").fit(classifier(), Blobs(15)),
            ["batch of 15", "multiple of 2"],
        ),
        (lambda: kd.Trainer(1).fit(classifier(), Unknown()), ["assert_cardinality"]),
        (lambda: kd.Trainer(1).test(classifier(), Blobs()), ["not trained yet"]),
        (
            lambda: kd.Trainer(1).test(classifier(), Blobs(), ckpt_path="best"),
            ["no last checkpoint"],
        ),
        (
            lambda: kd.Trainer(1).test(classifier(), Blobs(), ckpt_path="no.keras"),
            ["no checkpoint no.keras"],
        ),
        (
            lambda: kd.Trainer(1).test(classifier(), Blobs(), ckpt_path="latest"),
            ["no checkpoint latest. Did you mean 'last'?"],
        ),
        (
            lambda: kd.Trainer(1).test(classifier(), Blobs(), ckpt_path="."),
            [". is a folder, and no checkpoint: give a .keras file"],
        ),
        (
            lambda: kd.Trainer(1).validate(outside_model(), Blobs(val=False)),
            ["Blobs has no such pictures"],
        ),
        (lambda: kd.Trainer(1).export(outside_model(), "x"), ["datamodule="]),
        (lambda: kd.Trainer(1).fit(classifier(classes=3), Blobs()), ["classes=3"]),
        (lambda: classifier(dept=10), ["no option dept", "depth"]),
    ],
)
def test_what_cannot_work_is_refused(act, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MisconfigurationError) as error:
        act()
    for word in words:
        assert word in str(error.value)


def test_a_damaged_or_foreign_checkpoint_is_named(trainer, tmp_path):
    damaged = tmp_path / "damaged.keras"
    damaged.write_bytes(b"half a file")
    with pytest.raises(MisconfigurationError, match="damaged"):
        trainer.test(classifier(), Blobs(), ckpt_path=str(damaged))
    foreign = tmp_path / "foreign.keras"
    kd.DenseNetBC(16, 4, classes=2, input_shape=(8, 8, 1)).save(foreign)
    with pytest.raises(MisconfigurationError, match="does not fit"):
        trainer.test(classifier(), Blobs(), ckpt_path=str(foreign))


def test_resuming_with_another_batch_size_is_refused(trainer):
    trainer.fit(light(), Blobs(batches=4))
    with pytest.raises(MisconfigurationError, match="batches was 4 and is 3"):
        trainer.fit(light(), Blobs(batches=3), ckpt_path="last")


def test_a_finished_run_is_loaded_and_not_trained(trainer, capsys):
    """So that a script that was interrupted after its training goes on to its end."""
    module, again = light(), light()
    trainer.fit(module, Blobs())
    history = trainer.fit(again, Blobs(), ckpt_path="last")
    assert history.history == {}
    assert (
        "Nothing is left to train: max_epochs=4 reached. Raise"
        in capsys.readouterr().out
    )
    for ours, theirs in zip(
        again.model.get_weights(), module.model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_the_best_of_the_latest_run_in_a_new_trainer(tmp_path):
    """The file that the first trainer calls its best, though the last is another."""
    first = kd.Trainer(3, default_root_dir=tmp_path)
    module = light()
    first.fit(module, Blobs())
    best = first.validate(module, Blobs(), ckpt_path="best")
    second = kd.Trainer(3, default_root_dir=tmp_path)
    assert second.validate(light(), Blobs(), ckpt_path="best") == best
    assert best["accuracy"] == pytest.approx(first.checkpoint_callback.best_model_score)


def test_checkpoints_in_a_folder_of_ones_own_are_found(tmp_path):
    trainer = kd.Trainer(
        1,
        default_root_dir=tmp_path,
        callbacks=ModelCheckpoint(tmp_path / "mine", monitor="val_loss"),
    )
    trainer.fit(light(), Blobs())
    again = kd.Trainer(
        2, default_root_dir=tmp_path, callbacks=ModelCheckpoint(tmp_path / "mine")
    )
    again.fit(light(), Blobs(), ckpt_path="last")
    assert again.global_step == 8


def test_two_fits_keep_their_checkpoints_apart(tmp_path):
    trainer = kd.Trainer(1, default_root_dir=tmp_path, callbacks=[ModelCheckpoint()])
    folders = []
    for _ in range(2):
        trainer.fit(light(), Blobs())
        folders.append(trainer.checkpoint_callback.dirpath)
        config = yaml.safe_load((trainer.log_dir / "config.yaml").read_text())
        (described,) = config["trainer"]["callbacks"]
        assert described["init_args"]["dirpath"] is None
    assert [folder.parent.name for folder in folders] == ["version_0", "version_1"]


def test_averaged_weights_are_what_a_checkpoint_is_tested_on(tmp_path):
    """`best_model_score` is of the averages, which are what is validated."""
    trainer = kd.Trainer(
        3, default_root_dir=tmp_path, callbacks=[keras.callbacks.SwapEMAWeights()]
    )
    with trainer.scope():
        model = kd.DenseNetBC(10, 4, classes=2, input_shape=(8, 8, 1))
        model.compile(
            keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
    history = trainer.fit(model, Blobs()).history
    found = trainer.validate(model, Blobs(), ckpt_path="last")
    assert found["loss"] == pytest.approx(history["val_loss"][-1], rel=1e-5)


def test_a_run_that_a_callback_ended_is_not_trained_on(tmp_path, capsys):
    def stopping():
        return keras.callbacks.EarlyStopping("loss", patience=0, min_delta=1000)

    first = kd.Trainer(9, default_root_dir=tmp_path, callbacks=stopping())
    first.fit(light(), Blobs())
    assert first.global_step == 8  # the second epoch is not better by 1000
    second = kd.Trainer(9, default_root_dir=tmp_path, callbacks=stopping())
    second.fit(light(), Blobs(), ckpt_path="last")
    assert "a callback ended it" in capsys.readouterr().out
    # But what max_steps has ended goes on with more of them.
    kd.Trainer(9, max_steps=5, default_root_dir=tmp_path / "m").fit(light(), Blobs())
    more = kd.Trainer(9, max_steps=7, default_root_dir=tmp_path / "m")
    more.fit(light(), Blobs(), ckpt_path="last")
    assert more.global_step == 7


def test_a_share_of_what_has_no_known_size_is_refused(tmp_path):
    class Unknown(Blobs):
        def val_dataset(self):
            return super().val_dataset().filter(lambda images, labels: True)

    trainer = kd.Trainer(1, default_root_dir=tmp_path, limit_val_batches=0.5)
    with pytest.raises(MisconfigurationError, match="whose size is not known"):
        trainer.fit(light(), Unknown())


def test_a_full_disk_at_the_last_save_says_so(tmp_path, monkeypatch):
    trainer = kd.Trainer(1, default_root_dir=tmp_path)

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(
        "keras_densenet.callbacks.model_checkpoint.write_checkpoint", full
    )
    with (
        pytest.warns(UserWarning, match="No space left"),
        pytest.raises(OSError, match="Is there space left"),
    ):
        trainer.fit(light(), Blobs())
    assert (trainer.log_dir / "metrics.csv").exists()


def test_a_failed_resumption_leaves_the_model_whole(tmp_path):
    class Fails(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            raise RuntimeError("mine")

    def model(trainer):
        with trainer.scope():
            network = linear(2, (8, 8, 1))
            network.compile("sgd", "sparse_categorical_crossentropy")
        return network

    first = kd.Trainer(2, max_steps=2, default_root_dir=tmp_path)
    first.fit(model(first), Blobs(), None)
    second = kd.Trainer(2, default_root_dir=tmp_path, callbacks=[Fails()])
    network = model(second)
    with pytest.raises(RuntimeError, match="mine"):
        second.fit(network, Blobs(), ckpt_path="last")
    network.fit(Blobs().train_dataset(), shuffle=False, verbose=0)
    assert int(network.optimizer.iterations) == 2 + 4


def test_what_lightning_users_type(tmp_path):
    trainer = kd.Trainer(
        max_steps=6,
        callbacks=None,
        logger=None,
        precision="bf16",
        devices=1,
        gradient_clip_val=0,
        default_root_dir=tmp_path,
    )
    trainer.fit(light(), Blobs())  # 4 steps an epoch: two epochs
    assert (trainer.max_epochs, trainer.global_step) == (None, 6)  # flags stay
    assert trainer.model.compute_dtype == "bfloat16"
    assert not trainer.interrupted
    assert kd.Trainer(1, devices=-1, strategy="mirrored").num_devices == 2


def test_none_is_the_default_as_in_lightning(tmp_path):
    none = ("enable_checkpointing", "enable_progress_bar", "limit_val_batches")
    numbers = ("log_every_n_steps", "num_sanity_val_steps", "accumulate_grad_batches")
    options = dict.fromkeys((*none, *numbers, "precision", "deterministic"))
    trainer = kd.Trainer(1, default_root_dir=tmp_path, **options)
    trainer.fit(light(), Blobs())
    assert list(tmp_path.glob("runs/*/*/checkpoints/last.keras"))  # Lightning's default


@pytest.mark.parametrize(
    ("flag", "value", "text"),
    [
        ("check_val_every_n_epoch", None, "must be a whole number"),
        ("deterministic", "warn", "must be True or False"),
        ("enable_checkpointing", "yes", "must be True or False"),
    ],
)
def test_what_lightning_means_otherwise_is_refused(flag, value, text):
    with pytest.raises(MisconfigurationError, match=f"{flag} {text}"):
        kd.Trainer(1, **{flag: value})


def test_data_that_store_their_labels_as_labels_are_refused(trainer):
    class Mine(Blobs):
        def setup(self, stage):
            super().setup(stage)
            self.labels = np.zeros(16)

    with pytest.raises(MisconfigurationError, match=r"Mine.labels says .* ndarray"):
        trainer.fit(light(), Mine())


def test_best_without_validation_says_last(trainer):
    module, data = light(), Blobs(val=False)
    trainer.fit(module, data)
    with pytest.raises(MisconfigurationError, match="ckpt_path='last'"):
        trainer.test(module, data, ckpt_path="best")
