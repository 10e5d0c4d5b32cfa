"""A SavedModel in bfloat16: float32 in and out, half the kernels' bytes, guarded."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_densenet as kd
from keras_densenet.errors import MisconfigurationError
from keras_densenet.export import ExportError
from keras_densenet.export.golden import tolerance_of
from keras_densenet.export.held_out import checked_accuracies, checked_pictures
from keras_densenet.export.inference import inference_network
from keras_densenet.export.verification import openvino_difference

HOW = {"mean": (120.0, 110.0, 100.0), "std": (60.0, 50.0, 40.0)}


def shaken(model):
    """Give a model weights that are not those of its beginning."""
    rng = np.random.default_rng(0)
    model.set_weights(
        [
            rng.uniform(0.5, 1.5, w.shape) if len(w.shape) == 1 else w
            for w in model.get_weights()
        ]
    )
    return model


def of_keras_own_layers():
    x = pictures = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 3, padding="same")(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.SeparableConv2D(16, 3)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(pictures, keras.layers.Dense(3)(x))


NETWORKS = {
    "small": lambda: kd.DenseNetBC(10, 4, classes=3),
    "imagenet": lambda: kd.DenseNet(
        blocks=(1, 1), stem="imagenet", input_shape=(32, 32, 3), classes=3
    ),
    "keras": of_keras_own_layers,
    "one_layer": lambda: keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.GlobalMaxPooling2D(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    ),
}


def pictures(n):
    return np.random.default_rng(1).integers(0, 256, (n, 32, 32, 3)).astype("float32")


def answers(version, images):
    return tf.saved_model.load(str(version)).signatures["serve"](images=images)


@pytest.mark.parametrize("name", NETWORKS)
def test_it_takes_and_gives_float32_and_computes_in_bfloat16(tmp_path, name):
    model = shaken(NETWORKS[name]())
    version = kd.export.savedmodel(model, tmp_path / "m", precision="bfloat16", **HOW)
    images = tf.constant(pictures(5))
    found = answers(version, images)["logits"]
    assert found.dtype == tf.float32
    standardized = (images.numpy() - HOW["mean"]) / HOW["std"]
    expected = np.asarray(model(standardized, training=False), "float64")
    if name != "keras":  # which gives logits
        expected = np.log(expected)
        found -= tf.reduce_logsumexp(found, axis=1, keepdims=True)
    difference = np.abs(found - expected).max() / np.abs(expected).max()
    assert difference < 0.02
    if name != "one_layer":  # which has no maps to compute
        assert difference > 1e-5  # as in float32 it is not


def test_kernels_of_maps_are_stored_once_in_two_bytes(tmp_path):
    model = shaken(NETWORKS["imagenet"]())
    version = kd.export.savedmodel(model, tmp_path / "m", precision="bfloat16", **HOW)
    found = tf.train.load_checkpoint(str(version / "variables" / "variables"))
    types = {
        tuple(shape): found.get_variable_to_dtype_map()[name]
        for name, shape in found.get_variable_to_shape_map().items()
        if "OBJECT_GRAPH" not in name
    }
    # Stem of 24 maps, layers of 24 and of 18 to 12, a transition of 36 to 36 maps.
    kernels = {(7, 7, 3, 24), (3, 3, 24, 12), (3, 3, 36, 12), (1, 1, 36, 36)}
    assert {s for s, t in types.items() if t == tf.bfloat16} == kernels
    assert types[48, 3] == tf.float32  # the classifier
    assert all(t == tf.float32 for s, t in types.items() if len(s) == 1)


def test_the_facts_say_the_precision_and_the_tolerance(tmp_path):
    model = NETWORKS["small"]()
    version = kd.export.savedmodel(model, tmp_path / "m", precision="bfloat16", **HOW)
    assert tolerance_of(version) == 0.05
    assert openvino_difference(version) is None
    facts = version / "assets.extra" / "export.json"
    content = json.loads(facts.read_text())
    assert content.pop("compute_dtype") == "bfloat16"
    facts.write_text(json.dumps(content))  # older versions do not say it, in float32
    assert tolerance_of(version) == 1e-4


def pooled_by_an_operation(last):
    x = pictures = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 8)(x)
    x = keras.layers.Conv2D(3, 3)(x)
    x = keras.ops.mean(x, axis=(1, 2))
    return keras.Model(pictures, last(x))


@pytest.mark.parametrize(
    "last",
    [
        keras.layers.Dense(3, activation="softmax"),
        keras.layers.Activation("sigmoid"),
        keras.layers.Softmax(),
    ],
    ids=["dense", "sigmoid", "softmax"],
)
def test_answers_are_float32_whatever_comes_last(last):
    model = shaken(pooled_by_an_operation(last))
    network = inference_network(model, "bfloat16")
    found = network.answers(tf.constant(pictures(2)))
    assert {value.dtype for value in found.values()} == {tf.float32}


def test_a_batch_norm_after_the_pooling_is_in_float32():
    x = images = keras.Input((32, 32, 3))
    x = kd.layers.Stem(8)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = kd.layers.BatchNorm(name="last")(x)
    model = shaken(keras.Model(images, keras.layers.Dense(3)(x)))
    answers = inference_network(model, "bfloat16").answers
    assert answers(tf.constant(pictures(2)))["features"].dtype == tf.float32
    (whole,) = (cell.cell_contents for cell in answers.__closure__)
    assert whole.get_layer("stem").compute_dtype == "bfloat16"
    assert whole.get_layer("last").compute_dtype == "float32"


@pytest.mark.parametrize(
    ("labels", "max_drop", "words"),
    [
        (np.zeros(2, int), 0.002, r"of one picture or more. Received"),
        (np.zeros(0, int), 0.002, r"Received: shapes \(4, 32, 32, 3\) and \(0,\)"),
        (np.full(4, 3), 0.002, r"labels of held_out must be those of 3 classes"),
        (np.zeros(4, int), np.nan, r"max_drop must be a share in 0\.\.1"),
        (np.zeros(4, int), -1, r"max_drop must be a share in 0\.\.1"),
    ],
)
def test_what_is_held_out_is_checked(labels, max_drop, words):
    model = NETWORKS["small"]()
    with pytest.raises(ValueError, match=words):
        checked_pictures((pictures(4), labels), model, max_drop)


def test_labels_as_rows_are_class_numbers_of_a_softmax():
    model = NETWORKS["small"]()
    _, labels = checked_pictures((pictures(3), np.eye(3)[[2, 0, 1]]), model, 0.0)
    assert labels.tolist() == [2, 0, 1]


def test_one_label_of_each_picture_is_still_yes_or_no_of_sigmoids():
    """Rows with one 1 each are class numbers of a softmax alone."""
    x = images = keras.Input((32, 32, 3))
    x = keras.layers.GlobalMaxPooling2D()(x)
    model = keras.Model(images, keras.layers.Dense(3, activation="sigmoid")(x))
    rows = np.eye(3)[[2, 0, 1]]
    _, labels = checked_pictures((pictures(3), rows), model, 0.0)
    np.testing.assert_array_equal(labels, rows)


def test_facts_of_the_same_name_change_nothing(tmp_path):
    facts = {"precision": 0.93, "compute_dtype": "bfloat16"}
    model = NETWORKS["one_layer"]()
    version = kd.export.savedmodel(model, tmp_path / "m", facts=facts, **HOW)
    content = json.loads((version / "assets.extra" / "export.json").read_text())
    assert (content["precision"], content["compute_dtype"]) == (0.93, "float32")
    assert tolerance_of(version) == 1e-4


def test_without_test_pictures_the_trainer_says_so(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3)).astype("uint8")
    data = kd.data.Arrays(images, np.arange(8) % 3)
    trainer = kd.Trainer(1, default_root_dir=tmp_path, enable_progress_bar=False)
    with pytest.raises(MisconfigurationError, match="has no test pictures"):
        trainer.export(
            NETWORKS["small"](), tmp_path / "m", datamodule=data, precision="bfloat16"
        )


@pytest.mark.slow
def test_golden_answers_of_another_model_do_not_hold(tmp_path):
    model = shaken(NETWORKS["small"]())
    version = kd.export.savedmodel(model, tmp_path / "m", precision="bfloat16", **HOW)
    kd.export.verify(version)
    file = version / "assets.extra" / "golden" / "serve.response.json"
    content = json.loads(file.read_text())
    logits = content["predictions"][0]["logits"]
    content["predictions"][0]["logits"] = [1.1 * n + 0.1 for n in logits]
    file.write_text(json.dumps(content))
    with pytest.raises(ExportError, match="It gives other answers"):
        kd.export.verify(version)


def right(wrong, of):
    """Return what answers class 0, of which so many first pictures are wrong."""

    def run(images):
        numbers = images[:, 0, 0, 0]
        return {"logits": np.stack([numbers >= wrong, numbers < wrong], axis=1)}

    numbered = np.zeros((of, 1, 1, 1)) + np.arange(of).reshape(-1, 1, 1, 1)
    return run, (numbered, np.zeros(of, int))


@pytest.mark.parametrize(("wrong", "of"), [(2, 1000), (1, 10), (0, 10)])
def test_what_costs_little_is_accepted(wrong, of):
    (served, held_out), (expected, _) = right(wrong, of), right(0, of)
    found = checked_accuracies(served, expected, held_out, 0.002)
    assert found == {
        "held_out_accuracy": 1 - wrong / of,
        "held_out_accuracy_in_float32": 1.0,
    }


@pytest.mark.parametrize(("wrong", "of"), [(3, 1000), (2, 10)])
def test_what_costs_more_than_a_fifth_of_a_point_is_refused(wrong, of):
    (served, held_out), (expected, _) = right(wrong, of), right(0, of)
    with pytest.raises(ExportError, match=rf"{1 - wrong / of:.2%} of {of} pictures"):
        checked_accuracies(served, expected, held_out, 0.002)


class Subclass(keras.Model):
    def __init__(self):
        super().__init__()
        self.net = kd.DenseNetBC(10, 4, classes=3)

    def call(self, images):
        return self.net(images)


def test_what_has_no_bfloat16_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"one of float32, bfloat16.*'int4'"):
        kd.export.savedmodel(NETWORKS["small"](), tmp_path, precision="int4", **HOW)
    trainer = kd.Trainer(1, default_root_dir=tmp_path, enable_progress_bar=False)
    data, module = kd.data.Digits(batch_size=90), NETWORKS["small"]()
    for given, words in (
        ({"format": "onnx", "precision": "bfloat16"}, 'is for format="savedmodel"'),
        ({"precision": "float16"}, "one of float32, bfloat16"),
    ):
        with pytest.raises(MisconfigurationError, match=words):
            trainer.export(module, tmp_path / "m", datamodule=data, **given)


@pytest.mark.slow
def test_the_trainer_measures_what_it_costs(tmp_path):
    data = kd.data.Digits(batch_size=16)
    module = kd.ImageClassifier(kd.DenseNetBC, depth=10, growth_rate=4)
    trainer = kd.Trainer(4, default_root_dir=tmp_path, enable_progress_bar=False)
    trainer.fit(module, data)
    version = trainer.export(module, tmp_path / "digits", precision="bfloat16")
    facts = json.loads((version / "assets.extra" / "export.json").read_text())
    accuracy = trainer.test(module, data)["accuracy"]
    in_float32 = facts["held_out_accuracy_in_float32"]
    assert in_float32 == pytest.approx(accuracy)
    assert facts["held_out_accuracy"] >= in_float32 - 1 / 360 - 1e-6
    assert kd.export.verify(version)["differences"]["serve"] < 0.02
