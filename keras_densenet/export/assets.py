"""What lies beside a graph: labels, facts, golden requests, warm-up requests.

All of it is in a version's `assets.extra`. TensorFlow Serving reads nothing there but
`tf_serving_warmup_requests`, which it asks before it takes the version into service.
"""

import base64
import json
import math
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_densenet.export.decoding import COLORS
from keras_densenet.export.golden import weights_checksum
from keras_densenet.export.signatures import (
    EXAMPLE_FEATURE,
    Preprocessing,
    Signature,
)

WARM_UP = "tf_serving_warmup_requests"  # the name that TensorFlow Serving looks for


def write_labels(folder: Path, class_names: Sequence[str]) -> None:
    """Write `labels.txt`: one class a line, in the order of the class numbers."""
    lines = "".join(f"{name}\n" for name in class_names)
    (folder / "labels.txt").write_text(lines, encoding="utf-8")


def write_facts(
    version: Path,
    preprocessing: Preprocessing,
    served: Mapping[str, Signature],
    facts: Mapping[str, Any],
) -> None:
    """Write `export.json`: signatures, preprocessing, facts, versions and checksums."""
    import keras_densenet

    fingerprint = tf.saved_model.experimental.read_fingerprint(str(version))
    content = {
        "exported": datetime.now(UTC).isoformat(timespec="seconds"),
        "signatures": {
            name: {
                "inputs": {s.takes.name: _described(s.takes)},
                "outputs": _outputs(s),
            }
            for name, s in served.items()
        },
        "preprocessing": _said_of(preprocessing),
        **facts,
        "versions": {
            "keras_densenet": keras_densenet.__version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "weights_sha256": weights_checksum(version),
        "saved_model_fingerprint": fingerprint.singleprint(),
    }
    text = json.dumps(
        _finite(content), indent=2, ensure_ascii=False, default=_plain, allow_nan=False
    )
    (version / "assets.extra" / "export.json").write_text(text + "\n", encoding="utf-8")


def _said_of(preprocessing: Preprocessing) -> dict[str, Any]:
    """Return how raw values are prepared; what only pictures have is left out."""
    channels = preprocessing.input_shape[-1]
    said = {key: it for key, it in preprocessing._asdict().items() if it is not None}
    if not preprocessing.is_of_pictures:
        return {**said, "channels": channels}
    return {
        **said,
        "channels": COLORS.get(channels, channels),
        "value_range": [0, 255],
        "antialias": True,
    }


def _finite(content: Any) -> Any:
    """Return content with a text for what JSON has no word for: NaN and infinity."""
    if isinstance(content, Mapping):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return str(content)
    return content


def _outputs(signature: Signature) -> dict[str, Any]:
    outputs = signature.function.get_concrete_function().structured_outputs
    return {name: _described(spec) for name, spec in outputs.items()}


def _described(spec: Any) -> dict[str, Any]:
    return {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}


def _plain(value: Any) -> Any:
    """Return a number of NumPy's as Python's, and anything else as a text."""
    return value.item() if isinstance(value, np.generic) else str(value)


# --- golden requests -------------------------------------------------------------


def made_input(preprocessing: Preprocessing) -> np.ndarray:
    """Make a raw picture, signal or volume of the network's size.

    It has slopes and edges, as pictures have; nothing depends on what it shows.

    Returns:
        `(H, W, channels)`, uint8; or `(T, channels)` or `(D, H, W, channels)`, float32
        about the mean of each channel, with few digits.
    """
    *size, channels = preprocessing.input_shape
    waves = _waves([n or 64 for n in size], channels)
    if preprocessing.is_of_pictures:
        return _picture(waves)
    step = 2.0 ** math.floor(math.log2(min(preprocessing.std) / 64))
    values = np.array(preprocessing.mean) + waves * np.array(preprocessing.std)
    return ((values / step).round() * step).astype("float32")


def _picture(waves: np.ndarray) -> np.ndarray:
    return (127.5 + 60 * waves).round().clip(0, 255).astype(np.uint8)


def _waves(size: Sequence[int], channels: int) -> np.ndarray:
    """Make waves of about 0 that differ along all axes, with a block in them."""
    *others, x = np.mgrid[tuple(slice(n) for n in size)] / max(size)
    waves = np.stack(
        [
            sum((np.cos(7 * y - c * x) for y in others), start=np.sin(9 * x + 2 * c))
            for c in range(channels)
        ],
        axis=-1,
    )
    *rows, width = size
    block = (*(slice(n // 3, n // 2) for n in rows), slice(width // 4, width // 2))
    waves[block] = 1.7
    return waves


def golden_batches(
    preprocessing: Preprocessing, served: Mapping[str, Signature]
) -> dict[str, np.ndarray]:
    """Return what each signature is asked: one input, or two pictures as files.

    One picture is of the network's size, the other larger and not square.
    """
    first = made_input(preprocessing)
    batches: dict[str, np.ndarray] = {}
    for name, signature in served.items():
        kind = signature.takes.name
        if kind == "images":
            batches[name] = first[np.newaxis].astype("float32")
        else:
            height, width, channels = first.shape
            larger = (height * 3 // 2 + 1, width * 2 + 1)
            files = _files([first, _picture(_waves(larger, channels))])
            rows = files if kind == "image_bytes" else list(map(_example, files))
            batches[name] = np.array(rows, object)
    return batches


def _files(pictures: Sequence[np.ndarray]) -> list[bytes]:
    """Return a PNG and a JPEG; with alpha, which a JPEG has not, two PNGs."""
    first, second = pictures
    if second.shape[-1] == 4:
        other = tf.io.encode_png(second)
    else:
        other = tf.io.encode_jpeg(second, quality=95)
    return [tf.io.encode_png(first).numpy(), other.numpy()]


def _example(file: bytes) -> bytes:
    content = tf.train.Feature(bytes_list=tf.train.BytesList(value=[file]))
    features = tf.train.Features(feature={EXAMPLE_FEATURE: content})
    return tf.train.Example(features=features).SerializeToString()


def write_golden(
    folder: Path, batches: Mapping[str, np.ndarray], expected: Mapping[str, Signature]
) -> None:
    """Write a request and its response for each signature, as the REST API has them.

    Args:
        folder: Where to write `<signature>.request.json` and `.response.json`.
        batches: What each is asked.
        expected: The signatures of the model as it was trained.

    Raises:
        ValueError: An answer has NaNs or infinite numbers.
    """
    folder.mkdir()
    for name, batch in batches.items():
        answer = expected[name].function(tf.constant(batch))
        columns = {key: _short(value.numpy()) for key, value in answer.items()}
        rows = [
            dict(zip(columns, row, strict=True))
            for row in zip(*columns.values(), strict=True)
        ]
        _write_json(folder / f"{name}.request.json", _request(name, batch))
        _write_json(folder / f"{name}.response.json", _response(name, rows))


def _short(values: np.ndarray) -> list:
    """Return an array as lists; of many numbers, as of pixels, no needless digits."""
    if values.ndim > 2 and values.dtype.kind == "f":
        values = values.astype("float64").round(6)
    return values.tolist()


def _request(name: str, batch: np.ndarray) -> dict[str, Any]:
    if name == "classify":
        examples = [tf.train.Example.FromString(row) for row in batch]
        feature = [e.features.feature[EXAMPLE_FEATURE] for e in examples]
        rows: list[Any] = [
            {EXAMPLE_FEATURE: _base64(f.bytes_list.value[0])} for f in feature
        ]
        return {"signature_name": name, "examples": rows}
    if batch.dtype == object:
        rows = [_base64(row) for row in batch]
    else:
        are_whole = (np.rint(batch) == batch).all() and (np.abs(batch) < 2**31).all()
        rows = (batch.astype(int) if are_whole else batch).tolist()
    return {"signature_name": name, "instances": rows}


def _base64(content: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(content).decode()}


def _response(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if name == "classify":
        pairs = [zip(row["classes"], row["scores"], strict=True) for row in rows]
        return {"results": [[[c.decode(), s] for c, s in pair] for pair in pairs]}
    readable = [
        {
            key: [v.decode() for v in value] if key == "classes" else value
            for key, value in row.items()
        }
        for row in rows
    ]
    return {"predictions": readable}


def _write_json(file: Path, content: Any) -> None:
    # A NaN is no JSON: ValueError.
    file.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")


# --- warm-up ---------------------------------------------------------------------


def write_warm_up(folder: Path, name: str, batches: Mapping[str, np.ndarray]) -> bool:
    """Write the golden requests for TensorFlow Serving to ask while it loads.

    Args:
        folder: Where to write the file.
        name: Name of the model that is served.
        batches: What each signature is asked.

    Returns:
        Whether they were written, for which `tensorflow-serving-api` must be there.
    """
    try:
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError:
        return False
    with tf.io.TFRecordWriter(str(folder / WARM_UP)) as writer:
        for signature, batch in batches.items():
            log = prediction_log_pb2.PredictionLog()
            if signature == "classify":
                request = log.classify_log.request
                for row in batch:
                    example = request.input.example_list.examples.add()
                    example.ParseFromString(row)
            else:
                request = log.predict_log.request
                key = "images" if batch.dtype != object else "image_bytes"
                tensor = tf.make_tensor_proto(batch)
                request.inputs[key].CopyFrom(tensor)
            request.model_spec.name = name
            request.model_spec.signature_name = signature
            writer.write(log.SerializeToString())
    return True
