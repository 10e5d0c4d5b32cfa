import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import keras_densenet as kd
from keras_densenet.export.publish import ExportError, next_version_number

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)

# Only TensorFlow and NumPy: importing the package fails there.
ASK = """
import sys
sys.modules["keras_densenet"] = None
import numpy as np
import tensorflow as tf
folder, pictures, answers = sys.argv[1:]
serve = tf.saved_model.load(folder).signatures["serving_default"]
answer = serve(images=tf.constant(np.load(pictures)))
np.savez(answers, **{name: value.numpy() for name, value in answer.items()})
"""


def network(**options):
    model = kd.DenseNetBC(16, 4, classes=3, **options)
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.2, 1.0, w.shape) for w in model.get_weights()])
    return model


def raw_pictures(n):
    return np.random.default_rng(1).integers(0, 256, (n, 32, 32, 3)).astype("float32")


def export(model, path, **options):
    return kd.export.savedmodel(model, path, mean=MEAN, std=STD, **options)


def ask_in_a_fresh_process(folder, pictures, tmp_path):
    np.save(tmp_path / "pictures.npy", pictures)
    command = [folder, tmp_path / "pictures.npy", tmp_path / "answers.npz"]
    subprocess.run(
        [sys.executable, "-I", "-c", ASK, *map(str, command)],
        cwd=tmp_path,
        check=True,
    )
    with np.load(tmp_path / "answers.npz") as answers:
        return dict(answers)


def test_a_fresh_process_without_the_package_gives_the_models_answers(tmp_path):
    model = network()
    folder = export(model, tmp_path / "net", class_names=["a", "b", "c"])
    assert folder == tmp_path / "net" / "1"
    pictures = raw_pictures(5)
    answers = ask_in_a_fresh_process(folder, pictures, tmp_path)
    expected = model((pictures - MEAN) / STD, training=False).numpy()
    np.testing.assert_allclose(answers["probabilities"], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(answers["class_ids"], expected.argmax(axis=1))
    labels = folder / "assets.extra" / "labels.txt"
    assert labels.read_text().split() == ["a", "b", "c"]


def test_the_signature_has_its_names_types_and_a_free_batch(tmp_path):
    loaded = tf.saved_model.load(str(export(network(), tmp_path)))
    assert set(loaded.signatures) == {"serve", "serving_default"}
    signature = loaded.signatures["serving_default"]
    (images,) = signature.structured_input_signature[1].values()
    assert (images.name, images.dtype) == ("images", tf.float32)
    assert images.shape.as_list() == [None, 32, 32, 3]
    outputs = signature.structured_outputs
    assert {name: value.dtype for name, value in outputs.items()} == {
        "probabilities": tf.float32,
        "class_ids": tf.int32,
    }
    assert signature(images=tf.constant(raw_pictures(1)))["class_ids"].shape == (1,)


def test_the_graph_is_stock_and_holds_each_weight_once(tmp_path):
    model = kd.DenseNetBC(40, 12, dropout_rate=0.2)
    folder = export(model, tmp_path)
    graph = saved_model_pb2.SavedModel.FromString(
        (folder / "saved_model.pb").read_bytes()
    )
    functions = graph.meta_graphs[0].graph_def.library.function
    ops = {node.op for function in functions for node in function.node_def}
    assert not ops & {
        "PyFunc",
        "EagerPyFunc",
        "HashTableV2",
        "StatelessRandomUniformV2",
    }
    assert not any("_XlaMustCompile" in function.attr for function in functions)
    weights = 4 * model.count_params()
    (data,) = folder.glob("variables/variables.data-*")
    # Folded batch norms have fewer vectors; keras#23553 would double all.
    assert 0.9 * weights <= data.stat().st_size < 1.1 * weights


def test_versions_count_up_and_stay(tmp_path):
    for name in ("1", "7", "v9", ".tmp-8-1"):
        (tmp_path / name).mkdir()
    assert next_version_number(tmp_path) == 8
    export(network(), tmp_path)
    assert {"1", "7", "8"} <= set(os.listdir(tmp_path))


def test_a_failed_export_leaves_nothing(tmp_path, monkeypatch):
    def fails(*args):
        raise OSError("disk full")

    monkeypatch.setattr("keras_densenet.export.publish._write_labels", fails)
    with pytest.raises(OSError, match="disk full"):
        export(network(), tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_model_with_nans_is_not_published(tmp_path):
    model = network()
    model.set_weights([np.full(w.shape, np.nan) for w in model.get_weights()])
    with pytest.raises(ExportError, match="NaN"):
        export(model, tmp_path)
    assert os.listdir(tmp_path) == []


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


@pytest.mark.parametrize("strategy", ["none", "mirrored"])
def test_the_trainer_exports_its_predictions(tmp_path, strategy):
    data = kd.data.Digits(batch_size=90)
    module = kd.ImageClassifier(kd.DenseNetBC, depth=10, growth_rate=4)
    trainer = kd.Trainer(1, strategy=strategy, default_root_dir=tmp_path)
    trainer.fit(module, data)
    folder = trainer.export(module, tmp_path / "digits")
    expected = trainer.predict(module, data)
    data.setup("test")
    answers = ask_in_a_fresh_process(
        folder, data._splits["test"].images.numpy().astype("float32"), tmp_path
    )
    np.testing.assert_allclose(answers["probabilities"], expected, rtol=1e-3, atol=1e-5)


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="3 channels"):
        kd.export.savedmodel(network(), tmp_path, mean=(1.0,), std=(1.0,))
    with pytest.raises(ValueError, match="3 classes"):
        export(network(), tmp_path, class_names=["a"])
