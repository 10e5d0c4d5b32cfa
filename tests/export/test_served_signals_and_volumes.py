"""Signals and volumes are served in their own units, as the model answers them."""

import json

import grpc
import keras
import numpy as np
import pytest
import requests
import tensorflow as tf
from c_api import RequestError, Session
from protocol_double import grpc_double, rest_double
from served_alone import golden_differences
from shaken import shaken
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

import keras_densenet as kd
from keras_densenet.export import assets, conversion
from keras_densenet.export.golden import difference, golden_requests, outputs_of
from keras_densenet.export.inference import inference_network, unfolded_network
from keras_densenet.export.signatures import Preprocessing, Serving

VOLUMES, SIGNALS, LARGE = (8, 8, 8, 1), (24, 2), (29, 30, 31, 1)
UNITS = {  # mean and standard deviation of each channel: Hounsfield's, millivolts
    VOLUMES: {"mean": [-500.0], "std": [400.0]},
    SIGNALS: {"mean": [0.0, -0.25], "std": [0.5, 0.0625]},
    LARGE: {"mean": [1.5], "std": [0.75]},
}


def network(shape, **options):
    small = {"growth_rate": 4, "blocks": (2, 2), "bottleneck": True}
    options = small | {"compression": 0.5, "classes": 3} | options
    keras.utils.set_random_seed(0)
    return shaken(kd.DenseNet(input_shape=shape, **options))


def raw(shape, n):
    """Return noise in the units of a shape, each about a level of its own."""
    rng = np.random.default_rng(1)
    levels = rng.normal(size=(n, *(1,) * len(shape)))
    values = levels + rng.normal(size=(n, *shape))
    return (values * UNITS[shape]["std"] + UNITS[shape]["mean"]).astype("float32")


def standardized(values):
    mean, std = UNITS[values.shape[1:]].values()
    return (values - np.float32(mean)) / np.float32(std)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((VOLUMES, "small"), id="volumes"),
        pytest.param((SIGNALS, "small"), id="signals", marks=pytest.mark.slow),
        pytest.param((LARGE, "imagenet"), id="stem", marks=pytest.mark.slow),
    ],
)
def published(request, tmp_path_factory):
    """Return a network, its version, and a session of TensorFlow's C library."""
    shape, stem = request.param
    model = network(shape, stem=stem)
    path = tmp_path_factory.mktemp("served") / "net"
    version = kd.export.savedmodel(model, path, **UNITS[shape])
    return model, version, Session(version)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_values_are_answered_as_the_model_does(published, n):
    model, _, session = published
    assert session.signatures.keys() == {"serve", "serving_default", "embed"}
    values = raw(model.input_shape[1:], n)
    answers = {name: session.run(name, {"images": values}) for name in SIGNATURES}
    assert all(len(a) == n for answer in answers.values() for a in answer.values())
    if n == 0:
        return
    expected = model(standardized(values), training=False)
    assert n == 1 or np.ptp(expected, axis=0).max() > 1e-4  # they are told apart
    for name in ("serve", "serving_default"):
        shares = answers[name]["probabilities"]
        np.testing.assert_allclose(shares, expected, atol=1e-6)
    whole = unfolded_network(model).answers(standardized(values))
    for name in ("features", "logits"):
        found = answers["embed"][name]
        np.testing.assert_allclose(found, whole[name], rtol=1e-4, atol=1e-5)


SIGNATURES = ("serve", "serving_default", "embed")


def test_other_shapes_are_refused(published):
    model, _, session = published
    *size, channels = model.input_shape[1:]
    shapes = [
        (2, *size[:-1], 2 * size[-1], channels),
        (1, *size[::-1][1:], size[0] + 1, channels),
        (1, *size, channels + 1),
        (1, *size[1:], channels),
        (1, 1, *size, channels),
        (1, channels),
    ]
    for shape in shapes:
        with pytest.raises(RequestError) as error:
            session.run("serve", {"images": np.zeros(shape, "float32")})
        if len(shape) == len(model.input_shape):
            named = ", ".join(map(str, ["N", *size, channels]))
            assert f"images must have shape ({named})" in str(error.value)


def test_clients_get_the_golden_answers(published):
    """By REST the golden request as it is, by gRPC the same values."""
    _, version, session = published
    golden = golden_requests(version)
    for name in ("serve", "embed"):
        request, expected = golden[name]
        with rest_double(session, "net") as host:
            url = f"http://{host}/v1/models/net:predict"
            answer = requests.post(url, json=request, timeout=10).json()
        found = {key: np.array(v) for key, v in outputs_of(answer).items()}
        assert difference(expected, found) < 1e-5
        asked = predict_pb2.PredictRequest()
        asked.model_spec.name, asked.model_spec.signature_name = "net", name
        values = np.array(request["instances"], "float32")
        asked.inputs["images"].CopyFrom(tf.make_tensor_proto(values))
        with (
            grpc_double(session, "net") as host,
            grpc.insecure_channel(host) as channel,
        ):
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            outputs = stub.Predict(asked, timeout=10).outputs
        found = {key: tf.make_ndarray(value) for key, value in outputs.items()}
        assert difference(expected, found) < 1e-5


def test_what_only_pictures_have_is_left_out(published):
    model, version, _ = published
    shape = model.input_shape[1:]
    facts = json.loads((version / "assets.extra" / "export.json").read_text())
    channels = {"input_shape": list(shape), "channels": shape[-1]}
    assert facts["preprocessing"] == UNITS[shape] | channels
    takes = facts["signatures"]["serve"]["inputs"]["images"]
    assert takes == {"dtype": "float32", "shape": [None, *shape]}
    assert facts["signatures"].keys() == {"serve", "embed"}


@pytest.mark.slow
def test_they_are_verified_alone(published, tmp_path):
    """By TensorFlow's session loader, its C library, and OpenVINO."""
    from keras_densenet.export.verification import openvino_difference

    _, version, _ = published
    report = kd.export.verify(version)
    assert report["warm_up"] == 2
    for found in (report["differences"], golden_differences(version, tmp_path)):
        assert found.keys() == {*SIGNATURES}
        assert max(found.values()) < 1e-5
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    assert openvino_difference(version).difference < 1e-5


def test_values_are_standardized_by_hand():
    """-100 is one deviation above -500: of weights (1, 3) the logits are (1, 3)."""
    pool, dense = keras.layers.GlobalAveragePooling3D(), keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((2, 3, 4, 1)), pool, dense])
    dense.set_weights([np.array([[1.0, 3.0]]), np.zeros(2)])
    for size in ((2, 3, 4), (None, None, None)):
        serving = Serving(Preprocessing((*size, 1), [-500.0], [400.0]), ["a", "b"], 1)
        volume = tf.fill((1, 2, 3, 4, 1), -100.0)
        answer = serving.answers(inference_network(model), volume)
        np.testing.assert_allclose(answer["logits"], [[1.0, 3.0]], rtol=1e-6)


def test_golden_values_are_in_their_units_by_hand():
    """Where all places are 0, waves are 2 cos 0 + sin 2c of a volume, else sin 2c."""
    volume = assets.made_input(Preprocessing((9, 8, 7, 2), [-500, 1], [400, 64]))
    assert (volume.dtype, volume.shape) == ("float32", (9, 8, 7, 2))
    # 400 and 64 by 64, down to a power of two: steps of 1.
    assert volume[0, 0, 0].tolist() == [-500 + 800, round(1 + 64 * (2 + np.sin(2)))]
    assert volume[3, 3, 2].tolist() == [-500 + 680, round(1 + 64 * 1.7)]  # the block
    signal = assets.made_input(Preprocessing((None, 2), [0.0, 0.0], [1.0, 2.0]))
    assert signal.shape == (64, 2)
    assert signal[0].tolist() == [0, round(64 * 2 * np.sin(2)) / 64]
    picture = assets.made_input(Preprocessing((8, 8, 1), [0.0], [1.0]))
    assert (picture.dtype, picture[0, 0, 0]) == ("uint8", 188)  # 127.5 + 60


@pytest.mark.parametrize("given", [{"fit": "pad"}, {"method": "bicubic"}])
@pytest.mark.parametrize("shape", [VOLUMES, SIGNALS])
def test_what_only_pictures_have_is_refused(tmp_path, shape, given):
    with pytest.raises(ValueError, match=r"asked in that size. Leave them out"):
        kd.export.savedmodel(network(shape), tmp_path, **given, **UNITS[shape])
    assert not list(tmp_path.iterdir())


# --- other formats -------------------------------------------------------------------


def asked_by_onnx(path, values):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"images": values})[0]


def asked_by_litert(path, values):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path)).get_signature_runner("serving_default")
    return runner(images=values)["probabilities"]


@pytest.mark.parametrize(
    ("export", "ask", "shape", "stem"),
    [
        (kd.export.onnx, asked_by_onnx, VOLUMES, "small"),
        (kd.export.litert, asked_by_litert, SIGNALS, "small"),
        pytest.param(
            *(kd.export.onnx, asked_by_onnx, SIGNALS, "small"), marks=pytest.mark.slow
        ),
        pytest.param(
            *(kd.export.onnx, asked_by_onnx, LARGE, "imagenet"), marks=pytest.mark.slow
        ),
    ],
    ids=["volumes", "signals", "signals by ONNX", "ImageNet's stem"],
)
def test_other_formats_answer_as_the_model(tmp_path, export, ask, shape, stem):
    model = network(shape, stem=stem)
    path = export(model, tmp_path / "net", **UNITS[shape]).path
    for n in (1, 3):
        values = raw(shape, n)
        expected = model(standardized(values), training=False)
        np.testing.assert_allclose(ask(path, values), expected, atol=1e-5)


@pytest.mark.slow
def test_signals_are_computed_in_8_bits_from_their_own_units(tmp_path):
    """The mean of a signal is its logit; of pictures pixels would be 0..255."""
    dense = keras.layers.Dense(2, "sigmoid", kernel_initializer="ones")
    pool = keras.layers.GlobalAveragePooling1D()
    model = keras.Sequential([keras.Input((4, 1)), pool, dense])
    levels = np.linspace(-2, 2, 201).astype("float32")
    signals = levels.repeat(4).reshape(-1, 4, 1)
    how = {"mean": [0.0], "std": [0.5], "quantize": "int8", "calibration": signals}
    labels = np.stack([levels > 0] * 2, axis=1)
    how["held_out"] = signals, labels
    path = kd.export.litert(model, tmp_path / "net.tflite", **how).path
    found = asked_by_litert(path, signals)
    expected = 1 / (1 + np.exp(-levels / 0.5))
    np.testing.assert_allclose(found, np.stack([expected] * 2, axis=1), atol=0.02)


def one_block():
    return network(VOLUMES, blocks=(1,), growth_rate=16)


@pytest.mark.parametrize(
    ("make", "quantize", "says"),
    [
        (lambda: network(VOLUMES), None, r"LiteRT has no AvgPool3D, .*as ONNX"),
        (
            lambda: network(LARGE, stem="imagenet"),
            *("dynamic", "LiteRT has no AvgPool3D, MaxPool3D,"),
        ),
        (one_block, "dynamic", "Conv3D in float32 alone.*Leave quantize out"),
    ],
    ids=["transition", "stem", "8 bits"],
)
def test_what_litert_lacks_is_refused_by_name(tmp_path, make, quantize, says):
    how = UNITS[VOLUMES] | {"quantize": quantize}
    with pytest.raises(ValueError, match=says):
        kd.export.litert(make(), tmp_path / "net.tflite", **how)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_litert_lacks_it_still(tmp_path, monkeypatch):
    """What is refused fails, or stays as large: if not, refuse it no longer."""
    monkeypatch.setattr(conversion, "LITERT_LACKS", set())
    monkeypatch.setattr(conversion, "LITERT_LACKS_IN_8_BITS", set())
    with pytest.raises(Exception, match="TF Select ops: AvgPool3D, MaxPool3D"):
        kd.export.litert(
            network(LARGE, stem="imagenet"),
            tmp_path / "net",
            **UNITS[VOLUMES],
        )
    sizes = [
        kd.export.litert(one_block(), tmp_path / "net", quantize=bits, **UNITS[VOLUMES])
        .path.stat()
        .st_size
        for bits in (None, "dynamic")
    ]
    assert sizes[0] == sizes[1]


def test_what_was_standardized_is_raw_again():
    """Pixels are whole numbers in 0..255; a signal is what it is."""
    signal = Preprocessing((2, 1), [0.5], [0.25]).raw(np.array([[[1.0], [-9.0]]]))
    np.testing.assert_array_equal(signal, [[[0.75], [-1.75]]])
    picture = Preprocessing((1, 2, 1), [0.5], [0.25]).raw(np.array([[[[1.0], [-9.0]]]]))
    np.testing.assert_array_equal(picture, [[[[1.0], [0.0]]]])


# --- by the trainer ------------------------------------------------------------------


class Scans(kd.data.DataModule):
    """Volumes, of which nothing says how a picture would become one."""

    num_classes, class_names, batch_size = 3, ("a", "b", "c"), 4
    input_shape = VOLUMES
    mean, std = UNITS[VOLUMES].values()

    @property
    def short_side(self):
        raise AssertionError("a volume has no short side")

    def train_dataset(self):
        scans = standardized(raw(VOLUMES, 8))
        labels = np.arange(8) % 3
        return tf.data.Dataset.from_tensor_slices((scans, labels)).batch(4)

    test_dataset = train_dataset

    def predict_dataset(self):
        return self.train_dataset().map(lambda scans, labels: scans)


QUIET = {"enable_progress_bar": False, "enable_model_summary": False}


@pytest.mark.slow
def test_the_trainer_exports_what_it_predicts(tmp_path, monkeypatch):
    """A network and an ensemble, as a SavedModel and as ONNX."""
    data, trainer = Scans(), kd.Trainer(1, default_root_dir=tmp_path, **QUIET)
    options = {"blocks": (1, 1), "growth_rate": 4, "learning_rate": 0.01}
    module = kd.ImageClassifier(kd.DenseNetBC, **options)
    trainer.fit(module, data)
    path = trainer.checkpoint_callback.last_model_path
    for one in (module, kd.ensemble([path, module])):
        expected = trainer.predict(one, data)
        version = trainer.export(one, tmp_path / "served", datamodule=data)
        answer = Session(version).run("serve", {"images": raw(VOLUMES, 8)})
        np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
        facts = json.loads((version / "assets.extra" / "export.json").read_text())
        assert (facts["data_set"], facts["preprocessing"]["std"]) == ("Scans", [400.0])
        file = trainer.export(one, tmp_path / "x.onnx", datamodule=data, format="onnx")
        found = asked_by_onnx(file, raw(VOLUMES, 8))
        np.testing.assert_allclose(found, expected, atol=1e-5)
    monkeypatch.setattr(data, "setup", None)  # nothing is read for what is refused
    with pytest.raises(ValueError, match="LiteRT has no AvgPool3D"):
        trainer.export(
            *(module, tmp_path / "x.tflite"),
            datamodule=data,
            format="litert",
            quantize="int8",
        )
