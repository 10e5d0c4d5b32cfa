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

from keras_densenet.weights.errors import WeightsError, shown
from keras_densenet.weights.file_kind import ARCHIVE
from keras_densenet.weights.inert_pickle import (
    Global,
    Inert,
    InertUnpickler,
    refuse_inert,
)

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # the format before 1.6 begins with it
MOST_AXES = 64  # of NumPy's arrays
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
_UTILS = "torch._utils"  # the module of the functions that make tensors

# Sentences that `read_pth` begins with the path.
_BIG_ENDIAN = "the file was written on a big-endian machine. Save it on another one."


class _Storage(NamedTuple):
    """What tensors are views of: the numbers under a key, from number `begin` on.

    The type is NumPy's, or a `Global` where it is not known.
    """

    dtype: Any
    key: str
    begin: int = 0


Numbers: TypeAlias = Callable[[str, Any], np.ndarray]  # by key and type


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
        """Read the numbers, and return the view of its storage, which takes no memory.

        Raises:
            WeightsError: It reaches beyond its storage, or is larger than that.
        """
        self._refuse_impossible()
        numbers = self.numbers(self.storage.key, self.storage.dtype)
        array = self._view(numbers[self.storage.begin :])
        if dtype is not None and dtype != array.dtype:
            return array.astype(dtype)
        return array.copy() if copy else array

    def _refuse_impossible(self) -> None:
        """Raise a `WeightsError` where shape, strides and offset are no sizes."""
        is_possible = len(self.shape) == len(self.strides) <= MOST_AXES and all(
            isinstance(size, int) and 0 <= size < 2**48
            for size in (*self.shape, *self.strides, self.offset, self.storage.begin)
        )
        if not is_possible:
            raise WeightsError(
                "the file has a tensor of an impossible shape. Copy or download it "
                "anew."
            )

    def _view(self, numbers: np.ndarray) -> np.ndarray:
        steps = zip(self.shape, self.strides, strict=True)
        last = self.offset + sum((size - 1) * stride for size, stride in steps)
        elements = math.prod(self.shape)
        if elements and (last >= len(numbers) or elements > len(numbers)):
            raise WeightsError(
                "the file has a tensor beyond its numbers, so that it must be cut off. "
                "Copy or download it anew."
            )
        strides = [stride * numbers.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(
            numbers[self.offset :], self.shape, strides, writeable=False
        )


def read_pth(path: Path) -> Any:
    """Read what `torch.save` wrote, with a `StoredArray` in the place of a tensor.

    Args:
        path: Path of the file.

    Raises:
        WeightsError: The file is damaged, or no file of PyTorch.
    """
    with named(path), path.open("rb") as file:
        if file.read(len(ARCHIVE)) == ARCHIVE:
            return _read_archive(path)
        file.seek(0)
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
        *(zipfile.BadZipFile, struct.error, EOFError, RuntimeError),
        *(ValueError, KeyError, IndexError, TypeError, AttributeError),
        *(OverflowError, MemoryError),
    ) as error:
        raise WeightsError(
            f"{path} is damaged, or no file of weights ({type(error).__name__}: "
            f"{shown(error)}). Copy or download it anew."
        ) from error


def _read_archive(path: Path) -> Any:
    archive = zipfile.ZipFile(path)  # closed with the last array that it has
    _refuse_overlap(archive, path.stat().st_size)
    pickles = [n for n in archive.namelist() if n.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise WeightsError(
            f"the archive has {len(pickles)} files data.pkl in a folder, and one that "
            "torch.save has written has one. Give a file of torch.save."
        )
    folder = pickles[0].removesuffix("data.pkl")
    order = f"{folder}byteorder"
    if order in archive.namelist() and _read_stored(archive, order) != b"little":
        raise WeightsError(_BIG_ENDIAN)

    @functools.cache
    def numbers(key: str, dtype: Any) -> np.ndarray:
        return np.frombuffer(_read_stored(archive, f"{folder}data/{key}"), dtype)

    content = io.BytesIO(_read_stored(archive, pickles[0]))
    return _Unpickler(content, numbers).load()


def _refuse_overlap(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse an archive that says of its members that together they are larger."""
    stored = [m for m in archive.infolist() if m.compress_type == zipfile.ZIP_STORED]
    if sum(member.file_size for member in stored) > size:
        raise WeightsError(
            "the archive has less in it than it says. Copy or download it anew."
        )
    if any(member.header_offset < 0 for member in stored):
        raise zipfile.BadZipFile("a member begins before the file")


def _read_stored(archive: zipfile.ZipFile, name: str) -> bytes:
    """Read a member, which PyTorch does not compress: it takes no more than the file.

    How much a compressed one takes is not known before it is unpacked, whatever the
    archive says of it.
    """
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        unpacked = sum(member.file_size for member in archive.infolist())
        raise WeightsError(
            f"the archive is compressed: unpacked it has {unpacked:,} bytes. Files of "
            "weights are not. Save the weights anew."
        )
    return archive.read(name)


def _read_before_1_6(path: Path, file: BinaryIO) -> Any:
    """Read magic number, version, sizes, the pickle, and then all storages."""
    places: dict[str, tuple[int, int]] = {}  # where numbers begin, and how many

    @functools.cache
    def numbers(key: str, dtype: Any) -> np.ndarray:
        begin, count = places[key]
        return np.fromfile(path, dtype, count, offset=begin)

    if refuse_inert(_Unpickler(file, numbers).load()) != MAGIC_NUMBER:
        raise WeightsError(
            "the file is not PyTorch's. Give one that torch.save has written."
        )
    _Unpickler(file, numbers).load()  # the version
    sizes = _Unpickler(file, numbers).load()  # of C's types
    if not sizes.get("little_endian", True):
        raise WeightsError(_BIG_ENDIAN)
    unpickler = _Unpickler(file, numbers)
    saved = unpickler.load()
    end = path.stat().st_size
    for key in _Unpickler(file, numbers).load():
        (count,) = struct.unpack("<q", file.read(8))
        place = file.tell()
        size = count * unpickler.bytes_of_number(key)
        if not 0 <= size <= end - place:
            raise WeightsError("the file is cut off. Copy or download it anew.")
        places[key] = (place, count)
        file.seek(size, io.SEEK_CUR)
    return saved


class _Unpickler(InertUnpickler):
    """Makes stored arrays of tensors."""

    def __init__(self, file: BinaryIO, numbers: Numbers) -> None:
        known: dict[Global, Callable] = {
            Global(_UTILS, "_rebuild_tensor"): self._rebuilt,
            Global(_UTILS, "_rebuild_tensor_v2"): self._rebuilt,
            Global(_UTILS, "_rebuild_parameter"): _first,
            Global(_UTILS, "_rebuild_parameter_with_state"): _first,
            Global("torch._tensor", "_rebuild_from_type_v2"): self._rebuilt_from_type,
            Global("torch.nn.parameter", "Parameter"): _first,  # before 0.4
            Global("torch", "Size"): _first,
        }
        super().__init__(file, known)
        self.storages: dict[str, _Storage] = {}
        self._numbers = numbers

    def persistent_load(self, pid: Any) -> Any:
        """Note a storage: ("storage", type, key, device, count), before 1.6 a view.

        Before 1.6 the classes of a whole model are noted, too, with their source.
        """
        match pid:
            case ("module", Global() as kind, *_):
                return kind
            case ("storage", Global() as kind, str() | int() as key, _, _, *view):
                is_torchs = kind.module in ("torch", "torch.cuda")
                dtype = STORAGES.get(kind.name, kind) if is_torchs else kind
                storage = self.storages.setdefault(str(key), _Storage(dtype, str(key)))
                if view and view[0] is not None:
                    _, begin, _ = view[0]  # its own key, where it begins, how many
                    return storage._replace(begin=begin)
                return storage
        raise WeightsError(
            "the file refers to something beside it that is no storage of numbers. "
            "Load it with PyTorch, and save model.state_dict() anew."
        )

    def _rebuilt(
        self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any
    ) -> StoredArray | Inert:
        if isinstance(storage, Inert):
            return storage
        if not isinstance(storage, _Storage):
            raise WeightsError(
                "the file has a tensor without numbers. Copy or download it anew."
            )
        if isinstance(storage.dtype, Global):
            return Inert(storage.dtype)
        return StoredArray(storage, offset, shape, strides, self._numbers)

    def _rebuilt_from_type(
        self, function: Any, kind: Any, arguments: Any, *_: Any
    ) -> Any:
        """Make a tensor of a class of its own, such as fastai's, as a plain one."""
        makes_tensor = isinstance(function, Global) and function.module == _UTILS
        return self.call(function if makes_tensor else kind, arguments)

    def bytes_of_number(self, key: Any) -> int:
        """Return how many bytes a number of a storage has.

        Raises:
            WeightsError: There is no such storage, or its kind is not known.
        """
        storage = self.storages.get(key) if isinstance(key, str) else None
        if storage is None or isinstance(storage.dtype, Global):
            kind = "no tensor" if storage is None else storage.dtype
            raise WeightsError(
                f"the file has numbers of {kind}, so that it is not known how many "
                "bytes they have. Load it with PyTorch, and save model.state_dict() "
                "anew."
            )
        return np.dtype(storage.dtype).itemsize


def _first(argument: Any = None, *_: Any) -> Any:
    """Return the tensor of a parameter, or the sizes of a shape, as they are."""
    return argument


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
