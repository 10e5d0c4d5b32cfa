"""Replay a version's golden requests, in a process without this package and Keras.

It is a script that needs TensorFlow, NumPy and the file `golden.py` beside it. The
version is loaded from its files alone, by TensorFlow's session loader:

    python -I replay.py saved_models/cifar10/1

The golden requests and the warm-up requests of `assets.extra` are asked, and what was
found is printed as JSON. The exit status is 1 if an answer is not the golden one, or
if anything else does not hold.
"""

import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":  # and not where this file is only looked at
    # Importing them fails from here on: what is served needs neither.
    sys.modules |= {"keras_densenet": None, "keras": None}  # type: ignore[dict-item]

import tensorflow as tf

WARM_UP = "assets.extra/tf_serving_warmup_requests"


def _beside(name: str) -> Any:
    """Import a file beside this one, which is no part of a package here."""
    path = Path(__file__).with_name(f"{name}.py")
    spec: Any = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


golden = _beside("golden")


def check(version: Path) -> dict[str, Any]:
    """Replay the golden and the warm-up requests of a version.

    Returns:
        "tensorflow", "differences" and "warm_up", as `verify` has them; "errors": a
        sentence for each thing that does not hold. There are "errors" alone if
        TensorFlow cannot load the version.
    """
    errors: list[str] = []
    requests: dict[str, tuple[dict, Mapping]] = {}
    bounds: tuple[list[float], float] = [], 0.0
    served = None
    with _noted("A file in assets.extra is damaged", errors):
        requests = golden.golden_requests(version)
        bounds = golden.thresholds_of(version), golden.tolerance_of(version)
        errors += golden.errors_of_files(version, requests)
    with _noted("TensorFlow cannot load it", errors):
        served = _Served(version)
    if served is None:
        return {"errors": errors}
    differences = _replay_golden(served, requests, *bounds, errors)
    warm_up = _replay_warm_up(served, version / WARM_UP, errors)
    report = {"tensorflow": tf.__version__, "differences": differences}
    return report | {"warm_up": warm_up, "errors": errors}


@contextmanager
def _noted(what: str, errors: list[str]) -> Iterator[None]:
    """Note an error of any kind, as TensorFlow has many, and go on after the block."""
    try:
        yield
    except Exception as error:
        errors.append(f"{what}: {type(error).__name__}: {error}")


class _Served:
    """A version in a session, with inputs and outputs of its signatures by name."""

    def __init__(self, version: Path) -> None:
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        graph = tf.compat.v1.saved_model.load(self._session, ["serve"], str(version))
        self.signatures = {
            name: (dict(signature.inputs), dict(signature.outputs))
            for name, signature in graph.signature_def.items()
            if signature.method_name
        }

    def answer(
        self, signature: str, feeds: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        takes, gives = self.signatures[signature]
        for name, value in feeds.items():  # which a session would cast, but no server
            if tf.as_dtype(value.dtype) != takes[name].dtype:
                raise TypeError(f"{name} cannot be {value.dtype}.")
        return self._session.run(
            {name: output.name for name, output in gives.items()},
            {takes[name].name: value for name, value in feeds.items()},
        )

    def answer_to_rows(self, signature: str, rows: list) -> dict[str, np.ndarray]:
        ((name, takes),) = self.signatures[signature][0].items()
        kind = tf.as_dtype(takes.dtype).as_numpy_dtype
        return self.answer(signature, {name: np.array(rows, kind)})


def _replay_golden(
    served: _Served,
    requests: Mapping[str, tuple[dict, Mapping]],
    thresholds: list[float],
    tolerance: float,
    errors: list[str],
) -> dict[str, float]:
    differences: dict[str, float] = {}
    for name, (request, expected) in requests.items():
        with _noted(name, errors):
            answer = served.answer_to_rows(name, golden.rows_of(request))
            bounds = (thresholds, tolerance)
            differences[name] = found = golden.difference(expected, answer, *bounds)
            if not found <= tolerance:
                raise ValueError(f"It gives other answers, by {found:.2g}.")
    unasked = sorted(served.signatures.keys() - differences.keys())
    if unasked and not errors:
        errors.append(f"There are no golden requests for {', '.join(unasked)}.")
    return differences


def _replay_warm_up(served: _Served, file: Path, errors: list[str]) -> int | None:
    """Return how many requests were replayed; None if nothing here can read them."""
    if not file.exists():
        return 0
    try:
        from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog
    except ImportError:
        return None
    replayed = size = 0
    with _noted(f"{file.name} is damaged", errors):
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            signature, feeds = asked(PredictionLog.FromString(record))
            with _noted(f"warm-up of {signature}", errors):
                served.answer(signature, feeds)
            replayed += 1
            size += len(record) + 16  # bytes, with its length and two checksums
        if size != file.stat().st_size:  # TensorFlow passes over a piece of a length
            raise ValueError("It ends in the middle of a request.")
    return replayed


def asked(log: Any) -> tuple[str, dict[str, np.ndarray]]:
    """Return the signature that a PredictionLog asks, and the array of each input."""
    if log.HasField("classify_log"):
        request = log.classify_log.request
        examples = request.input.example_list.examples
        rows = [example.SerializeToString() for example in examples]
        feeds = {"inputs": np.array(rows, object)}
    else:
        request = log.predict_log.request
        feeds = {name: tf.make_ndarray(v) for name, v in request.inputs.items()}
    return request.model_spec.signature_name, feeds


def main() -> None:
    """Check the version that the command line names."""
    (version,) = sys.argv[1:]
    report = check(Path(version))
    print(json.dumps(report))
    sys.exit(1 if report["errors"] else 0)


if __name__ == "__main__":
    main()
