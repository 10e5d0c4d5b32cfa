"""Decisions: chosen by the validation pictures, kept, and what is served by them."""

import errno
import json
from unittest.mock import Mock

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from linear_network import linear

import keras_densenet as kd
from keras_densenet import checkpoint_file
from keras_densenet.command_line.stages import Made, predict
from keras_densenet.decisions import Decisions, decisions_of, keep_decisions
from keras_densenet.export.inference import inference_network
from keras_densenet.one_owner import held_alone
from keras_densenet.training import MisconfigurationError

QUIET = {"enable_progress_bar": False, "enable_model_summary": False}


class Blocks(kd.data.DigitMosaics):
    """A few mosaics of 8x8; what is there to test has other labels."""

    input_shape = (8, 8, 1)

    def load_splits(self, stage):
        splits = super().load_splits(stage)
        return {
            name: type(split)(split.images[:96, ::4, ::4], split.labels[:96])
            for name, split in splits.items()
        }


def classifier(**options):
    return kd.ImageClassifier(linear, learning_rate=0.01, **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    trainer = kd.Trainer(max_epochs=1, default_root_dir=folder, **QUIET)
    module, data = classifier(), Blocks(batch_size=32, seed=0)
    trainer.fit(module, datamodule=data)
    return trainer, module, data


def of_split(data, name):
    data.setup("fit" if name == "val" else name)
    dataset = getattr(data, f"{name}_dataset")()
    return map(np.concatenate, zip(*dataset.as_numpy_iterator(), strict=True))


def test_the_validation_pictures_alone_decide(trained):
    """Of each label nine of ten that have it are found, and no threshold is higher."""
    trainer, module, data = trained
    decisions = trainer.calibrate(
        module, data, rule="sensitivity=0.9", temperature=False
    )
    images, labels = of_split(data, "val")
    shares = module.model.predict(images, verbose=0)
    assert (decisions.pictures, decisions.class_names) == (96, tuple("0123456789"))
    for number, least in enumerate(decisions.thresholds):
        ordered = np.sort(shares[labels[:, number] == 1, number])[::-1]
        needed = int(np.ceil(0.9 * len(ordered) - 1e-9))
        assert ordered[needed - 1] >= least
        assert ordered[needed - 1] == min(x for x in ordered if x >= least)
    assert decisions_of(module.model) == decisions


def test_predictions_are_at_the_temperatures(trained):
    trainer, module, data = trained
    decisions = kd.calibrate(module, data)
    images, _ = of_split(data, "test")
    shares = module.model.predict(images, verbose=0).astype("float64")
    logits = np.log(shares / (1 - shares))
    expected = 1 / (1 + np.exp(-logits / decisions.temperatures))
    found = trainer.predict(module, datamodule=data)
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_command_writes_what_is_decided(trained, tmp_path):
    trainer, module, data = trained
    decisions = kd.calibrate(module, data)
    predict(Made(trainer, module, data), predictions=str(tmp_path / "p.csv"))
    table = pd.read_csv(tmp_path / "p.csv")
    shares = trainer.predict(module, datamodule=data)
    assert len(table) == 96
    np.testing.assert_array_equal(table["3"], decisions.given(shares)[:, 3])
    np.testing.assert_allclose(table["probability of 3"], shares[:, 3], rtol=1e-6)


def test_a_checkpoint_keeps_them(trained, tmp_path):
    trainer, module, data = trained
    decisions = kd.calibrate(module, data, "f1")
    saved = trainer.save_checkpoint(tmp_path / "calibrated.keras")
    other = kd.Trainer(default_root_dir=tmp_path, **QUIET)
    again = classifier()
    expected = trainer.predict(module, datamodule=data)
    found = other.predict(again, datamodule=data, ckpt_path=saved)
    np.testing.assert_array_equal(found, expected)
    assert decisions_of(again.model) == decisions


def test_a_checkpoint_that_is_calibrated_gets_them(trained, tmp_path, capsys):
    trainer, _, data = trained
    path = trainer.checkpoint_callback.last_model_path
    again = classifier()
    decisions = kd.calibrate(again, data, "f1", ckpt_path=path)
    other = kd.Trainer(default_root_dir=tmp_path, **QUIET)
    later = classifier()
    other.test(later, datamodule=data, ckpt_path=path)
    assert decisions_of(later.model) == decisions
    best = trainer.checkpoint_callback.best_model_path
    other.test(later, datamodule=data, ckpt_path=best)
    assert decisions_of(later.model) is None  # these were not chosen for its weights
    # The checkpoint can still be resumed from: all else is as it was.
    more = kd.Trainer(max_epochs=2, default_root_dir=tmp_path, **QUIET)
    more.fit(classifier(), datamodule=data, ckpt_path=path)
    assert "after epoch 1" in capsys.readouterr().out


def test_the_report_is_at_the_temperatures_and_thresholds(trained, tmp_path):
    """A label that is never given has a sensitivity of 0."""
    trainer, module, data = trained
    chosen = Decisions(tuple("0123456789"), (np.inf,) * 10, (2.0,) * 10, "x", True, 7)
    keep_decisions(module.model, chosen)
    page = trainer.report(module, data, path=tmp_path / "page.html").read_text()
    keep_decisions(module.model, None)
    assert "chosen by 7 validation pictures, and by x." in page
    assert page.count(">never<") == 10


def test_other_weights_have_no_decisions(trained, capsys):
    trainer, module, data = trained
    kd.calibrate(module, data)
    module.model.weights[-1].assign_add(np.full(10, 1e-3))
    shares = module.model.predict(next(of_split(data, "test")), verbose=0)
    np.testing.assert_array_equal(trainer.predict(module, datamodule=data), shares)
    assert "chosen for other weights" in capsys.readouterr().out


@pytest.mark.slow
def test_what_is_served_decides_as_the_report_does(trained, tmp_path):
    trainer, module, data = trained
    decisions = trainer.calibrate(module, data, rule="youden")
    version = trainer.export(module, tmp_path / "saved")
    images, _ = of_split(data, "test")
    raw = images * np.float32(data.std) + np.float32(data.mean)
    served = tf.saved_model.load(str(version)).signatures["serve"]
    answer = served(images=tf.constant(raw.round(), tf.float32))
    shares = trainer.predict(module, datamodule=data)
    np.testing.assert_allclose(answer["probabilities"], shares, atol=1e-5)
    np.testing.assert_array_equal(answer["decisions"], decisions.given(shares))
    facts = json.loads((version / "assets.extra" / "export.json").read_text())
    assert facts["decisions"]["thresholds"] == list(decisions.thresholds)
    assert facts["decisions"]["class_names"] == list("0123456789")
    outputs = facts["signatures"]["predict_bytes"]["outputs"]
    assert outputs["decisions"] == {"dtype": "bool", "shape": [None, 10]}


@pytest.mark.slow
@pytest.mark.parametrize(("to", "name"), [("onnx", "m.onnx"), ("litert", "m.tflite")])
def test_other_formats_decide_likewise(trained, tmp_path, to, name):
    trainer, module, data = trained
    decisions = trainer.calibrate(module, data)
    path = trainer.export(module, tmp_path / name, format=to)
    images, _ = of_split(data, "test")
    raw = (images * np.float32(data.std) + np.float32(data.mean)).round()[:1]
    if to == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        (found,) = session.run(["decisions"], {"images": raw.astype("float32")})
    else:
        from ai_edge_litert.interpreter import Interpreter

        runner = Interpreter(str(path)).get_signature_runner("serving_default")
        found = runner(images=raw.astype("float32"))["decisions"]
    shares = trainer.predict(module, datamodule=data)[:1]
    np.testing.assert_array_equal(found, decisions.given(shares))


def test_a_model_of_ones_own_and_one_class_a_picture(tmp_path):
    data = kd.data.Digits(batch_size=256, seed=0)
    trainer = kd.Trainer(default_root_dir=tmp_path, **QUIET)
    model = linear(10, data.input_shape)
    decisions = trainer.calibrate(model, data)
    (temperature,) = set(decisions.temperatures)
    images, labels = of_split(data, "val")
    logits = np.log(model.predict(images, verbose=0).astype("float64"))
    rows = np.arange(len(labels))

    def loss(t):
        scaled = logits / t
        return (np.log(np.exp(scaled).sum(axis=1)) - scaled[rows, labels]).mean()

    assert loss(temperature) <= min(loss(temperature * 0.9), loss(temperature * 1.1))
    assert trainer.predict(model, datamodule=data).sum(axis=1) == pytest.approx(1)


@pytest.mark.parametrize(
    ("labels", "activation"), [("one", "softmax"), ("several", "sigmoid")]
)
def test_means_of_probabilities_are_no_probabilities_of_mean_logits(
    tmp_path, labels, activation
):
    """At temperatures of 1 the answers are those of before: a mean over all places."""
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(16, 8, 8, 1)).astype("float32")
    has = np.arange(16) % 3
    has = np.eye(3)[has] if labels == "several" else has
    split = tf.data.Dataset.from_tensor_slices((pictures, has)).batch(16)
    facts = {"num_classes": 3, "mean": (0.0,), "std": (1.0,), "labels": labels}
    data = kd.data.Datasets(split, split, split, **facts)
    sharp = keras.initializers.RandomNormal(stddev=9.0, seed=0)  # some are 0 and 1
    network = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(3, 3, activation=activation, kernel_initializer=sharp),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    trainer = kd.Trainer(default_root_dir=tmp_path, **QUIET)
    before = trainer.predict(network, datamodule=data)
    trainer.calibrate(network, data, temperature=False)
    found = trainer.predict(network, datamodule=data)
    np.testing.assert_allclose(found, before, atol=1e-6)
    if activation == "softmax":  # served they are logarithms, of 0, too
        logits = inference_network(network).answers(pictures)["logits"]
        assert np.isfinite(logits).all()
        np.testing.assert_allclose(tf.nn.softmax(logits), before, atol=1e-5)


def test_a_checkpoint_that_cannot_keep_them_stays_as_it_was(
    trained, tmp_path, monkeypatch
):
    trainer, module, data = trained
    path = trainer.save_checkpoint(tmp_path / "mine.keras")
    before = path.read_bytes()
    with (
        held_alone([tmp_path]),
        pytest.raises(MisconfigurationError, match="calibrate a copy of the checkp"),
    ):
        trainer.calibrate(module, data, path)
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(checkpoint_file, "flush", Mock(side_effect=full))
    with pytest.raises(OSError, match=r"mine.keras could not .*No space .*calibrate a"):
        trainer.calibrate(module, data, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["mine.keras"]


def test_what_cannot_be_calibrated_is_refused(tmp_path):
    trainer = kd.Trainer(default_root_dir=tmp_path, **QUIET)
    digits = kd.data.Digits(batch_size=256, seed=0)
    with pytest.raises(MisconfigurationError, match="not trained yet"):
        kd.calibrate(classifier(), digits)
    sigmoids = linear(10, digits.input_shape, "sigmoid")
    with pytest.raises(MisconfigurationError, match="one class each: end it in a soft"):
        trainer.calibrate(sigmoids, digits)
    unknown = keras.Sequential(
        [linear(10, digits.input_shape, None), keras.layers.LeakyReLU()]
    )
    with pytest.raises(MisconfigurationError, match="numbers that are no probabil"):
        trainer.calibrate(unknown, digits)
    soft = linear(10, digits.input_shape)
    with pytest.raises(ValueError, match="rule must be"):
        trainer.calibrate(soft, digits, rule="best")
    soft.save(tmp_path / "plain.keras")
    with pytest.raises(MisconfigurationError, match="cannot keep decisions"):
        trainer.calibrate(soft, digits, tmp_path / "plain.keras")
    none = kd.data.Arrays(np.zeros((4, 8, 8, 1), "uint8"), np.array([0, 1, 0, 1]))
    with pytest.raises(MisconfigurationError, match="nothing to validate on"):
        trainer.calibrate(linear(2, (8, 8, 1)), none)
