"""What is served is what the model answers, by the files and TensorFlow's C library."""

import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from PIL import Image
from served_alone import ask, golden_differences
from tensorflow.core.example import example_pb2
from tensorflow_serving.apis import prediction_log_pb2

import keras_densenet as kd
from keras_densenet.decisions import Decisions
from keras_densenet.export import replay
from keras_densenet.export.inference import Network, unfolded_network
from keras_densenet.export.signatures import Preprocessing, Serving

CLASSES = ["tabby cat", "hündchen", "車"]
BATCHES = (0, 1, 3, 64)


@pytest.fixture(scope="module")
def flowers(tmp_path_factory):
    """Return a model, the data module that it was trained on, its version, moved."""
    root = tmp_path_factory.mktemp("flowers")
    rng = np.random.default_rng(0)
    for split, count in (("train", 1), ("test", 22)):
        for label in CLASSES:
            (root / split / label).mkdir(parents=True)
            for number in range(count):
                height, width = rng.integers(20, 60, 2)
                Image.fromarray(
                    rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
                ).save(root / split / label / f"{number}.png")
    data = kd.data.ImageFolder(root, 64, 16, validation_fraction=0)
    model = kd.DenseNetBC(10, 4, classes=3, input_shape=(16, 16, 3))
    model.set_weights(
        [
            rng.uniform(0.5, 1.5, w.shape)
            if len(w.shape) == 1
            else rng.normal(0, 0.2, w.shape)
            for w in model.get_weights()
        ]
    )
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    trainer = kd.Trainer(1, enable_progress_bar=False)
    trainer.test(model, data)
    version = trainer.export(model, root / "served" / "flowers")
    assert version == root / "served" / "flowers" / "1"
    moved = root / "elsewhere" / "7"
    shutil.move(version, moved)
    return model, trainer, data, moved


def files_of(data):
    return [Path(path).read_bytes() for path in data._files("test").paths]


def strings(values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


def example(content):
    proto = example_pb2.Example()
    proto.features.feature["image/encoded"].bytes_list.value.append(content)
    return proto.SerializeToString()


@pytest.fixture(scope="module")
def answers(flowers, tmp_path_factory):
    *_, data, version = flowers
    files = files_of(data)[: max(BATCHES)]
    raw = np.random.default_rng(1).integers(0, 256, (64, 16, 16, 3)).astype("float32")
    requests = {}
    for n in BATCHES:
        requests["serve", n] = {"images": raw[:n]}
        requests["serving_default", n] = {"images": raw[:n]}
        requests["embed", n] = {"images": raw[:n]}
        requests["predict_bytes", n] = {"image_bytes": strings(files[:n])}
        requests["classify", n] = {"inputs": strings(list(map(example, files[:n])))}
    asked = [(name, feeds) for (name, _), feeds in requests.items()]
    found, _ = ask(version, asked, tmp_path_factory.mktemp("alone"))
    return raw, dict(zip(requests, found, strict=True))


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n", BATCHES)
def test_files_are_answered_as_the_trainer_predicts_them(flowers, answers, n):
    model, trainer, data, _ = flowers
    expected = trainer.predict(model, data)[:n]
    found = answers[1]["predict_bytes", n]
    close(found["probabilities"], expected)
    order = np.argsort(-expected, axis=1)
    np.testing.assert_array_equal(found["class_ids"], order)
    close(found["scores"], np.take_along_axis(expected, order, 1))
    named = [[CLASSES_IN_ORDER[i].encode() for i in row] for row in order]
    assert found["classes"].tolist() == named
    classified = answers[1]["classify", n]
    assert classified.keys() == {"classes", "scores"}
    assert classified["classes"].tolist() == named
    close(classified["scores"], found["scores"])


CLASSES_IN_ORDER = sorted(CLASSES)  # as a folder's classes are


@pytest.mark.parametrize("n", BATCHES)
def test_pixels_are_answered_as_the_model_does(flowers, answers, n):
    model, _, data, _ = flowers
    raw, found = answers
    ready = (raw[:n] - np.float32(data.mean)) / np.float32(data.std)
    expected = np.zeros((0, 3)) if n == 0 else model.predict(ready, verbose=0)
    for name in ("serve", "serving_default"):
        close(found[name, n]["probabilities"], expected)
        logits = np.exp(found[name, n]["logits"])
        close(logits / logits.sum(axis=1, keepdims=True), expected)
    if n:
        whole = unfolded_network(model).answers(ready)
        close(found["embed", n]["features"], whole["features"])
        close(found["embed", n]["logits"], whole["logits"])


def test_a_bad_picture_is_an_error_of_its_whole_batch(flowers, tmp_path):
    *_, data, version = flowers
    good = files_of(data)[:2]
    asked = [
        ("predict_bytes", {"image_bytes": strings([good[0], b"no picture"])}),
        ("classify", {"inputs": strings([example(good[0]), b"no example"])}),
        ("predict_bytes", {"image_bytes": strings(good)}),
    ]
    (no_picture, no_example, answer), _ = ask(version, asked, tmp_path)
    assert "no JPEG, PNG, GIF or BMP" in no_picture
    assert "Could not parse example" in no_example
    assert answer["scores"].shape == (2, 3)


def truncated(rng, file):
    return file[: rng.integers(len(file))]


def with_random_bytes(rng, file):
    damaged = bytearray(file)
    for _ in range(rng.integers(1, 50)):
        damaged[rng.integers(len(file))] = rng.integers(256)
    return bytes(damaged)


def with_huge_numbers(rng, file):
    at = rng.integers(2, 40)  # where a header has sizes and lengths
    huge = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f")
    return file[:at] + huge[rng.integers(3)] + file[at + 4 :]


def with_a_random_end(rng, file):
    return file[: rng.integers(2, 40)] + rng.bytes(1000)


def random_bytes(rng, file):
    return rng.bytes(rng.integers(200))


def nothing(rng, file):
    return b""


DAMAGES = [
    truncated,
    with_random_bytes,
    with_huge_numbers,
    with_a_random_end,
    random_bytes,
    nothing,
]


def damaged_files(rng, good):
    damage = DAMAGES[rng.integers(len(DAMAGES))]
    damaged = damage(rng, good[rng.integers(len(good))])
    batch = [damaged, good[0], damaged]  # alone, or beside a good one
    return "predict_bytes", {"image_bytes": strings(batch[: rng.integers(1, 4)])}


def wrong_shapes(rng, good):
    shape = rng.choice([0, 1, 5, 16, 17], rng.integers(1, 6))
    return "serve", {"images": rng.normal(0, 1e30, shape).astype("float32")}


def wrong_types(rng, good):
    wrong = ("float64", "int32", "uint8")[rng.integers(3)]
    return "serve", {"images": np.zeros((2, 16, 16, 3), wrong)}


def too_many_axes(rng, good):
    return "predict_bytes", {"image_bytes": np.full((2, 2), good[0], object)}


def damaged_examples(rng, good):
    whole = example(good[rng.integers(len(good))])
    damage = DAMAGES[rng.integers(len(DAMAGES))]
    return "classify", {"inputs": strings([damage(rng, whole), whole])}


MALFORMED = [damaged_files] * 4 + [
    wrong_shapes,
    wrong_types,
    too_many_axes,
    damaged_examples,
]


def test_a_thousand_malformed_requests_are_survived(flowers, tmp_path):
    *_, data, version = flowers
    rng = np.random.default_rng(3)
    picture = Image.open(io.BytesIO(files_of(data)[0]))
    good = [files_of(data)[0]]
    for kind in ("JPEG", "BMP", "GIF"):
        file = io.BytesIO()
        picture.save(file, kind)
        good.append(file.getvalue())
    asked = [("predict_bytes", {"image_bytes": strings(good)})]
    asked += [MALFORMED[n % len(MALFORMED)](rng, good) for n in range(1000)]
    asked.append(asked[0])
    found, peaks = ask(version, asked, tmp_path)
    errors = [answer for answer in found if isinstance(answer, str)]
    assert len(errors) > 500
    assert all(errors)  # each says something
    # It answers as before; what it took beside a good batch is bounded.
    np.testing.assert_array_equal(found[0]["logits"], found[-1]["logits"])
    assert peaks[-1] - peaks[0] < 1000
    # Half of the growth would come in the second half if memory leaked.
    assert peaks[-1] - peaks[len(peaks) // 2] < 100


@pytest.mark.parametrize("name", ["serve", "embed"])
def test_pictures_of_another_size_are_refused(flowers, tmp_path, name):
    """A server does not look at the shape that a signature tells it."""
    *_, data, version = flowers
    height, width, _ = data.input_shape
    shapes = [
        (1, 2 * height, 2 * width, 3),
        (2, height // 2, 2 * width, 3),
        (1, 3, height, width),
        (1, height, width, 1),
        (3, height, width, 3),
    ]
    asked = [(name, {"images": np.zeros(shape, "float32")}) for shape in shapes]
    *wrong, right = ask(version, asked, tmp_path)[0]
    assert all("images must have shape" in answer for answer in wrong)
    assert right["logits"].shape[0] == 3


def test_warm_up_and_golden_requests_are_replayed(flowers):
    *_, version = flowers
    report = kd.export.verify(version)
    assert report["warm_up"] == 4
    names = {"serve", "serving_default", "predict_bytes", "classify", "embed"}
    assert report["differences"].keys() == names
    assert max(report["differences"].values()) < 1e-5


def test_the_loader_of_the_server_gives_the_golden_answers(flowers, tmp_path):
    *_, version = flowers
    found = golden_differences(version, tmp_path / "alone")
    names = {"serve", "serving_default", "predict_bytes", "classify", "embed"}
    assert found.keys() == names
    assert max(found.values()) < 1e-5


def test_the_loader_of_the_server_answers_the_warm_up_requests(flowers, tmp_path):
    *_, version = flowers
    file = version / "assets.extra" / "tf_serving_warmup_requests"
    records = tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
    logs = map(prediction_log_pb2.PredictionLog.FromString, records)
    asked = list(map(replay.asked, logs))
    answers, _ = ask(version, asked, tmp_path / "alone")
    rows = {
        signature: len(next(iter(answer.values())))
        for (signature, _), answer in zip(asked, answers, strict=True)
    }
    # A picture of the network's size, or that and a larger one as files.
    assert rows == {"serve": 1, "predict_bytes": 2, "classify": 2, "embed": 1}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("weights", "weights are not those"),
        ("response", "gives other answers"),
        ("class", "The class is"),
        ("warm-up", "warm-up of"),
        ("graph", "cannot load"),
    ],
)
def test_what_does_not_hold_is_named(flowers, tmp_path, damage, message):
    *_, version = flowers
    copy = tmp_path / "1"
    shutil.copytree(version, copy)
    extra = copy / "assets.extra"
    if damage == "weights":
        weights = copy / "variables" / "variables.data-00000-of-00001"
        content = bytearray(weights.read_bytes())
        content[0] ^= 1
        weights.write_bytes(content)
    elif damage == "response":
        file = extra / "golden" / "embed.response.json"
        file.write_text(file.read_text().replace('"logits": [', '"logits": [9', 1))
    elif damage == "class":
        file = extra / "golden" / "predict_bytes.response.json"
        response = json.loads(file.read_text())
        response["predictions"][0]["class_ids"].reverse()
        file.write_text(json.dumps(response))
    elif damage == "warm-up":
        log = prediction_log_pb2.PredictionLog()
        log.predict_log.request.model_spec.signature_name = "serve"
        with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as file:
            file.write(log.SerializeToString())
    else:
        (copy / "saved_model.pb").write_bytes(b"nothing")
    with pytest.raises(kd.export.ExportError, match=message):
        kd.export.verify(copy)


def as_nan(text):
    return re.sub(r'"logits": \[[^,\]]+', '"logits": [NaN', text)


DAMAGED = {  # file: what is done to it, what is said
    "golden/embed.response.json": (as_nan, "logits has NaNs or infinite numbers"),
    "labels.txt": (
        lambda text: "\n".join(reversed(text.splitlines())),
        "labels.txt has other classes",
    ),
    "./labels.txt": (lambda text: "one\n", "labels.txt has 1 lines"),
    "export.json": (lambda text: text[:20], "is damaged: JSONDecodeError"),
    "./export.json": (lambda text: "[]", "is damaged: AttributeError"),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * name.startswith("./"))
        for name in DAMAGED
    ],
)
def test_damaged_files_are_named(flowers, tmp_path, name):
    *_, version = flowers
    shutil.copytree(version, tmp_path / "1")
    file = tmp_path / "1" / "assets.extra" / name
    change, says = DAMAGED[name]
    file.write_text(change(file.read_text()))
    with pytest.raises(kd.export.ExportError, match=says):
        kd.export.verify(tmp_path / "1")


@pytest.mark.slow
def test_a_version_without_labels_or_with_cut_requests(flowers, tmp_path):
    *_, version = flowers
    shutil.copytree(version, tmp_path / "1")
    extra = tmp_path / "1" / "assets.extra"
    with (extra / "tf_serving_warmup_requests").open("ab") as file:
        file.write(b"123")
    with pytest.raises(kd.export.ExportError, match="requests is damaged: ValueError"):
        kd.export.verify(tmp_path / "1")
    (extra / "labels.txt").unlink()
    (extra / "tf_serving_warmup_requests").unlink()
    with pytest.raises(kd.export.ExportError, match=r"There is no labels\.txt"):
        kd.export.verify(tmp_path / "1")


def test_the_servers_files_are_read_by_its_own_parser(flowers, tmp_path):
    from tensorflow_serving.config import model_server_config_pb2

    *_, version = flowers
    shutil.copytree(version, tmp_path / "flowers" / "3")
    (tmp_path / "notes").mkdir()
    assert kd.export.write_server_config(tmp_path, "/models", 12, 2) == ["flowers"]
    config = text_format.Parse(
        (tmp_path / "models.config").read_text(),
        model_server_config_pb2.ModelServerConfig(),
    )
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path) == ("flowers", "/models/flowers")
    assert model.model_platform == "tensorflow"
    sizes = [
        int(line.split()[-1])
        for line in (tmp_path / "batching_parameters.txt").read_text().splitlines()
        if line.startswith("allowed_batch_sizes")
    ]
    assert sizes == [1, 2, 4, 8, 12]


def test_openvino_reads_the_version(flowers):
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    from keras_densenet.export.verification import openvino_difference

    *_, version = flowers
    assert openvino_difference(version).difference < 1e-5


def test_a_label_is_given_from_its_threshold_on():
    """In float32 a sigmoid of 40 is 1; of 2 at a temperature of 2 it is 0.731."""
    chosen = Decisions(("a", "b"), (1.0, 0.74), (1.0, 2.0), "f1", True, 9)
    prepared = Preprocessing((4, 4, 1), (0.0,), (1.0,), 4, "bicubic", "crop")
    serving = Serving(prepared, ["a", "b"], 1, chosen)
    network = Network(lambda images: {"logits": images[:, 0, 0]}, tf.nn.sigmoid)
    logits = tf.constant([40.0, 2.0], shape=(1, 1, 1, 2))
    answer = serving.answers(network, logits)
    np.testing.assert_allclose(answer["probabilities"], [[1.0, 0.731059]], atol=1e-6)
    assert answer["decisions"].numpy().tolist() == [[True, False]]
