"""PyTorch's files without PyTorch, and without running what is in them.

A `.pth` file is a pickle, which may call any function of Python. Here only those are
called that make tensors and ordered dictionaries. For any other an object stands that
does nothing, since checkpoints of training scripts have options, numbers and more
beside their weights; nothing is imported by name. Both formats are read: the zip
archive of PyTorch 1.6 and later, and the one before, in which the networks of 2017 are
still offered.
"""

import io
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from keras_densenet.weights.errors import WeightsError

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # the format before 1.6 begins with it
STORAGES: dict[str, Any] = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


# Sentences that `read_pth` begins with the path.
_BIG_ENDIAN = "the file was written on a big-endian machine. Save it on another one."


class Inert:
    """Stands for an object of a class that is not known, and does nothing.

    Attributes:
        described: Name of the class or function in the file, "module.name".
    """

    described = ""

    def __new__(cls, *_: Any, **__: Any) -> "Inert":
        """Take whatever the file gives, and keep nothing of it."""
        return super().__new__(cls)

    def __call__(self, *_: Any, **__: Any) -> "Inert":
        """Return an object that does nothing, either."""
        return self

    def _ignored(self, *_: Any, **__: Any) -> None:
        return None

    # What a pickle does to an object that it has made.
    __init__ = __setstate__ = __setitem__ = append = extend = add = _ignored


class _Storage(NamedTuple):
    """The numbers that tensors are views of; `key` is their name in the file."""

    dtype: Any
    key: str
    size: int


class _Tensor(NamedTuple):
    """A view: element (i, j) is number `offset + i strides[0] + j strides[1]`."""

    storage: _Storage
    offset: int
    shape: tuple
    strides: tuple


def read_pth(path: Path) -> Any:
    """Read what `torch.save` wrote, with arrays in the place of tensors.

    Args:
        path: Path of the file.

    Raises:
        WeightsError: The file is damaged, or no file of PyTorch, or all of it is an
            object of a class that is not known.
    """
    try:
        if zipfile.is_zipfile(path):
            saved = _read_archive(path)
        else:
            with path.open("rb") as file:
                saved = _read_before_1_6(file)
        return _refuse_inert(saved)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except (
        *(pickle.UnpicklingError, zipfile.BadZipFile, struct.error, EOFError),
        *(ValueError, KeyError, IndexError, TypeError, AttributeError),
        *(OverflowError, MemoryError, UnicodeDecodeError, NotImplementedError),
    ) as error:
        raise WeightsError(
            f"{path} is damaged, or no file of PyTorch ({type(error).__name__}: "
            f"{error}). Copy or download it anew."
        ) from error


def _refuse_inert(saved: Any) -> Any:
    """Return what a file has, unless that is an object that does nothing."""
    kind: Any = saved if isinstance(saved, type) else type(saved)
    if issubclass(kind, Inert):
        raise WeightsError(
            f"the file calls for {kind.described}, which is no tensor. It was not run. "
            "Save the weights alone: torch.save(model.state_dict(), path)."
        )
    return saved


def _read_archive(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("/data.pkl"))
        folder = name.removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise WeightsError(_BIG_ENDIAN)
        saved = _Unpickler(io.BytesIO(archive.read(name))).load()

        def numbers(storage: _Storage) -> np.ndarray:
            raw = archive.read(f"{folder}data/{storage.key}")
            return np.frombuffer(raw, storage.dtype)

        return _with_arrays(saved, numbers)


def _read_before_1_6(file: BinaryIO) -> Any:
    """Read magic number, version, sizes, the pickle, and then all storages."""
    if _refuse_inert(_Unpickler(file).load()) != MAGIC_NUMBER:
        raise WeightsError(
            "the file is not PyTorch's. Give one that torch.save has written."
        )
    _Unpickler(file).load()  # the version
    if not _Unpickler(file).load().get("little_endian", True):  # and sizes of C's types
        raise WeightsError(_BIG_ENDIAN)
    unpickler = _Unpickler(file)
    saved = unpickler.load()
    read: dict[str, np.ndarray] = {}
    for key in _Unpickler(file).load():
        storage = unpickler.storages[key]
        (count,) = struct.unpack("<q", file.read(8))
        raw = file.read(count * np.dtype(storage.dtype).itemsize)
        read[key] = np.frombuffer(raw, storage.dtype)
        if len(read[key]) != count:
            raise WeightsError("the file is cut off. Copy or download it anew.")
    return _with_arrays(saved, lambda storage: read[storage.key])


class _Unpickler(pickle.Unpickler):
    """Makes tensors and dictionaries, and objects that do nothing of anything else."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle may call: what makes tensors, or does nothing at all."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuilt
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if (module, name) == ("torch", "Size"):
            return tuple
        return type("Inert", (Inert,), {"described": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> _Storage:
        """Note a storage: ("storage", type, key, device, count), before 1.6 a view."""
        kind, dtype, key, _, count, *view = pid
        if kind != "storage" or (view and view[0] is not None):
            raise WeightsError(
                f"the file has a {kind} with a view, which is not read here. Load it "
                "with PyTorch, and save model.state_dict() anew."
            )
        storage = _Storage(dtype, str(key), int(count))
        return self.storages.setdefault(storage.key, storage)


def _rebuilt(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise WeightsError(
            "the file has a tensor without numbers. Copy or download it anew."
        )
    return _Tensor(storage, int(offset), tuple(shape), tuple(strides))


def _with_arrays(saved: Any, numbers: Callable[[_Storage], np.ndarray]) -> Any:
    """Put arrays in the place of tensors; `numbers` reads those of a storage."""
    if isinstance(saved, _Tensor):
        dtype = saved.storage.dtype
        if isinstance(dtype, type) and issubclass(dtype, Inert):
            return dtype()  # numbers of a kind that is not known
        return _array(saved, numbers(saved.storage))
    if isinstance(saved, Mapping):
        return {key: _with_arrays(value, numbers) for key, value in saved.items()}
    if isinstance(saved, list):
        return [_with_arrays(value, numbers) for value in saved]
    return saved


def _array(tensor: _Tensor, numbers: np.ndarray) -> np.ndarray:
    """Copy a view out of its storage, which it must not reach beyond."""
    sizes = [*tensor.shape, *tensor.strides, tensor.offset]
    if len(tensor.shape) != len(tensor.strides) or any(size < 0 for size in sizes):
        raise WeightsError(
            f"the file has a tensor of an impossible shape, {tensor.shape} with "
            f"strides {tensor.strides}. Copy or download it anew."
        )
    steps = zip(tensor.shape, tensor.strides, strict=True)
    last = tensor.offset + sum((size - 1) * stride for size, stride in steps)
    if math.prod(tensor.shape) and last >= len(numbers):
        raise WeightsError(
            "the file has a tensor beyond its numbers, so that it must be cut off. "
            "Copy or download it anew."
        )
    strides = [stride * numbers.itemsize for stride in tensor.strides]
    first = numbers[tensor.offset :]
    return np.lib.stride_tricks.as_strided(first, tensor.shape, strides).copy()


# --- writing -----------------------------------------------------------------------


def write_pth(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as a state dict that `torch.load` reads, also with `weights_only`.

    Args:
        path: Path of the file.
        arrays: Arrays of float32 or int64, by name.
    """
    folder = path.stem
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(f"{folder}/data.pkl", _pickled(arrays))
        archive.writestr(f"{folder}/byteorder", "little")
        for number, array in enumerate(arrays.values()):
            raw = np.ascontiguousarray(array).tobytes()
            archive.writestr(f"{folder}/data/{number}", raw)
        archive.writestr(f"{folder}/version", "3\n")


def _pickled(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Write the pickle by hand: it names classes of PyTorch, which is not installed."""
    parts = [pickle.PROTO + b"\x02", _ORDERED_DICT, pickle.MARK]
    for number, (name, array) in enumerate(arrays.items()):
        parts += [_text(name), _tensor(str(number), array)]
    return b"".join([*parts, pickle.SETITEMS, pickle.STOP])


_ORDERED_DICT = (
    pickle.GLOBAL + b"collections\nOrderedDict\n" + pickle.EMPTY_TUPLE + pickle.REDUCE
)


def _tensor(key: str, array: np.ndarray) -> bytes:
    kinds = {np.dtype("float32"): b"FloatStorage", np.dtype("int64"): b"LongStorage"}
    storage = [_text("storage"), pickle.GLOBAL, b"torch\n", kinds[array.dtype], b"\n"]
    strides = [
        math.prod(array.shape[axis + 1 :]) for axis in range(array.ndim)
    ]  # in elements; those of the last axis lie side by side
    arguments = [
        _tuple(*storage, _text(key), _text("cpu"), _integer(array.size)),
        pickle.BINPERSID,
        _integer(0),
        _tuple(*map(_integer, array.shape)),
        _tuple(*map(_integer, strides)),
        pickle.NEWFALSE,
        _ORDERED_DICT,
    ]
    function = pickle.GLOBAL + b"torch._utils\n_rebuild_tensor_v2\n"
    return function + _tuple(*arguments) + pickle.REDUCE


def _tuple(*parts: bytes) -> bytes:
    return b"".join([pickle.MARK, *parts, pickle.TUPLE])


def _text(text: str) -> bytes:
    raw = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(raw)) + raw


def _integer(number: int) -> bytes:
    return pickle.BININT + struct.pack("<i", number)
