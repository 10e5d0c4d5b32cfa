"""Which kind of file weights are in, by what is in it; where that is damaged, its name.

Training scripts give the same file endings such as .pth, .pth.tar, .ckpt and .bin.
"""

import os
import zipfile
from pathlib import Path
from typing import Literal, TypeAlias

from keras_densenet.weights.errors import WeightsError

FileKind: TypeAlias = Literal["pytorch", "safetensors", "keras", "h5"]

BY_SUFFIX: dict[str, FileKind] = {
    ".pth": "pytorch",
    ".pt": "pytorch",
    ".bin": "pytorch",
    ".safetensors": "safetensors",
    ".keras": "keras",
    ".h5": "h5",
}
ARCHIVE = b"PK\x03\x04"  # of zip: PyTorch's, of 1.6 and later, or Keras's
OF_KERAS = ("keras", "h5")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_PICKLE = b"\x80"  # of protocol 2, which PyTorch writes, and later
_TAR = b"ustar"  # at byte 257
_TENSORS = b"{"  # a file of safetensors has it after eight bytes


def kind_of(path: Path) -> FileKind:
    """Return the kind of a file of weights.

    Raises:
        WeightsError: It is none.
    """
    kind = _by_content(path) or BY_SUFFIX.get(path.suffix)
    if kind is None:
        raise WeightsError(
            f"{path} is no file of weights, by what is in it. Give one of PyTorch, "
            f"safetensors or Keras, such as {', '.join(BY_SUFFIX)}; those of PyTorch "
            "may have any ending."
        )
    return kind


def _by_content(path: Path) -> FileKind | None:
    """Return the kind of a file that begins as one of that kind does."""
    with path.open("rb") as file:
        beginning = file.read(512)
    if beginning[257:262] == _TAR:
        raise WeightsError(
            f"{path} is an archive of tar, which may have files of weights in it, or "
            "be of PyTorch before 0.1.10. Unpack it, or load it with PyTorch and save "
            "model.state_dict() anew."
        )
    if beginning.startswith(ARCHIVE):
        return _in_archive(path)
    if beginning.startswith(_HDF5):
        return "h5"
    if beginning[8:9] == _TENSORS and _is_length(beginning[:8], path):
        return "safetensors"  # also where its length begins as a pickle does
    return "pytorch" if beginning.startswith(_PICKLE) else None


def _in_archive(path: Path) -> FileKind | None:
    """Return the kind of an archive by the names of its members."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return None  # its reader says what is wrong
    if any(name.endswith("/data.pkl") for name in names):
        return "pytorch"
    return "keras" if "config.json" in names else None


def _is_length(written: bytes, path: Path) -> bool:
    """Return whether eight bytes can be the length of a header of safetensors."""
    return int.from_bytes(written, "little") < os.path.getsize(path)
