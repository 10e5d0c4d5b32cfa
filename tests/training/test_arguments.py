"""What a trainer's methods take: by place and by name, and what they say to others."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from linear_network import linear

import keras_densenet as kd
from keras_densenet.training import MisconfigurationError
from keras_densenet.training.arguments import data_of, module_of

RNG = np.random.default_rng(0)
LABELS = np.arange(24) % 2
IMAGES = RNG.integers(0, 100, (24, 4, 4, 1)) + 100 * LABELS[:, None, None, None]


def classifier():
    return kd.ImageClassifier(linear)


def batches(size=8):
    both = (np.float32(IMAGES / 100 - 1), LABELS)
    return tf.data.Dataset.from_tensor_slices(both).batch(size)


@pytest.fixture
def trainer(tmp_path):
    return kd.Trainer(
        2, default_root_dir=tmp_path, enable_progress_bar=False, logger=False
    )


def test_arrays_are_trained_on_and_the_rest_is_remembered(trainer):
    module = classifier()
    history = trainer.fit(model=module, datamodule=(IMAGES, LABELS)).history
    assert set(history) >= {"loss", "accuracy"}
    assert "val_loss" not in history
    assert trainer.num_training_batches == 1  # 24 pictures do not fill a batch of 64
    history = trainer.fit(module, (IMAGES, LABELS), (IMAGES[:5], LABELS[:5])).history
    tested = trainer.test(datamodule=(IMAGES[:5], LABELS[:5]))
    assert tested["loss"] == pytest.approx(history["val_loss"][-1])
    assert all(type(value) is float for value in tested.values())
    expected = trainer.predict(datamodule=IMAGES)
    assert expected.shape == (24, 2)
    # What is given to one method is not what another one takes.
    assert trainer.test() == trainer.validate() == tested
    assert trainer.validate(datamodule=(IMAGES, LABELS)) != tested
    assert trainer.test(ckpt_path="last") == tested
    np.testing.assert_array_equal(trainer.predict(), expected)
    logged = trainer.logged_metrics
    assert logged == trainer.callback_metrics
    assert all(type(value) is float for value in logged.values())


@pytest.mark.slow
def test_what_was_trained_is_reported_on_and_exported(trainer):
    trainer.fit(classifier(), kd.data.Arrays(IMAGES, LABELS, 8, validation_split=0.5))
    assert trainer.report().name == "report.html"
    assert trainer.export(path=trainer.default_root_dir / "x.onnx", format="onnx")


def test_datasets_are_trained_on(trainer):
    module = classifier()
    for given in (
        ((module, batches(), batches(6)), {}),
        ((module,), {"train_dataloaders": batches(), "val_dataloaders": batches(6)}),
    ):
        history = trainer.fit(*given[0], **given[1]).history
        assert "val_loss" in history
        assert trainer.num_training_batches == 3
    tested = trainer.test(dataloaders=batches(6))
    assert tested["loss"] == pytest.approx(history["val_loss"][-1])
    assert trainer.predict(datamodule=batches().map(lambda x, y: x)).shape == (24, 2)
    for method in (trainer.export, trainer.report):
        with pytest.raises(MisconfigurationError, match="mean="):
            method(path="x")


def test_data_are_torn_down_after_an_error(trainer):
    class Data(kd.data.Arrays):
        torn_down = ()

        def teardown(self, stage):
            super().teardown(stage)
            self.torn_down += (stage,)

        def val_dataset(self):
            raise OSError("gone")

    data = Data(IMAGES, LABELS, 8, test_data=(IMAGES, LABELS))
    with pytest.raises(OSError, match="gone"):
        trainer.fit(classifier(), data)
    with pytest.raises(MisconfigurationError, match="not trained"):
        trainer.test(classifier(), data)
    assert data.torn_down == ("fit", "test")


DIGITS = kd.data.Digits(batch_size=64)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda t: t.fit(), "fit needs a module"),
        (lambda t: t.fit(classifier()), "fit needs data"),
        (lambda t: t.test(), "needs a module: .*call fit before"),
        (lambda t: t.validate(classifier()), "needs data, .*call fit before"),
        (lambda t: t.export(path="x"), "export needs a module"),
        (lambda t: t.export(classifier(), "x"), "export needs data"),
        (lambda t: t.export(classifier(), datamodule=DIGITS), "needs to know where"),
        (lambda t: t.export("served"), r"trainer.export\(path='served'\)"),
        (lambda t: t.report(), "report needs a module"),
        (lambda t: t.fit(DIGITS, classifier()), "Received: a Digits. Data come second"),
        (lambda t: t.fit(kd.DenseNetBC, DIGITS), r"ImageClassifier\(DenseNetBC, "),
        (lambda t: t.fit(kd.ImageClassifier, DIGITS), "Make one of it: ImageClassif"),
        (lambda t: t.fit(keras.Sequential, DIGITS), "Make and compile one of it"),
        (lambda t: t.fit("densenet121", DIGITS), "Received: 'densenet121'"),
        (lambda t: t.fit(classifier(), kd.data.Digits), "the class Digits. Make one"),
        (lambda t: t.fit(classifier(), "flowers"), r"ImageFolder\('flowers'\)"),
        (lambda t: t.predict(classifier(), "a.png"), r"Pictures\('a.png', like=data\)"),
        (lambda t: t.fit(classifier(), IMAGES, LABELS), "takes as its data|ckpt_path"),
        (lambda t: t.fit(classifier(), IMAGES), "Give both in one: .*images, labels"),
        (lambda t: t.fit(classifier(), (n for n in LABELS)), "from_generator"),
        (lambda t: t.fit(classifier(), DIGITS, True), "'last', 'best' or None.*True"),
        (lambda t: t.fit(classifier(), DIGITS, batches()), "its own pictures to valid"),
        (lambda t: t.fit(classifier(), DIGITS, ckpt_path=""), "Received: ''"),
        (lambda t: t.test(classifier(), DIGITS, 3), r"test\(ckpt_path=\).*Received: 3"),
        (lambda t: t.test(classifier(), (IMAGES, LABELS)), "Arrays must be standardi"),
        (
            lambda t: t.fit(classifier(), DIGITS, model=classifier()),
            "module= and model=",
        ),
        (
            lambda t: t.test(classifier(), DIGITS, dataloaders=batches()),
            "dataloaders=: leave one out",
        ),
    ],
)
def test_other_kinds_are_named_with_what_is_expected(trainer, call, said):
    with pytest.raises(MisconfigurationError, match=said):
        call(trainer)


def test_each_form_becomes_what_it_stands_for():
    module, both = classifier(), (IMAGES, LABELS)
    assert module_of("test", None, None, module) is module
    made = data_of("fit", datamodule=both, dataloaders=None, validation=both)
    assert (type(made), made.batch_size) == (kd.data.Arrays, 24)
    made.mean = (1.0,)
    tested = data_of("test", datamodule=both, dataloaders=None, remembered=made)
    assert (tested.mean, tested.num_classes) == ((1.0,), 2)
    other = data_of(
        "predict",
        datamodule=np.zeros((3, 32, 32, 3)),
        dataloaders=None,
        remembered=DIGITS,
    )
    other.setup("predict")
    assert (other.mean, other.num_classes) == (DIGITS.mean, 10)
    assert [len(batch) for batch in other.predict_dataset()] == [3]
    assert other.test_dataset() is None
    given = data_of("fit", datamodule=batches(), dataloaders=None)
    tested = data_of("test", datamodule=batches(4), dataloaders=None, remembered=given)
    assert tested.num_classes == 2  # counted in those that it is trained on
    assert data_of("test", datamodule=None, dataloaders=None, remembered=made) is made


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((kd.DenseNetBC, DIGITS), r"ImageClassifier\(DenseNetBC, "),
        ((DIGITS, classifier()), "Data come second"),
        ((classifier(), kd.data.Digits), "Make one of it"),
        ((classifier(), (IMAGES, LABELS)), "kd.data.Arrays"),
        ((classifier(), batches()), "kd.data.Datasets"),
    ],
)
def test_a_tuner_names_other_kinds_too(arguments, said):
    tuner = kd.Tuner(kd.Trainer(1))
    for method in (tuner.lr_find, tuner.scale_batch_size):
        with pytest.raises(MisconfigurationError, match=said):
            method(*arguments)
