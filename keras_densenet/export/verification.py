"""Check a version by its files alone, in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_densenet.export.golden import (
    difference,
    golden_requests,
    precision_of,
    thresholds_of,
    tolerance_of,
)

REPLAY = Path(__file__).with_name("replay.py")
NEEDED = ("saved_model.pb", "assets.extra/export.json", "assets.extra/golden")


class ExportError(RuntimeError):
    """An export that was written does not answer as its model does."""


def verify(version: str | os.PathLike) -> dict[str, Any]:
    """Ask a version its golden requests, in a process without this package and Keras.

    That process loads the version's files by TensorFlow's session loader, and is free
    to import TensorFlow and NumPy alone: see `replay.py`.

    Args:
        version: Its folder, such as `saved_models/cifar10/1`.

    Returns:
        "tensorflow": its version; "differences": the largest one of each signature,
        relative; "warm_up": how many warm-up requests were replayed, None if
        `tensorflow-serving-api` is not there to read them.

    Raises:
        ExportError: It cannot be loaded, or gives other answers.
        ValueError: It is no version that this package exported.
    """
    folder = Path(version).resolve()
    missing = [name for name in NEEDED if not (folder / name).exists()]
    if missing:
        raise ValueError(
            f"{version} is no exported version: it has no {', '.join(missing)}. Pass "
            "the folder with the number, such as saved_models/cifar10/1."
        )
    done = replay(folder)
    lines = done.stdout.strip().splitlines()
    if done.returncode not in (0, 1) or not lines:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise ExportError(
            f"{version} could not be checked, since the process that replays its "
            f"requests ended early. The last line that it printed: {last}"
        )
    report = json.loads(lines[-1])
    errors = report.pop("errors")
    if errors:
        raise ExportError(
            f"{version} does not hold. Do not serve it: export the model again.\n"
            + "\n".join(errors)
        )
    return report


def replay(folder: Path) -> subprocess.CompletedProcess:
    """Run `replay.py` on a version, in a process of its own."""
    # -I: no folder of the user's is searched for modules. No GPU is taken.
    command = [sys.executable, "-I", str(REPLAY), str(folder)]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "2"}
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, check=False
    )


class OpenVINOAnswer(NamedTuple):
    """What OpenVINO makes of a version."""

    runtime: str
    difference: float  # relative, of `serving_default`


def openvino_difference(version: str | os.PathLike) -> OpenVINOAnswer | None:
    """Ask a version's `serving_default` its golden request, through OpenVINO.

    Returns:
        What it answers; None where OpenVINO is not installed, or of a version in
        bfloat16, whose vectors OpenVINO rounds as well: it takes a version in float32,
        and computes that in bfloat16 by itself.

    Raises:
        ExportError: It cannot read the version, or gives other answers.
    """
    try:
        import openvino
    except ImportError:
        return None
    if precision_of(Path(version)) != "float32":
        return None
    request, golden = golden_requests(Path(version))["serving_default"]
    images = np.array(request["instances"], "float32")
    answer = _openvino_answer(Path(version), images, list(golden))
    found = difference(golden, answer, thresholds_of(Path(version)))
    if not found <= tolerance_of(Path(version)):
        raise ExportError(
            f"OpenVINO answers differently from the model, by {found:.2g}, while "
            f"TensorFlow's answers hold. Serve {version} with TensorFlow."
        )
    runtime = f"OpenVINO {openvino.__version__.partition('-')[0]}"
    return OpenVINOAnswer(runtime, found)


def _openvino_answer(
    version: Path, images: np.ndarray, outputs: Sequence[str]
) -> dict[str, np.ndarray]:
    import openvino

    core = openvino.Core()
    # On processors that have it, OpenVINO computes in bfloat16 if it is let.
    precise = {"INFERENCE_PRECISION_HINT": "f32"}
    try:
        compiled = core.compile_model(core.read_model(version), "CPU", precise)
        found = compiled({"images": images})
    except RuntimeError as error:  # an operation that it has not
        why = str(error).strip().splitlines()[-1]
        raise ExportError(
            f"OpenVINO cannot read {version}, while TensorFlow's answers hold. Serve "
            f"it with TensorFlow. OpenVINO says: {why}"
        ) from error
    return {name: found[name] for name in outputs}
