"""Other formats of the same network: LiteRT and ONNX.

Both take raw pictures `images`, gray, RGB or RGBA, of the network's size, or signals or
volumes, and return `logits` and `probabilities`, and `decisions` where there are
thresholds, as the signature `serve` does. Each is run in its own runtime, and compared
with the model, before it is written.

LiteRT has no pooling of volumes, and convolves them in float32 alone; ONNX has it all.
"""

import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_densenet.data import DataModule
from keras_densenet.decisions import Decisions
from keras_densenet.export.assets import made_input
from keras_densenet.export.held_out import (
    BATCH,
    Run,
    accuracy_of,
    checked_pictures,
    raw_pictures,
)
from keras_densenet.export.inference import (
    inference_network,
    refuse_unknown_answers,
    unfolded_network,
)
from keras_densenet.export.publish import refuse_other_decisions, refuse_others
from keras_densenet.export.signatures import (
    Preprocessing,
    Serving,
    Signature,
    served_of,
)
from keras_densenet.export.verification import ExportError
from keras_densenet.whole_file import whole_file

EQUAL = 1e-4  # of the largest logit: rounding
CLOSE = 0.1  # with weights of 8 bits
CALIBRATION = 500  # pictures
MAX_DROP = 0.02
OPSET = 18
LITERT_LACKS = {"AvgPool3D", "MaxPool3D"}
LITERT_LACKS_IN_8_BITS = {"Conv3D"}  # its weights and its sums stay float32


class Conversion(NamedTuple):
    """A network in another format.

    Attributes:
        path: The file.
        difference: How far its logits are from the model's, as a share of the largest.
        accuracy: Share of the pictures held out that it classifies rightly, in 0..1;
            None if there were none.
        accuracy_before: The same of the model.
    """

    path: Path
    difference: float
    accuracy: float | None = None
    accuracy_before: float | None = None


def onnx(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    class_names: Sequence[str] = (),
    decisions: Decisions | None = None,
) -> Conversion:
    """Write a network as ONNX, by tf2onnx, and run it in ONNX Runtime.

    Args:
        model: Takes standardized pictures, signals or volumes, and returns class
            probabilities or logits.
        path: Path of the file, such as "cifar10.onnx".
        mean: Mean of each channel: of pictures in 0..255, of signals and volumes in
            their own units.
        std: Standard deviation of each channel, likewise.
        class_names: Kept in the file's metadata as "class_names", one name a line.
        decisions: Temperatures and thresholds of the labels: then it also answers
            "decisions" (N, classes), bool.

    Raises:
        ImportError: The extra `onnx` is not installed.
        ValueError: The model is not one that can be converted.
        ExportError: It does not answer as the model does, and nothing was written.
    """
    _refuse_without("onnx", "tf2onnx", "onnxruntime", "onnx")
    import onnx as onnx_format
    import onnxruntime
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.WARNING)
    networks = _Networks.of(model, mean, std, decisions)
    spec = networks.served.takes
    converted, _ = tf2onnx.convert.from_function(
        networks.served.function, input_signature=[spec], opset=OPSET
    )
    names = {"class_names": "\n".join(class_names)} if class_names else {}
    onnx_format.helper.set_model_props(converted, names)
    content = converted.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> Mapping[str, np.ndarray]:
        outputs = [output.name for output in session.get_outputs()]
        feeds = {"images": images.astype("float32")}
        return dict(zip(outputs, session.run(outputs, feeds), strict=True))

    difference = networks.difference(run, EQUAL)
    return Conversion(_written(content, path), difference)


def litert(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    quantize: str | None = None,
    calibration: np.ndarray | None = None,
    held_out: tuple[np.ndarray, np.ndarray] | None = None,
    max_drop: float = MAX_DROP,
    decisions: Decisions | None = None,
) -> Conversion:
    """Write a network for LiteRT, which was TensorFlow Lite, and run it there.

    Args:
        model: Takes standardized pictures or signals, and returns class probabilities
            or logits. Volumes only where nothing pools them, as in a single block.
        path: Path of the file, such as "cifar10.tflite".
        mean: Mean of each channel: of pictures in 0..255, of signals and volumes in
            their own units.
        std: Standard deviation of each channel, likewise.
        quantize: None for float32; "dynamic" for weights of 8 bits; "int8" for weights
            and activations of 8 bits, whose input is raw pixels as uint8, and signals
            in their own units as float32. Not for volumes.
        calibration: 100 or more raw pictures `(N, H, W, channels)` in 0..255, or
            signals `(N, T, channels)`, such as the network will see; "int8" needs them
            for the ranges of activations.
        held_out: Other raw pictures and their class numbers; "int8" needs them to
            measure how much accuracy it loses.
        max_drop: How much accuracy may be lost on these; 0.02 is 2 percentage points.
        decisions: Temperatures and thresholds of the labels: then it also answers
            "decisions" (N, classes), bool.

    Raises:
        ImportError: The extra `litert` is not installed.
        ValueError: What "int8" needs is missing, or what is held out is not of the
            model; the model is not one that can be converted; LiteRT lacks an operation
            of it, which is named.
        ExportError: It does not answer as the model does, or loses too much accuracy,
            and nothing was written.
    """
    if quantize == "int8" and (calibration is None or held_out is None):
        raise ValueError(
            'quantize="int8" needs two more arguments: calibration, raw pictures to '
            "find the ranges of activations, and held_out, other pictures with their "
            "labels to measure the accuracy that is lost."
        )
    networks = _networks_for_litert(model, mean, std, quantize, decisions)
    if held_out is not None:
        held_out = checked_pictures(held_out, model, max_drop)
    return _litert(networks, path, quantize, calibration, held_out, max_drop)


def _networks_for_litert(
    model: keras.Model,
    mean: Sequence[float],
    std: Sequence[float],
    quantize: str | None,
    decisions: Decisions | None,
) -> "_Networks":
    """Return the networks, refusing what cannot be converted before data are read."""
    _refuse_without("litert", "ai_edge_litert")
    if quantize not in (None, "dynamic", "int8"):
        raise ValueError(
            f'quantize must be None, "dynamic" or "int8". Received: {quantize!r}'
        )
    networks = _Networks.of(model, mean, std, decisions)
    _refuse_what_litert_lacks(networks.served, quantize)
    return networks


def _litert(
    networks: "_Networks",
    path: str | os.PathLike,
    quantize: str | None,
    calibration: np.ndarray | None,
    held_out: tuple[np.ndarray, np.ndarray] | None,
    max_drop: float = MAX_DROP,
) -> Conversion:
    content = _converted(networks, quantize, calibration)
    run = _litert_run(content)
    if quantize == "int8":
        difference = networks.difference(run, float("inf"), calibration)
    else:
        difference = networks.difference(run, CLOSE if quantize else EQUAL)
    found = before = None
    if held_out is not None:
        found, before = (
            accuracy_of(asked, *held_out) for asked in (run, networks.expected.function)
        )
        if before - found > max_drop:
            raise ExportError(
                f"The quantized network ({quantize}) classifies {found:.1%} of "
                f"{len(held_out[1])} pictures rightly, the model {before:.1%}: more "
                f"than max_drop={max_drop} is lost, and nothing was written. DenseNets "
                "lose much, since one scale serves a whole dense block. Calibrate with "
                'more pictures, or pass quantize="dynamic".'
            )
    return Conversion(_written(content, path), difference, found, before)


def litert_of_data(
    model: keras.Model,
    path: str | os.PathLike,
    data: DataModule,
    quantize: str | None = None,
    decisions: Decisions | None = None,
) -> Conversion:
    """Write a network for LiteRT, quantized by the pictures of its data module.

    Activations are calibrated with 500 training pictures, accuracy is measured on 2,000
    test pictures, or as many as there are.
    """
    networks = _networks_for_litert(model, data.mean, data.std, quantize, decisions)
    calibration = held_out = None
    if quantize:
        data.prepare_data()
        calibration, _ = raw_pictures(data, "fit", CALIBRATION)
        held_out = checked_pictures(raw_pictures(data, "test"), model, MAX_DROP)
    return _litert(networks, path, quantize, calibration, held_out)


class _Networks(NamedTuple):
    """The network to convert, and the one to compare with: from raw pictures."""

    served: Signature
    expected: Signature
    preprocessing: Preprocessing

    @classmethod
    def of(
        cls,
        model: keras.Model,
        mean: Sequence[float],
        std: Sequence[float],
        decisions: Decisions | None,
    ) -> "_Networks":
        refuse_others(model)
        refuse_other_decisions(model, decisions)
        shape = model.input_shape[1:]
        if None in shape:
            raise ValueError(
                "Only a network whose input has a fixed size, of pictures a fixed "
                "height and width, can be converted. Build it with the sizes in "
                f"input_shape. Received: input_shape={shape}"
            )
        refuse_unknown_answers(model)
        preprocessing = Preprocessing(shape, mean, std)
        serving = Serving(preprocessing, [], 1, decisions)
        spec = tf.TensorSpec([None, *shape], tf.float32, name="images")
        served, expected = (
            Signature.of(_of_pictures(serving, network), spec)
            for network in (inference_network(model), unfolded_network(model))
        )
        return cls(served, expected, preprocessing)

    def difference(
        self, run: Run, allowed: float, images: np.ndarray | None = None
    ) -> float:
        """Return how far logits are from the model's, as a share of the largest."""
        if images is None:
            images = made_input(self.preprocessing)[np.newaxis]
        images = np.asarray(images[:BATCH], "float32")
        expected = self.expected.function(tf.constant(images))["logits"].numpy()
        found = run(images)["logits"]
        largest = float(np.abs(expected).max()) or 1.0  # untrained it may return zeros
        difference = float(np.abs(found - expected).max()) / largest
        if not difference <= allowed:
            raise ExportError(
                "The converted network answers differently from the model, by "
                f"{difference:.2g} of the largest logit, and nothing was written. "
                "Check the model's weights for NaNs."
            )
        return difference


def _of_pictures(serving: Serving, network: Any) -> Callable:
    def answer(images: Any) -> dict[str, Any]:
        found = serving.answers(network, images)
        return {name: found[name] for name in ["logits", *served_of(found)]}

    return answer


def _refuse_what_litert_lacks(served: Signature, quantize: str | None) -> None:
    graph = served.function.get_concrete_function().graph.as_graph_def()
    functions = (function.node_def for function in graph.library.function)
    operations = {node.op for node in chain(graph.node, *functions)}
    if missing := operations & LITERT_LACKS:
        raise ValueError(
            f"LiteRT has no {', '.join(sorted(missing))}, which the network needs, and "
            "nothing was written. Export it as ONNX or as a SavedModel, whose runtimes "
            "have all that volumes need."
        )
    if quantize and (missing := operations & LITERT_LACKS_IN_8_BITS):
        raise ValueError(
            f"LiteRT has {', '.join(sorted(missing))} in float32 alone, so that 8 bits "
            "would make the network neither smaller nor faster, and nothing was "
            f"written. Leave quantize out. Received: quantize={quantize!r}"
        )


def _converted(
    networks: _Networks, quantize: str | None, calibration: np.ndarray | None
) -> bytes:
    served, is_of_pictures = networks.served, networks.preprocessing.is_of_pictures
    with tempfile.TemporaryDirectory() as folder:
        archive = keras.export.ExportArchive()
        archive.add_endpoint("serve", served.function, [served.takes])
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=["serving_default"]
        )
        # Without TensorFlow's own operations, which a device would not have.
        operations = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if quantize:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == "int8":
            assert calibration is not None
            operations = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            if is_of_pictures:
                converter.inference_input_type = tf.uint8
            converter.representative_dataset = partial(
                _one_by_one, calibration, is_of_pictures
            )
        converter.target_spec.supported_ops = operations
        with warnings.catch_warnings():
            # TensorFlow calibrates with an interpreter that it says it will remove.
            warnings.filterwarnings("ignore", ".*tf.lite.Interpreter is deprecated")
            return converter.convert()


def _one_by_one(
    calibration: np.ndarray, are_pictures: bool
) -> Iterator[dict[str, np.ndarray]]:
    """Yield samples one by one, the first picture with the whole range of 0..255 in it.

    The input's scale is then 1: a raw pixel as uint8 stands for itself.
    """
    for number, one in enumerate(np.asarray(calibration, "float32")):
        if are_pictures and number == 0:
            one = one.copy()
            one[0, 0], one[-1, -1] = 0.0, 255.0
        yield {"images": one[np.newaxis]}


def _litert_run(content: bytes) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_content=content).get_signature_runner("serving_default")
    kind = runner.get_input_details()["images"]["dtype"]

    def run(images: np.ndarray) -> Mapping[str, np.ndarray]:
        whole = np.rint(images) if np.issubdtype(kind, np.integer) else images
        return runner(images=np.asarray(whole).astype(kind))

    return run


def _refuse_without(extra: str, *modules: str) -> None:
    import importlib.util

    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"This format needs {', '.join(missing)}. Install the extra that has it: "
            f"pip install 'keras-densenet[{extra}]'"
        )


def _written(content: bytes, path: str | os.PathLike) -> Path:
    """Write a file, and return its path. Its folder is made if it is not there."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(
            f"{path} is a folder. Pass the path of the file to write."
        )
    with whole_file(path) as beside:
        beside.write_bytes(content)
    return path
