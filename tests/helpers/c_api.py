"""A SavedModel asked as TensorFlow Serving asks it: by TensorFlow's C library alone.

This file stands on its own. Run as a script it checks a version with neither this
package nor TensorFlow's Python in the process:

    python c_api.py saved_models/cifar10/1

It replays the golden requests and the warm-up requests of `assets.extra`, and prints
what it found as JSON. The exit status is 1 if an answer is not the golden one.
"""

import base64
import ctypes
import hashlib
import importlib
import importlib.util
import json
import os
import struct
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

TOLERANCE = 1e-4  # of the largest number of an answer, at least of 1
STRING = 7  # TensorFlow's numbers of types
TYPES = {1: "float32", 2: "float64", 3: "int32", 4: "uint8", 9: "int64", 10: "bool"}
STRING_BYTES = 24  # sizeof(TF_TString)


class RequestError(RuntimeError):
    """TensorFlow answered with an error; `code` is gRPC's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Output(ctypes.Structure):
    """TF_Output: an output of an operation."""

    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


class Buffer(ctypes.Structure):
    """TF_Buffer: bytes."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("deallocator", ctypes.c_void_p),
    ]


class Session:
    """A SavedModel, loaded.

    Args:
        folder: Of a version.

    Attributes:
        signatures: For each name its inputs and outputs, by name; each has `name`,
            `dtype` and `tensor_shape` (TensorInfo).

    Raises:
        RequestError: It cannot be loaded.
        FileNotFoundError: TensorFlow's C library is not there.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self._tf = _library()
        self._status = self._tf.TF_NewStatus()
        self._graph = self._tf.TF_NewGraph()
        options = self._tf.TF_NewSessionOptions()
        meta = self._tf.TF_NewBuffer()
        tags = (ctypes.c_char_p * 1)(b"serve")
        path = os.fsencode(folder)
        self._session = self._tf.TF_LoadSessionFromSavedModel(
            options, None, path, tags, 1, self._graph, meta, self._status
        )
        self._raise_if_failed()
        graph = ctypes.string_at(meta.contents.data, meta.contents.length)
        self._tf.TF_DeleteBuffer(meta)
        self._tf.TF_DeleteSessionOptions(options)
        proto = _proto("tensorflow.core.protobuf.meta_graph_pb2").MetaGraphDef
        self.signatures = {
            name: (dict(signature.inputs), dict(signature.outputs))
            for name, signature in proto.FromString(graph).signature_def.items()
            if signature.method_name
        }

    @property
    def version(self) -> str:
        """TensorFlow's."""
        return self._tf.TF_Version().decode()

    def run(self, signature: str, feeds: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Ask a signature.

        Args:
            signature: Its name.
            feeds: An array for each input; of type object where it takes strings.

        Returns:
            An array for each output; of type object where it gives strings.

        Raises:
            RequestError: TensorFlow refuses, or does not succeed.
        """
        takes, gives = self.signatures[signature]
        inputs = [self._output(takes[name].name) for name in feeds]
        outputs = [self._output(info.name) for info in gives.values()]
        values = [self._tensor(array) for array in feeds.values()]
        answers = (ctypes.c_void_p * len(outputs))()
        self._tf.TF_SessionRun(
            self._session,
            None,
            (Output * len(inputs))(*inputs),
            (ctypes.c_void_p * len(values))(*values),
            len(inputs),
            (Output * len(outputs))(*outputs),
            answers,
            len(outputs),
            None,
            0,
            None,
            self._status,
        )
        for value in values:
            self._delete(value)
        self._raise_if_failed()
        found = {
            name: self._array(pointer)
            for name, pointer in zip(gives, answers, strict=True)
        }
        for pointer in answers:
            self._delete(pointer)
        return found

    def _output(self, tensor: str) -> Output:
        operation, _, index = tensor.partition(":")
        found = self._tf.TF_GraphOperationByName(self._graph, operation.encode())
        return Output(found, int(index or 0))

    def _tensor(self, array: np.ndarray) -> Any:
        shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        if array.dtype.kind not in "OSU":
            numbers = {name: number for number, name in TYPES.items()}
            array = np.ascontiguousarray(array)
            kind = numbers[array.dtype.name]
            tensor = self._tf.TF_AllocateTensor(kind, shape, array.ndim, array.nbytes)
            data = self._tf.TF_TensorData(tensor)
            ctypes.memmove(data, array.ctypes.data, array.nbytes)
            return tensor
        length = array.size * STRING_BYTES
        tensor = self._tf.TF_AllocateTensor(STRING, shape, array.ndim, length)
        start = self._tf.TF_TensorData(tensor)
        for number, text in enumerate(array.ravel()):
            string = ctypes.c_void_p(start + number * STRING_BYTES)
            encoded = text.encode() if isinstance(text, str) else text
            self._tf.TF_StringInit(string)
            self._tf.TF_StringCopy(string, encoded, len(encoded))
        return tensor

    def _array(self, tensor: Any) -> np.ndarray:
        rank = self._tf.TF_NumDims(tensor)
        shape = [self._tf.TF_Dim(tensor, axis) for axis in range(rank)]
        kind, data = self._tf.TF_TensorType(tensor), self._tf.TF_TensorData(tensor)
        if kind != STRING:
            size = self._tf.TF_TensorByteSize(tensor)
            content = ctypes.string_at(data, size) if size else b""
            return np.frombuffer(content, TYPES[kind]).reshape(shape)
        array = np.empty(int(np.prod(shape)), object)
        for number in range(array.size):
            string = ctypes.c_void_p(data + number * STRING_BYTES)
            length = self._tf.TF_StringGetSize(string)
            pointer = self._tf.TF_StringGetDataPointer(string)
            array[number] = ctypes.string_at(pointer, length)
        return array.reshape(shape)

    def _delete(self, tensor: Any) -> None:
        if self._tf.TF_TensorType(tensor) == STRING:
            data, count = self._tf.TF_TensorData(tensor), self._count(tensor)
            for number in range(count):
                string = ctypes.c_void_p(data + number * STRING_BYTES)
                self._tf.TF_StringDealloc(string)
        self._tf.TF_DeleteTensor(tensor)

    def _count(self, tensor: Any) -> int:
        rank = self._tf.TF_NumDims(tensor)
        return int(np.prod([self._tf.TF_Dim(tensor, axis) for axis in range(rank)]))

    def _raise_if_failed(self) -> None:
        code = self._tf.TF_GetCode(self._status)
        if code:
            message = self._tf.TF_Message(self._status).decode(errors="replace")
            self._tf.TF_SetStatus(self._status, 0, b"")
            raise RequestError(code, message)


def _library() -> Any:
    """Load TensorFlow's C library out of the installed package, not importing it."""
    folder = _tensorflow_folder()
    found = sorted(folder.glob("libtensorflow_cc*")) if folder else []
    if not found:
        raise FileNotFoundError(
            f"There is no libtensorflow_cc in {folder}: TensorFlow's packages for "
            "Linux and macOS have it."
        )
    library = ctypes.CDLL(str(found[0]), mode=ctypes.RTLD_GLOBAL)
    pointer, number, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
    text = ctypes.c_char_p
    returns: dict[str, Any] = {
        "TF_NewStatus": pointer,
        "TF_NewGraph": pointer,
        "TF_NewSessionOptions": pointer,
        "TF_NewBuffer": ctypes.POINTER(Buffer),
        "TF_LoadSessionFromSavedModel": pointer,
        "TF_GraphOperationByName": pointer,
        "TF_AllocateTensor": pointer,
        "TF_TensorData": pointer,
        "TF_TensorByteSize": size,
        "TF_TensorType": number,
        "TF_NumDims": number,
        "TF_Dim": ctypes.c_int64,
        "TF_StringGetDataPointer": pointer,
        "TF_StringGetSize": size,
        "TF_GetCode": number,
        "TF_Message": text,
        "TF_Version": text,
    }
    for name, kind in returns.items():
        getattr(library, name).restype = kind
    takes: dict[str, list] = {
        "TF_LoadSessionFromSavedModel": [
            *(pointer, pointer, text, pointer, number, pointer),
            *(ctypes.POINTER(Buffer), pointer),
        ],
        "TF_DeleteBuffer": [ctypes.POINTER(Buffer)],
        "TF_DeleteSessionOptions": [pointer],
        "TF_SessionRun": [
            *(pointer, pointer, pointer, pointer, number, pointer, pointer, number),
            *(pointer, number, pointer, pointer),
        ],
        "TF_GraphOperationByName": [pointer, text],
        "TF_AllocateTensor": [number, pointer, number, size],
        "TF_TensorData": [pointer],
        "TF_TensorByteSize": [pointer],
        "TF_TensorType": [pointer],
        "TF_NumDims": [pointer],
        "TF_Dim": [pointer, number],
        "TF_DeleteTensor": [pointer],
        "TF_StringInit": [pointer],
        "TF_StringCopy": [pointer, text, size],
        "TF_StringDealloc": [pointer],
        "TF_StringGetDataPointer": [pointer],
        "TF_StringGetSize": [pointer],
        "TF_GetCode": [pointer],
        "TF_Message": [pointer],
        "TF_SetStatus": [pointer, number, text],
    }
    for name, kinds in takes.items():
        getattr(library, name).argtypes = kinds
    return library


def _tensorflow_folder() -> Path | None:
    """Find where TensorFlow is installed."""
    loaded = sys.modules.get("tensorflow")
    spec = loaded.__spec__ if loaded else importlib.util.find_spec("tensorflow")
    return Path(spec.origin).parent if spec and spec.origin else None


def _proto(module: str) -> Any:
    """Import what protobuf generated, without what `import tensorflow` runs."""
    if "tensorflow" not in sys.modules:
        hollow = types.ModuleType("tensorflow")
        hollow.__spec__ = importlib.util.find_spec("tensorflow")
        hollow.__path__ = [str(_tensorflow_folder())]
        sys.modules["tensorflow"] = hollow
    return importlib.import_module(module)


# --- golden requests: TensorFlow Serving's REST API, row by row ------------------


def check(folder: Path) -> dict[str, Any]:
    """Replay the golden and the warm-up requests of a version.

    Returns:
        "differences": the largest one of each signature; "warm_up": how many requests
        were replayed, None if they cannot be read here; "errors": what is wrong.
    """
    extra = folder / "assets.extra"
    errors = [*_other_weights(folder, extra), *_other_labels(extra)]
    differences: dict[str, float] = {}
    report: dict[str, Any] = {"differences": differences, "errors": errors}
    try:
        session = Session(folder)
    except RequestError as error:
        errors.append(f"TensorFlow cannot load it: {error}")
        return report
    for file in sorted(extra.glob("golden/*.request.json")):
        name = file.name.removesuffix(".request.json")
        request = json.loads(file.read_bytes())
        golden = json.loads((file.parent / f"{name}.response.json").read_bytes())
        for asked in [name, "serving_default"] if name == "serve" else [name]:
            try:
                feeds = feeds_of(request, session.signatures[asked][0])
                found = difference(outputs_of(golden), session.run(asked, feeds))
            except (KeyError, ValueError, RequestError) as error:
                errors.append(f"{asked}: {error}")
                continue
            differences[asked] = found
            if not found <= TOLERANCE:
                errors.append(f"{asked} gives other answers, by {found:.2g}")
    unasked = session.signatures.keys() - differences.keys()
    if unasked and not errors:
        errors.append(f"there are no golden requests for {', '.join(sorted(unasked))}")
    warm_up = _replay(session, extra / "tf_serving_warmup_requests", errors)
    return report | {"tensorflow": session.version, "warm_up": warm_up}


def _other_weights(folder: Path, extra: Path) -> list[str]:
    facts = json.loads((extra / "export.json").read_bytes())
    found = weights_checksum(folder)
    if found == facts["weights_sha256"]:
        return []
    return [f"the weights are not those that were exported: SHA-256 {found}"]


def _other_labels(extra: Path) -> list[str]:
    """Compare `labels.txt` with the golden answer's classes and their numbers."""
    if not (extra / "labels.txt").is_file():
        return ["there is no labels.txt"]
    labels = (extra / "labels.txt").read_text(encoding="utf-8").splitlines()
    answers = json.loads((extra / "golden" / "serve.response.json").read_bytes())
    classes = len(answers["predictions"][0]["logits"])
    if len(labels) != classes:
        return [f"labels.txt has {len(labels)} lines for {classes} classes"]
    of_files = extra / "golden" / "predict_bytes.response.json"
    if of_files.is_file():
        for row in json.loads(of_files.read_bytes())["predictions"]:
            if [labels[number] for number in row["class_ids"]] != row["classes"]:
                return ["labels.txt has other classes than the golden answers"]
    return []


def weights_checksum(folder: Path) -> str:
    """Give the SHA-256 of a version's weights."""
    with (folder / "variables" / "variables.data-00000-of-00001").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def feeds_of(request: Mapping[str, Any], takes: Mapping[str, Any]) -> dict[str, Any]:
    """Give the arrays that a request in JSON is for a signature with one input."""
    ((name, info),) = takes.items()
    if "examples" in request:
        rows = [_example(example) for example in request["examples"]]
    else:
        rows = [
            base64.b64decode(row["b64"]) if isinstance(row, Mapping) else row
            for row in request["instances"]
        ]
    if info.dtype == STRING:
        array = np.empty(len(rows), object)
        array[:] = rows
        return {name: array}
    return {name: np.array(rows, TYPES[info.dtype])}


def _example(features: Mapping[str, Any]) -> bytes:
    example = _proto("tensorflow.core.example.example_pb2").Example()
    for name, value in features.items():
        content = base64.b64decode(value["b64"])
        example.features.feature[name].bytes_list.value.append(content)
    return example.SerializeToString()


def outputs_of(response: Mapping[str, Any]) -> dict[str, list]:
    """Give the columns of a response in JSON."""
    if "results" in response:
        pairs = response["results"]
        return {
            "classes": [[label for label, _ in row] for row in pairs],
            "scores": [[score for _, score in row] for row in pairs],
        }
    rows = response["predictions"]
    return {name: [row[name] for row in rows] for name in rows[0]}


def difference(golden: Mapping[str, list], answer: Mapping[str, Any]) -> float:
    """Give the largest difference of numbers, as a share of the largest one or of 1.

    Classes may have changed places where their scores are all but equal.

    Raises:
        ValueError: There are other outputs, or other classes.
    """
    if golden.keys() != answer.keys():
        raise ValueError(f"it gives {sorted(answer)}, not {sorted(golden)}")
    found = 0.0
    for name in golden.keys() - {"classes", "class_ids"}:
        expected, got = np.array(golden[name], "float64"), np.array(answer[name])
        if expected.shape != got.shape:
            raise ValueError(f"{name} has shape {got.shape}, not {expected.shape}")
        scale = max(1.0, float(np.abs(expected).max(initial=0)))
        if not (np.isfinite(expected).all() and np.isfinite(got).all()):
            raise ValueError(f"{name} is no number everywhere")
        found = max(found, float(np.abs(expected - got).max(initial=0)) / scale)
    for name in golden.keys() & {"classes", "class_ids"}:
        _refuse_other_classes(golden[name], answer[name], np.array(golden["scores"]))
    return found


def _refuse_other_classes(golden: list, answer: Any, scores: np.ndarray) -> None:
    for row, (expected, found) in enumerate(zip(golden, answer, strict=True)):
        names = [f.decode() if isinstance(f, bytes) else f for f in found]
        for rank, (one, other) in enumerate(zip(expected, names, strict=True)):
            where = expected.index(other) if other in expected else len(expected) - 1
            if one != other and abs(scores[row][rank] - scores[row][where]) > TOLERANCE:
                raise ValueError(f"the class is {other}, not {one}")


def _replay(session: Session, file: Path, errors: list[str]) -> int | None:
    """Ask what TensorFlow Serving asks while it loads a version."""
    if not file.exists():
        return 0
    try:
        log = _proto("tensorflow_serving.apis.prediction_log_pb2").PredictionLog
    except ImportError:
        return None
    replayed = 0
    for record in _records(file.read_bytes()):
        signature, feeds = _asked(log.FromString(record))
        try:
            session.run(signature, feeds)
        except (KeyError, RequestError) as error:
            errors.append(f"warm-up of {signature}: {error}")
        replayed += 1
    return replayed


def _records(file: bytes) -> Iterator[bytes]:
    """Give the records of a TFRecord file: length, checksum, content, checksum."""
    at = 0
    while at < len(file):
        (length,) = struct.unpack_from("<Q", file, at)
        yield file[at + 12 : at + 12 + length]
        at += 12 + length + 4


def _asked(log: Any) -> tuple[str, dict[str, np.ndarray]]:
    if log.HasField("classify_log"):
        request = log.classify_log.request
        examples = request.input.example_list.examples
        array = np.empty(len(examples), object)
        array[:] = [example.SerializeToString() for example in examples]
        return request.model_spec.signature_name, {"inputs": array}
    request = log.predict_log.request
    feeds = {name: _values(tensor) for name, tensor in request.inputs.items()}
    return request.model_spec.signature_name, feeds


def _values(tensor: Any) -> np.ndarray:
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.dtype == STRING:
        array = np.empty(len(tensor.string_val), object)
        array[:] = list(tensor.string_val)
        return array.reshape(shape)
    return np.frombuffer(tensor.tensor_content, TYPES[tensor.dtype]).reshape(shape)


def main() -> None:
    """Check the version that the command line names."""
    try:
        report = check(Path(sys.argv[1]))
    except (ValueError, KeyError, TypeError, IndexError, struct.error) as error:
        # JSON that was cut or is something else, a cut file of requests
        damage = f"a file in assets.extra is damaged: {type(error).__name__}: {error}"
        report = {"errors": [damage]}
    forbidden = {"keras_densenet", "keras", "tensorflow.python"} & sys.modules.keys()
    assert not forbidden, forbidden
    print(json.dumps(report))
    sys.exit(1 if report["errors"] else 0)


if __name__ == "__main__":
    main()
