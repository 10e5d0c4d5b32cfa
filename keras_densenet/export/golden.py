"""What a version was asked, and what its model answered as it was trained.

The files are those of `assets.extra`; requests and responses are those of TensorFlow
Serving's REST API. This file needs NumPy alone, since `replay.py` reads it where this
package cannot be imported.
"""

import base64
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Of the largest number of an answer, at least of 1. Rounding to bfloat16 costs a whole
# network up to 0.01, and processors round differently.
TOLERANCES = {"float32": 1e-4, "bfloat16": 0.05}

Outputs = Mapping[str, Any]  # an array, or nested lists, for each output


def golden_requests(version: Path) -> dict[str, tuple[dict, Outputs]]:
    """Return for each signature its request, in JSON, and the outputs of its model."""
    golden = {}
    for file in sorted(version.glob("assets.extra/golden/*.request.json")):
        name = file.name.removesuffix(".request.json")
        response = file.with_name(f"{name}.response.json").read_bytes()
        request = json.loads(file.read_bytes())
        golden[name] = request, outputs_of(json.loads(response))
    return golden | {"serving_default": golden["serve"]}


def rows_of(request: Mapping[str, Any]) -> list:
    """Return what a request in JSON asks a signature with one input, row by row."""
    if "examples" in request:
        return [_example(features) for features in request["examples"]]
    rows = request["instances"]
    return [base64.b64decode(r["b64"]) if isinstance(r, Mapping) else r for r in rows]


def _example(features: Mapping[str, Any]) -> bytes:
    import tensorflow as tf  # which takes seconds

    example = tf.train.Example()
    for name, value in features.items():
        content = base64.b64decode(value["b64"])
        example.features.feature[name].bytes_list.value.append(content)
    return example.SerializeToString()


def outputs_of(response: Mapping[str, Any]) -> dict[str, list]:
    """Return the columns of a response in JSON."""
    if "results" in response:
        pairs = response["results"]
        return {
            "classes": [[label for label, _ in row] for row in pairs],
            "scores": [[score for _, score in row] for row in pairs],
        }
    rows = response["predictions"]
    return {name: [row[name] for row in rows] for name in rows[0]}


def _facts(version: Path) -> dict[str, Any]:
    return json.loads((version / "assets.extra" / "export.json").read_bytes())


def precision_of(version: Path) -> str:
    """Return what a version computes its maps in: "float32" or "bfloat16"."""
    return _facts(version).get("compute_dtype", "float32")


def tolerance_of(version: Path) -> float:
    """Return how far answers may be from the golden ones, by a version's precision."""
    return TOLERANCES[precision_of(version)]


def thresholds_of(version: Path) -> list[float]:
    """Return from which probability on each label is given; empty if nothing says it.

    A label that is never given has infinity.
    """
    found = _facts(version).get("decisions", {}).get("thresholds", [])
    return [math.inf if number is None else number for number in found]


def difference(
    golden: Outputs,
    answer: Outputs,
    thresholds: Sequence[float] = (),
    tolerance: float = TOLERANCES["float32"],
) -> float:
    """Return the largest difference of numbers, as a share of the largest one or of 1.

    Classes may have changed places where their scores are all but equal, and labels may
    be given, or not, where their probability is all but the threshold: by less than the
    tolerance.

    Raises:
        ValueError: There are other outputs, other shapes, other classes or other
            decisions, or an output has NaNs or infinite numbers.
    """
    if golden.keys() != answer.keys():
        raise ValueError(f"It gives {sorted(answer)}, not {sorted(golden)}.")
    found = 0.0
    for name in golden.keys() - {"classes", "class_ids", "decisions", "class_map"}:
        expected, got = np.array(golden[name], "float64"), np.array(answer[name])
        if expected.shape != got.shape:
            raise ValueError(f"{name} has shape {got.shape}, not {expected.shape}.")
        scale = max(1.0, float(np.abs(expected).max(initial=0)))
        if not (np.isfinite(expected).all() and np.isfinite(got).all()):
            raise ValueError(f"{name} has NaNs or infinite numbers.")
        found = max(found, float(np.abs(expected - got).max(initial=0)) / scale)
    for name in golden.keys() & {"classes", "class_ids"}:
        scores = np.array(golden["scores"])
        _refuse_other_classes(golden[name], answer[name], scores, tolerance)
    if "class_map" in golden:
        _refuse_other_pixels(golden, answer, tolerance)
    if "decisions" in golden:
        _refuse_other_decisions(golden, answer, thresholds, tolerance)
    return found


def _refuse_other_decisions(
    golden: Outputs, answer: Outputs, thresholds: Sequence[float], tolerance: float
) -> None:
    shares = np.array(golden["probabilities"])
    wrong = np.array(golden["decisions"]) != np.array(answer["decisions"])
    # Of a rare label, whose threshold is low, the tolerance would excuse all answers.
    least = TOLERANCES["float32"]
    near = np.minimum(tolerance, np.maximum(np.array(thresholds) / 2, least))
    if (wrong & (np.abs(shares - np.array(thresholds)) > near)).any():
        raise ValueError("It gives other labels.")


def _refuse_other_pixels(golden: Outputs, answer: Outputs, tolerance: float) -> None:
    """Refuse a pixel of another class, unless both are all but equally probable."""
    shares = np.array(golden["probabilities"])  # (N, H, W, classes)
    expected, got = (np.array(it["class_map"], int) for it in (golden, answer))
    if expected.shape != got.shape or not ((got >= 0) & (got < shares.shape[-1])).all():
        raise ValueError(f"class_map has shape {got.shape}, not {expected.shape}.")
    of_expected, of_got = (
        np.take_along_axis(shares, numbers[..., np.newaxis], -1)
        for numbers in (expected, got)
    )
    wrong = (np.abs(of_expected - of_got) > tolerance).sum()
    if wrong:
        raise ValueError(f"{wrong} of {expected.size} pixels are of another class.")


def _refuse_other_classes(
    golden: list, answer: Any, scores: np.ndarray, tolerance: float
) -> None:
    for row, (expected, found) in enumerate(zip(golden, answer, strict=True)):
        names = [f.decode() if isinstance(f, bytes) else f for f in found]
        for rank, (one, other) in enumerate(zip(expected, names, strict=True)):
            where = expected.index(other) if other in expected else len(expected) - 1
            if one != other and abs(scores[row][rank] - scores[row][where]) > tolerance:
                raise ValueError(f"The class is {other}, not {one}.")


# --- the other files -------------------------------------------------------------


def weights_checksum(version: Path) -> str:
    """Return the SHA-256 of a version's weights."""
    with (version / "variables" / "variables.data-00000-of-00001").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def errors_of_files(version: Path, golden: Mapping[str, tuple]) -> Iterator[str]:
    """Yield what is wrong with the weights and with `labels.txt`."""
    extra = version / "assets.extra"
    found = weights_checksum(version)
    if found != _facts(version)["weights_sha256"]:
        yield f"The weights are not those that were exported: their SHA-256 is {found}."
    if not (extra / "labels.txt").is_file():
        yield "There is no labels.txt."
        return
    labels = (extra / "labels.txt").read_text(encoding="utf-8").splitlines()
    classes = np.shape(golden["serve"][1]["probabilities"])[-1]
    if len(labels) != classes:
        yield f"labels.txt has {len(labels)} lines for {classes} classes."
    elif "class_ids" in golden.get("predict_bytes", [{}, {}])[1]:
        of_files = golden["predict_bytes"][1]
        named = [[labels[number] for number in row] for row in of_files["class_ids"]]
        if named != of_files["classes"]:
            yield "labels.txt has other classes than the golden answers."
