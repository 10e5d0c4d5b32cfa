"""LiteRT and ONNX give the model's answers, each in its own runtime."""

import logging

import keras
import numpy as np
import pytest

import keras_densenet as kd
from keras_densenet.decisions import Decisions
from keras_densenet.export import held_out

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)
HOW = {"mean": MEAN, "std": STD}


def network(**options):
    model = kd.DenseNetBC(10, 4, classes=3, **options)
    rng = np.random.default_rng(0)
    model.set_weights(
        [
            rng.uniform(0.5, 1.5, w.shape) if len(w.shape) == 1 else w
            for w in model.get_weights()
        ]
    )
    return model


def raw_pictures(n):
    return np.random.default_rng(1).integers(0, 256, (n, 32, 32, 3)).astype(np.uint8)


def probabilities(model, pictures):
    return model.predict((pictures - np.float32(MEAN)) / np.float32(STD), verbose=0)


def asked_by_litert(path, pictures):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path)).get_signature_runner("serving_default")
    return runner(images=pictures)


@pytest.mark.slow
def test_litert_answers_as_the_model(tmp_path):
    model = network()
    done = kd.export.litert(model, tmp_path / "net.tflite", **HOW)
    for n in (1, 3):
        pictures = raw_pictures(n).astype("float32")
        found = asked_by_litert(done.path, pictures)["probabilities"]
        np.testing.assert_allclose(found, probabilities(model, pictures), atol=1e-5)
    assert done.difference < 1e-5
    assert done.accuracy is None


def test_onnx_answers_as_the_model(tmp_path):
    import onnxruntime

    model = network()
    path = tmp_path / "new" / "net.onnx"
    done = kd.export.onnx(model, path, class_names=["a", "ü", "車"], **HOW)
    assert done.path == path
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for n in (1, 3):
        pictures = raw_pictures(n).astype("float32")
        (found,) = session.run(["probabilities"], {"images": pictures})
        np.testing.assert_allclose(found, probabilities(model, pictures), atol=1e-5)
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["class_names"].split("\n") == ["a", "ü", "車"]


@pytest.mark.slow
def test_dynamic_range_is_smaller_and_close(tmp_path):
    model = kd.DenseNetBC(22, 12)
    whole = kd.export.litert(model, tmp_path / "whole.tflite", **HOW)
    small = kd.export.litert(
        model, tmp_path / "small.tflite", quantize="dynamic", **HOW
    )
    assert small.path.stat().st_size < 0.6 * whole.path.stat().st_size
    assert whole.difference < small.difference < 0.1


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    keras.utils.set_random_seed(1)
    root = tmp_path_factory.mktemp("runs")
    data = kd.data.Digits(batch_size=16)
    module = kd.ImageClassifier(kd.DenseNetBC, depth=10, growth_rate=8)
    trainer = kd.Trainer(6, enable_progress_bar=False, default_root_dir=root)
    trainer.fit(module, data)
    return trainer, module, data


@pytest.mark.slow
def test_int8_takes_raw_pixels_and_keeps_the_accuracy(trained, tmp_path, capsys):
    trainer, module, data = trained
    accuracy = trainer.test(module, data)["accuracy"]
    path = tmp_path / "digits.tflite"
    assert trainer.export(module, path, format="litert", quantize="int8") == path
    printed = capsys.readouterr().out
    assert f"{accuracy:.2%} before it was quantized" in printed
    images, labels = held_out.raw_pictures(data, "test", 360)
    found = [
        int(asked_by_litert(path, image[None].astype(np.uint8))["logits"].argmax())
        for image in images
    ]
    measured = float(np.mean(np.array(found) == labels))
    assert f"Of test pictures {measured:.2%} are right" in printed
    assert measured > accuracy - 0.02
    assert accuracy > 0.8  # it has learnt something that could be lost


@pytest.mark.slow
def test_a_loss_of_accuracy_is_refused(trained, tmp_path):
    _, module, data = trained
    images, labels = held_out.raw_pictures(data, "test", 100)
    dark = np.zeros_like(images)  # of which no range can be learnt
    with pytest.raises(kd.export.ExportError, match=r"max_drop=0\.02 is lost"):
        kd.export.litert(
            module.model,
            tmp_path / "net.tflite",
            mean=data.mean,
            std=data.std,
            quantize="int8",
            calibration=dark,
            held_out=(images, labels),
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("quantize", ["int8", None])
def test_a_label_that_is_never_given_leaves_the_others_as_they_are(tmp_path, quantize):
    """Of gray pixels the mean is over 127.5 or not: a threshold of 1/2 says which."""
    dense = keras.layers.Dense(2, "sigmoid", kernel_initializer="ones")
    pool = keras.layers.GlobalAveragePooling2D()
    model = keras.Sequential([keras.Input((4, 4, 1)), pool, dense])
    grays = np.arange(0, 256, dtype="uint8").repeat(16).reshape(-1, 4, 4, 1)
    has = np.stack([np.zeros(256), np.arange(256) > 127.5], axis=1)
    how = {"mean": (127.5,), "std": (64.0,), "quantize": quantize}
    how |= {"calibration": grays, "held_out": (grays, has)}
    never = Decisions(("a", "b"), (np.inf, 0.5), (1.0, 1.0), "ppv=1", True, 256)
    path = kd.export.litert(model, tmp_path / "m.tflite", decisions=never, **how).path
    asked = grays if quantize else grays.astype("float32")
    given = asked_by_litert(path, asked)["decisions"]
    assert not given[:, 0].any()
    assert np.mean(given[:, 1] == has[:, 1]) > 0.97


def test_what_is_decided_is_what_is_lost():
    """Logits say yes of both, and decisions of the first alone."""
    answers = {"logits": np.array([[9.0], [9.0]]), "decisions": [[True], [False]]}
    found = held_out.accuracy_of(lambda _: answers, np.zeros((2, 1)), np.eye(2)[:, :1])
    assert found == 1.0


def test_what_is_missing_or_wrong_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "net.tflite"
    with pytest.raises(ValueError, match="needs two more arguments: calibration"):
        kd.export.litert(network(), path, quantize="int8", **HOW)
    with pytest.raises(ValueError, match='None, "dynamic" or "int8"'):
        kd.export.litert(network(), path, quantize="int4", **HOW)
    pictures = keras.Input((None, None, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(pictures)
    of_any_size = keras.Model(pictures, pooled)
    with pytest.raises(ValueError, match="fixed height and width"):
        kd.export.onnx(of_any_size, path, **HOW)
    nans = network()
    nans.set_weights([np.full(w.shape, np.nan) for w in nans.get_weights()])
    with pytest.raises(kd.export.ExportError, match="NaNs"):
        kd.export.onnx(nans, path, **HOW)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"keras-densenet\[litert\]"):
        kd.export.litert(network(), path, **HOW)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Return a trainer after its first steps, and its module."""
    module = kd.ImageClassifier(kd.DenseNetBC, depth=10, growth_rate=4)
    root = tmp_path_factory.mktemp("fitted")
    trainer = kd.Trainer(max_steps=2, default_root_dir=root, enable_progress_bar=False)
    trainer.fit(module, kd.data.Digits(batch_size=16))
    return trainer, module


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "tflite"}, "savedmodel, litert, onnx"),
        ({"quantize": "int8"}, 'for format="litert"'),
    ],
)
def test_the_trainer_refuses_what_it_cannot_export(fitted, tmp_path, options, message):
    trainer, module = fitted
    with pytest.raises(kd.training.MisconfigurationError, match=message):
        trainer.export(module, tmp_path / "x", **options)


def test_the_trainer_exports_onnx(fitted, tmp_path, capsys):
    trainer, module = fitted
    trainer.export(module, tmp_path / "digits.onnx", format="onnx")
    assert "Exported" in capsys.readouterr().out
    assert logging.getLogger("tf2onnx").level == logging.WARNING
    assert (tmp_path / "digits.onnx").stat().st_size > 10_000
