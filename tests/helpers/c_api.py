"""A SavedModel asked as TensorFlow Serving asks it: by TensorFlow's C library alone.

Its loader is the one that the server uses, where `keras_densenet.export.verify` has the
session loader of TensorFlow's Python. This file stands on its own, since it is copied
to where neither this package nor TensorFlow's Python can be imported: see
`served_alone.py`.
"""

import ctypes
import importlib
import importlib.util
import os
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

STRING = 7  # TensorFlow's numbers of types
TYPES = {1: "float32", 2: "float64", 3: "int32", 4: "uint8", 9: "int64", 10: "bool"}
STRING_BYTES = 24  # sizeof(TF_TString)


class RequestError(RuntimeError):
    """TensorFlow answered with an error."""


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
            An array for each output; of type object where it returns strings.

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
        if self._tf.TF_GetCode(self._status):
            message = self._tf.TF_Message(self._status).decode(errors="replace")
            self._tf.TF_SetStatus(self._status, 0, b"")
            raise RequestError(message)


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
