"""Which files of a folder are pictures: by their endings, else by what is in them."""

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from keras_densenet.data.picture_files import PictureFiles

# Pillow knows these by their first bytes, and they have no pixels that it could read:
# films, drawings that another program must draw, tables of numbers.
NO_PIXELS = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
NAMED_ENDINGS = 8  # that a warning counts one by one


def class_folders(folder: Path) -> list[str]:
    """Return the names of the classes: of the folders in `folder`, sorted."""
    return sorted(
        entry.name
        for entry in os.scandir(folder)
        if entry.is_dir() and not entry.name.startswith(".")
    )


def find(
    folder: Path, class_names: Sequence[str], left_out: Counter[str]
) -> PictureFiles:
    """Find the pictures of each class, in an order that no file system changes.

    Args:
        folder: It has one folder a class, which may have folders in it.
        class_names: Names of the classes, in the order of their numbers.
        left_out: Counts the endings of files that are no pictures; it is added to.

    Raises:
        ValueError: There is a folder of another name than the classes'.
    """
    strangers = [name for name in class_folders(folder) if name not in class_names]
    if strangers:
        raise ValueError(
            f"{folder} has folders that are no classes: {', '.join(strangers)}. The "
            f"classes are the folders to train on: {', '.join(class_names)}. Add "
            "pictures to train on, or take these folders away."
        )
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        found = pictures_in(folder / name, left_out)
        paths += found
        labels += [label] * len(found)
    return PictureFiles(np.array(paths, object), np.array(labels, np.int64))


def pictures_in(folder: Path, left_out: Counter[str]) -> list[str]:
    """Return the paths of the pictures in a folder and in those within it, sorted.

    A file with the ending of a format that Pillow reads is a picture, if perhaps a
    broken one. Of the others the first bytes are looked at, several files at a time.

    Args:
        folder: Where to look.
        left_out: Counts the endings of files that are no pictures; it is added to.
    """
    paths = list(files_in(folder))
    pictures = [path for path in paths if _ending(path) in known_endings()]
    others = [path for path in paths if _ending(path) not in known_endings()]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, is_picture in zip(others, pool.map(_is_picture, others), strict=True):
            if is_picture:
                pictures.append(path)
            else:
                left_out[_ending(path)] += 1
    return sorted(pictures)


def has_any(folder: Path) -> bool:
    """Return whether there are pictures in a folder, or in one within."""
    paths = files_in(folder)
    return any(_ending(path) in known_endings() or _is_picture(path) for path in paths)


def warn_of_left_out(left_out: Counter[str], *, stacklevel: int) -> None:
    """Say in one line how many files of which ending are not read, if any.

    Args:
        left_out: Number of files, by ending.
        stacklevel: Of `warnings.warn`, as seen from the caller.
    """
    if not left_out:
        return
    many = left_out.total()
    counts = [f"{n} {ending or 'without ending'}" for ending, n in _commonest(left_out)]
    others = many - sum(n for _, n in _commonest(left_out))
    counts += [f"{others} others"] if others else []
    files, were = ("file", "was") if many == 1 else ("files", "were")
    warnings.warn(
        f"{many} {files} {were} left out that Pillow cannot read: {', '.join(counts)}. "
        "If these are pictures, convert them to PNG or JPEG.",
        stacklevel=stacklevel + 1,
    )


def _commonest(left_out: Counter[str]) -> list[tuple[str, int]]:
    return left_out.most_common(NAMED_ENDINGS)


@cache
def known_endings() -> frozenset[str]:
    """Return the endings of the formats that Pillow reads, such as ".jpg"."""
    endings = Image.registered_extensions()
    return frozenset(end for end, name in endings.items() if name in _formats())


@cache
def _formats() -> tuple[str, ...]:
    """Return the names of the formats that Pillow reads pixels of."""
    Image.init()
    return tuple(sorted(Image.OPEN.keys() - NO_PIXELS))


@cache
def _signed_formats() -> tuple[str, ...]:
    """Return those whose files begin with bytes that say so.

    Others, such as TGA, could be taken for a picture of where there is none.
    """
    return tuple(name for name in _formats() if Image.OPEN[name][1] is not None)


def _is_picture(path: str) -> bool:
    """Return whether Pillow knows what a file begins with; pixels are not read."""
    try:
        with Image.open(path, formats=_signed_formats()):
            return True
    except Image.DecompressionBombError:
        return True  # and too large a one, as is said when it is read
    except Exception:  # Pillow raises of every kind where a file is something else
        return False


def files_in(folder: Path) -> Iterator[str]:
    """Find files, also behind links, except for links that lead back or up."""
    seen: set[str] = set()
    above = Path(os.path.realpath(folder)).parents
    for where, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(where)
        if real in seen or Path(real) in above:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(n for n in folders if not n.startswith((".", "@")))
        yield from _visible(where, names)


def _visible(where: str, names: Iterable[str]) -> Iterator[str]:
    return (os.path.join(where, name) for name in names if not name.startswith("."))


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()
