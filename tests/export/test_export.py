import json
import os
import re
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from served_alone import ask, golden_differences
from tensorflow.core.protobuf import saved_model_pb2

import keras_densenet as kd
from keras_densenet.export import ExportError, publish
from keras_densenet.export.publish import next_version_number

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)


def network(**options):
    model = kd.DenseNetBC(16, 4, classes=3, **options)
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.2, 1.0, w.shape) for w in model.get_weights()])
    return model


def raw_pictures(n):
    return np.random.default_rng(1).integers(0, 256, (n, 32, 32, 3)).astype("float32")


def export(model, path, **options):
    return kd.export.savedmodel(model, path, mean=MEAN, std=STD, **options)


def served(folder, pictures, tmp_path):
    """Ask it where only its files and TensorFlow's C library are."""
    request = ("serving_default", {"images": pictures.astype("float32")})
    ((answer,), _) = ask(folder, [request], tmp_path / "alone")
    return answer


@pytest.mark.slow
def test_a_fresh_process_without_the_package_gives_the_models_answers(tmp_path):
    model = network()
    folder = export(model, tmp_path / "net", class_names=["a", "b", "c"])
    assert folder == tmp_path / "net" / "1"
    pictures = raw_pictures(5)
    answers = served(folder, pictures, tmp_path)
    expected = model((pictures - MEAN) / STD, training=False).numpy()
    np.testing.assert_allclose(answers["probabilities"], expected, rtol=1e-4, atol=1e-6)
    labels = folder / "assets.extra" / "labels.txt"
    assert labels.read_text().split() == ["a", "b", "c"]


SIGNATURES = {
    "serve": ({"images": "float32 [None, 32, 32, 3]"}, {"logits", "probabilities"}),
    "predict_bytes": (
        {"image_bytes": "string [None]"},
        {"logits", "probabilities", "classes", "scores", "class_ids"},
    ),
    "classify": ({"inputs": "string [None]"}, {"classes", "scores"}),
    "embed": ({"images": "float32 [None, 32, 32, 3]"}, {"features", "logits"}),
}
SIGNATURES["serving_default"] = SIGNATURES["serve"]
OUTPUTS = {
    "logits": "float32 [None, 10]",
    "probabilities": "float32 [None, 10]",
    "classes": "string [None, 5]",
    "scores": "float32 [None, 5]",
    "class_ids": "int32 [None, 5]",
    "features": "float32 [None, 48]",  # 24, 48, 24, 48, 24, 48
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return a network and its version."""
    model = kd.DenseNetBC(16, 12, dropout_rate=0.2)
    return model, export(model, tmp_path_factory.mktemp("exported"))


def test_signatures_have_names_types_and_a_free_batch(exported):
    """As a server reads them in the files; `export.json` says the same."""
    _, folder = exported
    content = (folder / "saved_model.pb").read_bytes()
    (graph,) = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    assert list(graph.meta_info_def.tags) == ["serve"]
    found = {
        name: tuple(
            {key: described(value) for key, value in side.items()}
            for side in (signature.inputs, signature.outputs)
        )
        for name, signature in graph.signature_def.items()
        if name != "__saved_model_init_op"
    }
    expected = {
        name: (takes, {key: OUTPUTS[key] for key in gives})
        for name, (takes, gives) in SIGNATURES.items()
    }
    assert found == expected
    facts = json.loads((folder / "assets.extra" / "export.json").read_text())
    said = {
        name: tuple(
            {key: f"{v['dtype']} {v['shape']}" for key, v in side.items()}
            for side in (signature["inputs"], signature["outputs"])
        )
        for name, signature in facts["signatures"].items()
    }
    del expected["serving_default"]
    assert said == expected


def described(info):
    shape = [None if dim.size == -1 else dim.size for dim in info.tensor_shape.dim]
    return f"{tf.as_dtype(info.dtype).name} {shape}"


def test_the_graph_is_stock_and_holds_each_weight_once(exported):
    model, folder = exported
    graph = saved_model_pb2.SavedModel.FromString(
        (folder / "saved_model.pb").read_bytes()
    )
    functions = graph.meta_graphs[0].graph_def.library.function
    ops = {node.op for function in functions for node in function.node_def}
    foreign = "PyFunc|ReadFile|WriteFile|HashTable|Random|Grad"
    assert not [op for op in ops if re.search(foreign, op)]
    assert {"DecodePng", "DecodeBmp", "TopKV2", "ParseExampleV2"} <= ops
    assert not any("_XlaMustCompile" in function.attr for function in functions)
    weights = 4 * model.count_params()
    (data,) = folder.glob("variables/variables.data-*")
    # Folded batch norms have fewer vectors; keras#23553 would double all.
    assert 0.9 * weights <= data.stat().st_size < 1.1 * weights


def test_versions_count_up_and_stay(tmp_path):
    for name in ("1", "7", "v9", ".tmp-8-1"):
        (tmp_path / name).mkdir()
    assert next_version_number(tmp_path) == 8
    assert publish._take_next_number(tmp_path / ".tmp-8-1", tmp_path).name == "8"
    assert set(os.listdir(tmp_path)) == {"1", "7", "8", "v9"}


@pytest.mark.slow
def test_a_failed_export_leaves_nothing(tmp_path, monkeypatch):
    def fails(*args):
        raise OSError("disk full")

    monkeypatch.setattr("keras_densenet.export.assets.write_labels", fails)
    with pytest.raises(OSError, match="disk full"):
        export(network(), tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_model_with_nans_is_not_published(tmp_path):
    model = network()
    model.set_weights([np.full(w.shape, np.nan) for w in model.get_weights()])
    with pytest.raises(ExportError, match="NaN"):
        export(model, tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float64"])
def test_any_precision_is_served_in_float32(tmp_path, policy):
    keras.config.set_dtype_policy(policy)
    model = network()
    keras.config.set_dtype_policy("float32")
    full = network()
    full.set_weights(model.get_weights())
    serve = tf.saved_model.load(str(export(model, tmp_path))).signatures["serve"]
    pictures = raw_pictures(3)
    answer = serve(images=tf.constant(pictures))["probabilities"]
    assert answer.dtype == tf.float32
    expected = full(((pictures - MEAN) / STD).astype("float32"))
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["none", "mirrored"])
def test_the_trainer_exports_its_predictions(tmp_path, strategy):
    data = kd.data.Digits(batch_size=90)
    module = kd.ImageClassifier(kd.DenseNetBC, depth=10, growth_rate=4)
    trainer = kd.Trainer(1, strategy=strategy, default_root_dir=tmp_path)
    trainer.fit(module, data)
    folder = trainer.export(module, tmp_path / "digits")
    expected = trainer.predict(module, data)
    data.setup("test")
    answers = served(folder, data._splits["test"].images.numpy(), tmp_path)
    np.testing.assert_allclose(answers["probabilities"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_averaged_weights_are_what_is_exported(tmp_path):
    """Of the model after its training, and of its checkpoint."""
    data = kd.data.Digits(batch_size=90)
    trainer = kd.Trainer(1, default_root_dir=tmp_path, enable_progress_bar=False)

    def compiled():
        with trainer.scope():
            model = kd.DenseNetBC(10, 4)
            model.compile(
                keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9),
                "sparse_categorical_crossentropy",
            )
        return model

    model = compiled()
    trainer.fit(model, data)
    averages = model.optimizer._model_variables_moving_average
    for average, weight in zip(averages, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(average, weight)
    folders = [
        trainer.export(model, tmp_path / "net"),
        trainer.export(compiled(), tmp_path / "net", ckpt_path="last"),
    ]
    data.setup("test")
    pictures = data._splits["test"].images.numpy()
    expected = trainer.predict(model, data)
    for folder in folders:
        found = served(folder, pictures, tmp_path)["probabilities"]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="3 channels"):
        kd.export.savedmodel(network(), tmp_path, mean=(1.0,), std=(1.0,))
    with pytest.raises(ValueError, match="3 classes"):
        export(network(), tmp_path, class_names=["a"])
    with pytest.raises(ValueError, match="one line"):
        export(network(), tmp_path, class_names=["a", "b\nc", "d"])
    with pytest.raises(ValueError, match="top_k must be 1"):
        export(network(), tmp_path, top_k=0)
    with pytest.raises(ValueError, match='"bicubic" or "bilinear"'):
        export(network(), tmp_path, method="cubic")
    with pytest.raises(ValueError, match="short_side must be 32 or more"):
        export(network(), tmp_path, short_side=31)
    with pytest.raises(ValueError, match='fit must be "crop"'):
        export(network(), tmp_path, fit="zoom")
    with pytest.raises(ValueError, match="std above 0"):
        kd.export.savedmodel(network(), tmp_path, mean=MEAN, std=(1, 0, 1))
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="is a file"):
        export(network(), tmp_path / "file")


def two_inputs():
    pictures, facts = keras.Input((16, 16, 3)), keras.Input((4,))
    pooled = keras.layers.GlobalAveragePooling2D()(pictures)
    joined = keras.layers.Concatenate()([pooled, facts])
    return keras.Model([pictures, facts], keras.layers.Dense(3)(joined))


def two_outputs():
    pictures = keras.Input((16, 16, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(pictures)
    return keras.Model(pictures, [keras.layers.Dense(3)(pooled)] * 2)


class OfOnesOwn(keras.Model):
    def call(self, pictures):
        return keras.ops.mean(pictures, (1, 2))


@pytest.mark.parametrize("make", [two_inputs, two_outputs, OfOnesOwn])
def test_a_model_that_is_not_from_pictures_to_classes_is_refused(tmp_path, make):
    with pytest.raises(ValueError, match="Wrap another: pictures = keras"):
        export(make(), tmp_path)


def of_channels(many):
    return kd.DenseNetBC(10, 4, classes=3, input_shape=(16, 16, many))


def of_any_size():
    pictures = keras.Input((None, None, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(pictures)
    return keras.Model(pictures, keras.layers.Dense(3, "softmax")(pooled))


def without_a_classifier():
    pictures = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(pictures)
    return keras.Model(pictures, keras.ops.softmax(pooled))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "served"),
    [
        (lambda: of_channels(1), {"serve", "predict_bytes", "classify", "embed"}),
        (lambda: of_channels(2), {"serve", "embed"}),
        (of_any_size, {"serve", "embed"}),
        (without_a_classifier, {"serve", "predict_bytes", "classify"}),
    ],
    ids=["gray", "two channels", "any size", "no classifier"],
)
def test_what_cannot_be_asked_has_no_signature(tmp_path, make, served):
    model = make()
    channels = model.input_shape[-1]
    version = kd.export.savedmodel(
        model, tmp_path, mean=MEAN[:channels], std=STD[:channels]
    )
    by_c_library = golden_differences(version, tmp_path / "alone")
    for found in (kd.export.verify(version)["differences"], by_c_library):
        assert found.keys() == served | {"serving_default"}
        assert max(found.values()) < 1e-5


@pytest.mark.slow
def test_a_network_that_is_not_square_resizes_to_its_sides(tmp_path):
    model = kd.DenseNetBC(10, 4, classes=3, input_shape=(16, 24, 3))
    version = export(model, tmp_path)
    picture = raw_pictures(1)[0].astype("uint8")
    predict = tf.saved_model.load(str(version)).signatures["predict_bytes"]
    found = predict(image_bytes=tf.io.encode_png(picture)[None])["probabilities"]
    resized = tf.image.resize(picture, (16, 24), "bicubic", antialias=True)[None]
    np.testing.assert_allclose(found, model((resized - MEAN) / STD), rtol=1e-4)


def test_two_exports_at_once_take_two_numbers(tmp_path, monkeypatch):
    rename = os.rename

    def after_another(source, target):
        monkeypatch.setattr(os, "rename", rename)
        (target / "saved_model.pb").mkdir(parents=True)  # meanwhile
        rename(source, target)

    monkeypatch.setattr(os, "rename", after_another)
    (tmp_path / ".tmp").mkdir()
    assert publish._take_next_number(tmp_path / ".tmp", tmp_path) == tmp_path / "2"
    assert (tmp_path / "1" / "saved_model.pb").is_dir()  # the other's


def test_what_a_killed_export_left_is_taken_away(tmp_path):
    name = socket.gethostname()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead, young, mine, other = (
        tmp_path / f".tmp-{name}"
        for name in (
            f"{name}-{gone.pid}",
            f"{name}-{2**30}",
            f"{name}-{os.getppid()}",
            f"elsewhere-{gone.pid}",
        )
    )
    for folder in (dead, young, mine, other):
        folder.mkdir()
        if folder is not young:
            os.utime(folder, (0, 0))
    with publish._staged(tmp_path):
        pass
    assert not dead.exists()
    assert young.exists()  # as another container's may be
    assert mine.exists()
    assert other.exists()


@pytest.mark.slow
def test_the_command_checks_a_version_and_says_so(tmp_path, capsys):
    from keras_densenet.export import __main__ as command

    version = export(network(), tmp_path / "net")
    command.main(["verify", str(version)])
    assert "holds. Warm-up requests: 4 replayed." in capsys.readouterr().out
    command.main(["configure", str(tmp_path)])
    assert f'base_path: "{tmp_path}/net"' in (tmp_path / "models.config").read_text()
    with pytest.raises(SystemExit, match="Pass the folder with the number"):
        command.main(["verify", str(tmp_path)])


@pytest.mark.slow
def test_twenty_kills_leave_whole_versions_alone(tmp_path):
    """Killed at 20 moments that are spread over the time of an export."""
    served = tmp_path / "net"
    served.mkdir()
    begun = time.monotonic()
    exporting(served).wait()  # one is left alone, for the time that it takes
    takes = time.monotonic() - begun
    moments = np.random.default_rng(0).uniform(0.4 * takes, 1.05 * takes, 20)
    for moment in moments:
        before = set(os.listdir(served))
        process = exporting(served)
        time.sleep(moment)
        process.kill()  # which may have ended
        process.wait()
        for name in set(os.listdir(served)) - before:
            if not name.startswith("."):
                kd.export.verify(served / name)
    versions = [name for name in os.listdir(served) if name.isdecimal()]
    assert len(versions) < 21  # some were killed before their rename
    assert any(name.startswith(".tmp-") for name in os.listdir(served))
    again = exporting(served)
    assert again.wait() == 0
    assert next_version_number(served) == len(versions) + 2


def exporting(served):
    return subprocess.Popen(
        [sys.executable, "-c", EXPORT, str(served)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


EXPORT = """
import sys, keras_densenet as kd
model = kd.DenseNetBC(10, 4, classes=3)
kd.export.savedmodel(model, sys.argv[1], mean=(0, 0, 0), std=(1, 1, 1))
"""


# --- what would be served wrongly is not published -----------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mean": (float("nan"), 0, 0)}, "mean and std must be finite"),
        ({"std": (float("inf"), 1, 1)}, "mean and std must be finite"),
    ],
)
def test_preprocessing_that_loses_the_picture_is_refused(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        kd.export.savedmodel(
            network(), tmp_path / "net", **{"mean": MEAN, "std": STD} | options
        )
    assert not (tmp_path / "net").exists()


def test_nans_behind_a_relu_are_found(tmp_path):
    model = network()
    kernel = model.get_layer("stem_conv").kernel
    kernel.assign(kernel * np.nan)
    with pytest.raises(ExportError, match="stem_conv/kernel"):
        export(model, tmp_path / "net")


@pytest.mark.slow
def test_answers_that_nobody_knows_are_refused(tmp_path):
    pictures = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 3)(pictures)
    logits = keras.layers.GlobalAveragePooling2D()(x)
    with pytest.raises(ValueError, match=r"end it in keras\.layers\.Softmax"):
        export(keras.Model(pictures, logits), tmp_path / "net")
    model = keras.Model(pictures, keras.layers.Softmax()(logits))
    folder = export(model, tmp_path / "net")
    expected = model((raw_pictures(2) - MEAN) / STD, training=False).numpy()
    answers = served(folder, raw_pictures(2), tmp_path)
    np.testing.assert_allclose(answers["probabilities"], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_versions_own_folder_is_no_folder_of_versions(tmp_path):
    folder = export(network(), tmp_path / "net")
    with pytest.raises(ValueError, match="is a version itself"):
        export(network(), folder)
    assert not (folder / "1").exists()


@pytest.mark.slow
def test_what_is_in_a_folder_of_that_name_is_not_published(tmp_path):
    left = tmp_path / "net" / f".tmp-{socket.gethostname()}-{os.getpid()}"
    (left / "variables").mkdir(parents=True)
    (left / "variables" / "junk").write_text("of another container's process")
    folder = export(network(), tmp_path / "net")
    assert not list(folder.rglob("junk"))


@keras.saving.register_keras_serializable(package="test_export")
class Doubled(keras.layers.Conv2D):
    """A convolution that is not what its class says."""

    def call(self, inputs):
        return 2 * super().call(inputs)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["axis", "subclass", "two outputs"])
def test_what_cannot_be_folded_is_left_as_it_is(tmp_path, kind):
    pictures = keras.Input((32, 32, 3))
    make = Doubled if kind == "subclass" else keras.layers.Conv2D
    convolved = make(32, 3, padding="same")(pictures)
    bn = keras.layers.BatchNormalization(axis=1 if kind == "axis" else -1)
    x = bn(convolved)
    if kind == "two outputs":
        part = keras.Model(pictures, [convolved, x])
        x = keras.layers.Add()(part(pictures))
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(pictures, keras.layers.Dense(3, "softmax")(x))
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.2, 1.0, w.shape) for w in model.get_weights()])
    folder = export(model, tmp_path / "net")
    expected = model((raw_pictures(2) - MEAN) / STD, training=False).numpy()
    answers = served(folder, raw_pictures(2), tmp_path)
    np.testing.assert_allclose(answers["probabilities"], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_facts_that_json_has_no_word_for(tmp_path):
    facts = {"metrics": {"loss": float("nan"), 1: [float("inf")]}}
    folder = export(network(), tmp_path / "net", facts=facts)
    text = (folder / "assets.extra" / "export.json").read_text()

    def refuse(word):
        raise AssertionError(word)

    found = json.loads(text, parse_constant=refuse)
    assert found["metrics"] == {"loss": "nan", "1": ["inf"]}


def test_a_savedmodel_is_not_named_as_a_file(tmp_path):
    trainer = kd.Trainer(max_epochs=1)
    with pytest.raises(ValueError, match='format="onnx"'):
        trainer.export(
            network(), tmp_path / "net.onnx", datamodule=kd.data.Digits(batch_size=2)
        )
    assert not list(tmp_path.iterdir())


def test_a_file_is_not_written_where_a_folder_is(tmp_path):
    (tmp_path / "net.onnx").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder"):
        kd.export.onnx(network(), tmp_path / "net.onnx", mean=MEAN, std=STD)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
