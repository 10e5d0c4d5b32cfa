"""PyTorch's files without PyTorch, and without running what is in them.

A `.pth` file is a pickle of tensors whose numbers are beside it. Both formats are read:
the zip archive of PyTorch 1.6 and later, and the one before, in which the networks of
2017 are still offered. Numbers are read when they are asked for.
"""

import contextlib
import functools
import io
import math
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import ml_dtypes
import numpy as np

from keras_densenet.weights.errors import WeightsError
from keras_densenet.weights.inert_pickle import Inert, InertUnpickler

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
MOST_VISITED = 100_000  # objects of a file in which weights are looked for


# Sentences that `read_pth` begins with the path.
_BIG_ENDIAN = "the file was written on a big-endian machine. Save it on another one."


class _Storage(NamedTuple):
    """The numbers that tensors are views of; `key` is their name in the file.

    A storage may itself be a view of another one, from number `begin` on.
    """

    dtype: Any
    key: str
    size: int
    begin: int = 0


Numbers: TypeAlias = Callable[[_Storage], np.ndarray]


@dataclass(frozen=True, eq=False)
class StoredArray:
    """An array in a file, whose numbers are read by `np.asarray`.

    Element (i, j) is number `offset + i strides[0] + j strides[1]` of its storage.
    """

    storage: _Storage
    offset: int
    shape: tuple
    strides: tuple
    numbers: Numbers

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Read the numbers, and copy the view out of its storage.

        Raises:
            WeightsError: It reaches beyond its storage, or is larger than that.
        """
        array = self._view(self.numbers(self.storage)).copy()
        return array if dtype is None else array.astype(dtype)

    def _view(self, numbers: np.ndarray) -> np.ndarray:
        sizes = [*self.shape, *self.strides, self.offset]
        if len(self.shape) != len(self.strides) or any(size < 0 for size in sizes):
            raise WeightsError(
                f"the file has a tensor of an impossible shape, {self.shape} with "
                f"strides {self.strides}. Copy or download it anew."
            )
        steps = zip(self.shape, self.strides, strict=True)
        last = self.offset + sum((size - 1) * stride for size, stride in steps)
        elements = math.prod(self.shape)
        if elements and (last >= len(numbers) or elements > len(numbers)):
            raise WeightsError(
                "the file has a tensor beyond its numbers, so that it must be cut off. "
                "Copy or download it anew."
            )
        strides = [stride * numbers.itemsize for stride in self.strides]
        first = numbers[self.offset :]
        return np.lib.stride_tricks.as_strided(first, self.shape, strides)


def read_pth(path: Path) -> Any:
    """Read what `torch.save` wrote, with a `StoredArray` in the place of a tensor.

    Args:
        path: Path of the file.

    Raises:
        WeightsError: The file is damaged, or no file of PyTorch.
    """
    with named(path):
        if zipfile.is_zipfile(path):
            return _read_archive(path)
        with path.open("rb") as file:
            return _read_before_1_6(path, file)


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Raise a `WeightsError` with the path, once, where reading fails within."""
    try:
        yield
    except WeightsError as error:
        if str(error).startswith(str(path)):
            raise
        raise WeightsError(f"{path}: {error}") from None
    except (
        *(pickle.UnpicklingError, zipfile.BadZipFile, struct.error, EOFError),
        *(ValueError, KeyError, IndexError, TypeError, AttributeError),
        *(OverflowError, MemoryError, RecursionError, NotImplementedError),
    ) as error:
        raise WeightsError(
            f"{path} is damaged, or no file of PyTorch ({type(error).__name__}: "
            f"{error}). Copy or download it anew."
        ) from error


def _read_archive(path: Path) -> Any:
    refuse_bomb(path)
    archive = zipfile.ZipFile(path)  # closed with the last array that it has
    (name,) = (n for n in archive.namelist() if n.endswith("/data.pkl"))
    folder = name.removesuffix("data.pkl")
    order = f"{folder}byteorder"
    if order in archive.namelist() and archive.read(order) != b"little":
        raise WeightsError(_BIG_ENDIAN)

    @functools.cache
    def numbers(key: str, dtype: Any) -> np.ndarray:
        return np.frombuffer(archive.read(f"{folder}data/{key}"), dtype)

    def of_storage(storage: _Storage) -> np.ndarray:
        return numbers(storage.key, storage.dtype)[storage.begin :]

    return _Unpickler(io.BytesIO(archive.read(name)), of_storage).load()


def refuse_bomb(path: Path) -> None:
    """Refuse a zip archive that is larger unpacked: no library writes such weights.

    Raises:
        WeightsError: It is.
        zipfile.BadZipFile: It is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > path.stat().st_size:
        raise WeightsError(
            f"the archive is compressed: unpacked it has {unpacked:,} bytes. Files of "
            "weights are not. Save the weights anew."
        )


def _read_before_1_6(path: Path, file: BinaryIO) -> Any:
    """Read magic number, version, sizes, the pickle, and then all storages."""
    places: dict[str, tuple[int, int]] = {}  # where numbers begin, and how many

    @functools.cache
    def numbers(key: str, dtype: Any) -> np.ndarray:
        begin, count = places[key]
        return np.fromfile(path, dtype, count, offset=begin)

    def of_storage(storage: _Storage) -> np.ndarray:
        return numbers(storage.key, storage.dtype)[storage.begin :]

    if _refuse_inert(_Unpickler(file, of_storage).load()) != MAGIC_NUMBER:
        raise WeightsError(
            "the file is not PyTorch's. Give one that torch.save has written."
        )
    _Unpickler(file, of_storage).load()  # the version
    sizes = _Unpickler(file, of_storage).load()  # of C's types
    if not sizes.get("little_endian", True):
        raise WeightsError(_BIG_ENDIAN)
    unpickler = _Unpickler(file, of_storage)
    saved = unpickler.load()
    end = path.stat().st_size
    for key in _Unpickler(file, of_storage).load():
        (count,) = struct.unpack("<q", file.read(8))
        place = file.tell()
        size = count * np.dtype(unpickler.storages[key].dtype).itemsize
        if not 0 <= size <= end - place:
            raise WeightsError("the file is cut off. Copy or download it anew.")
        places[key] = (place, count)
        file.seek(size, io.SEEK_CUR)
    return saved


def _refuse_inert(saved: Any) -> Any:
    """Return what a file has, unless that is an object that does nothing."""
    kind: Any = saved if isinstance(saved, type) else type(saved)
    if issubclass(kind, Inert):
        raise WeightsError(
            f"the file calls for {kind.described}, which is no tensor. It was not run. "
            "Save the weights alone: torch.save(model.state_dict(), path)."
        )
    return saved


class _Parameter:
    """A tensor of a model: PyTorch before 0.4 pickles it as an object around one."""

    def __new__(cls, data: Any = None, *_: Any) -> Any:
        """Return the tensor itself."""
        return data


class _Unpickler(InertUnpickler):
    """Makes stored arrays of tensors."""

    def __init__(self, file: BinaryIO, numbers: Numbers) -> None:
        utils = "torch._utils"
        known: dict[tuple[str, str], Any] = {
            (utils, "_rebuild_tensor"): self._rebuilt,
            (utils, "_rebuild_tensor_v2"): self._rebuilt,
            (utils, "_rebuild_parameter"): lambda tensor, *_: tensor,
            (utils, "_rebuild_parameter_with_state"): lambda tensor, *_: tensor,
            ("torch._tensor", "_rebuild_from_type_v2"): _rebuilt_from_type,
            ("torch.nn.parameter", "Parameter"): _Parameter,
            ("torch", "Size"): lambda sizes: tuple(sizes[:64]),
        }
        for name, dtype in STORAGES.items():
            known["torch", name] = known["torch.cuda", name] = dtype
        super().__init__(file, known)
        self.storages: dict[str, _Storage] = {}
        self._numbers = numbers

    def persistent_load(self, pid: Any) -> Any:
        """Note a storage: ("storage", type, key, device, count), before 1.6 a view.

        Before 1.6 the classes of a whole model are noted, too, with their source.
        """
        if pid[0] == "module":
            return pid[1]
        kind, dtype, key, _, count, *view = pid
        if kind != "storage":
            raise WeightsError(
                f"the file has a {kind}, which is not known. Load it with PyTorch, and "
                "save model.state_dict() anew."
            )
        storage = self.storages.setdefault(str(key), _Storage(dtype, str(key), count))
        if view and view[0] is not None:
            _, begin, size = view[0]
            return storage._replace(begin=begin, size=size)
        return storage

    def _rebuilt(
        self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any
    ) -> "StoredArray | Inert":
        if not isinstance(storage, _Storage):
            raise WeightsError(
                "the file has a tensor without numbers. Copy or download it anew."
            )
        if isinstance(storage.dtype, type) and issubclass(storage.dtype, Inert):
            return storage.dtype()  # numbers of a kind that is not known
        shape, strides = tuple(shape), tuple(strides)
        return StoredArray(storage, int(offset), shape, strides, self._numbers)


def _rebuilt_from_type(function: Any, kind: Any, arguments: Any, *_: Any) -> Any:
    """Make a tensor of a class of its own, such as fastai's, as a plain one."""
    return function(*arguments)


# --- where the weights are -------------------------------------------------------


def state_dicts(saved: Any) -> dict[str, dict[str, Any]]:
    """Find all that has arrays by name: dictionaries, and pickled models.

    Args:
        saved: What `read_pth` returned, or a dictionary.

    Returns:
        What was found, by its place in `saved`, such as "state_dict"; "" for `saved`
        itself. Those further out come first.
    """
    found = {}
    waiting: list[tuple[str, Any]] = [("", saved)]
    seen: set[int] = set()
    while waiting and len(seen) < MOST_VISITED:
        place, thing = waiting.pop(0)
        entries = _entries(thing)
        if id(thing) in seen or not entries:
            continue
        seen.add(id(thing))
        if _is_module(thing):
            found[place] = dict(_of_module(thing))
            continue
        if any(is_array(value) for value in entries.values()):
            found[place] = {str(name): value for name, value in entries.items()}
        beginning = f"{place}." if place else ""
        waiting += [(f"{beginning}{name}", value) for name, value in entries.items()]
    return found


def _entries(thing: Any) -> Mapping[Any, Any]:
    """Return what a dictionary has by name, or what an inert object has."""
    if isinstance(thing, Inert):
        return {**thing.attributes, **thing.entries}
    return thing if isinstance(thing, Mapping) else {}


def is_array(value: Any) -> bool:
    """Return whether a value is an array: in a file, NumPy's or PyTorch's."""
    return isinstance(value, StoredArray | np.ndarray) or hasattr(value, "detach")


def as_array(value: Any) -> np.ndarray:
    """Return the numbers of what `is_array` says is one."""
    if hasattr(value, "detach"):  # a tensor of PyTorch
        value = value.detach().cpu().float().numpy()
    return np.asarray(value)


def _is_module(thing: Any) -> bool:
    """Return whether an inert object was a module of PyTorch."""
    return isinstance(thing, Inert) and "_modules" in thing.attributes


def _of_module(
    module: Inert, beginning: str = "", within: tuple = ()
) -> Iterator[tuple[str, Any]]:
    """Iterate over a module's arrays, by the names that its state dict would have."""
    if any(module is outer for outer in within):
        raise WeightsError("the file has a module within itself. Download it anew.")
    for kind in ("_parameters", "_buffers"):
        for name, value in _entries(module.attributes.get(kind)).items():
            if is_array(value):
                yield f"{beginning}{name}", value
    for name, inner in _entries(module.attributes["_modules"]).items():
        if _is_module(inner):
            yield from _of_module(inner, f"{beginning}{name}.", (*within, module))


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
