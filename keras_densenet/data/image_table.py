"""Pictures of your own whose labels are in a table."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

import numpy as np

from keras_densenet.data import picture_search
from keras_densenet.data.hold_out import Borders, HeldOut, hold_out_groups
from keras_densenet.data.label_table import (
    LabelTable,
    Table,
    TableError,
    Unknown,
    read_label_table,
)
from keras_densenet.data.labeled_files import Found, LabeledFiles
from keras_densenet.data.labeled_pictures import LabeledPictures
from keras_densenet.data.picture_files import PictureFiles
from keras_densenet.errors import few


@dataclass(eq=False, repr=False)
class _TableFirst:
    """The first argument: a dataclass lists the fields of its last parent first."""

    table: Table


@dataclass(eq=False, repr=False)
class ImageTable(LabeledPictures, _TableFirst):
    r"""Pictures whose labels are in a table: one class a picture, or several labels.

        ImageTable("Data_Entry_2017.csv", images="films", file="Image Index",
                   labels="Finding Labels", separator="|", none="No Finding",
                   group="Patient ID", split={"test": "test_list.txt"})

    Where the table does not say which pictures are to validate and to test on, shares
    are held out as `ImageFolder` does: by a hash, the same share of each class, of
    several labels of the rarest that a picture, or a group, has; the same on every
    machine and with every seed, and kept by a run.

    Kinds of files, broken ones, augmentation, `channels`, `fit` and the other arguments
    that are not listed here are those of `ImageFolder`.

    Args:
        table: Path of a CSV file, also compressed, or a frame of pandas.
        batch_size: Pictures in a global batch, over all replicas.
        image_size: Height and width of what the network sees, in pixels: one number for
            both, or the two.
        images: The folder of the pictures. Where the table has a file's name alone, it
            is looked for in all folders within.
        file: Name of the column of the pictures' files.
        labels: Name of the column of classes, or of the names of several labels joined
            by `separator`; or the names of the columns that are a label each, with 1,
            0, -1 for uncertain, or nothing.
        separator: Between names in one column; None for one class a row.
        none: The name that means no label at all, such as "No Finding".
        uncertain: What -1 in a label's column means: "mask" for not known, of which the
            loss and the metrics hear nothing, "positive" for 1, "negative" for 0.
        blank: What an empty field of it means, likewise.
        classes: Names of the classes, in the order of their numbers; None for those
            that there are, sorted, whole numbers by their size. Of columns the names
            are theirs.
        group: What belongs together in one split, such as the pictures of a patient:
            the name of a column; or a pattern that finds it in a file's path, in its
            parentheses, such as r"(patient\d+)".
        split: Which pictures are to train, to validate and to test on: the name of a
            column with "train", "val" and "test"; or the paths of lists of files, one a
            line, by the name of their split: all others are to train on, where "train"
            has no list. None to hold out shares.

    Attributes:
        labels: "one" or "several".

    Raises:
        TableError: The table is not what it is said to be, files are missing, or given
            splits share a group. The error names rows.
        BrokenPictureError: There are broken pictures. The error, raised in `setup`,
            names them.
        ValueError: An argument is out of its range.
    """

    _: KW_ONLY
    images: str | os.PathLike = "."
    file: str = "file"
    labels: str | Sequence[str] = "label"  # type: ignore[assignment]
    separator: str | None = None
    none: str | None = None
    uncertain: Unknown = "mask"
    blank: Unknown = "mask"
    classes: Sequence[str] | None = None
    split: str | Mapping[str, str | os.PathLike] | None = None

    def __post_init__(self) -> None:
        """Check the arguments, and read the table."""
        self._labels = self.labels  # what was given; here, what came of it
        self._read = read_label_table(
            self.table,
            file=self.file,
            labels=self._labels,
            separator=self.separator,
            none=self.none,
            uncertain=self.uncertain,
            blank=self.blank,
            classes=self.classes,
            group=self.group,
            split=self.split,
        )
        self.labels = "several" if self._read.labels.ndim == 2 else "one"
        self.class_names = self._read.class_names
        self.num_classes = len(self.class_names)
        super().__post_init__()

    def _where(self) -> LabeledFiles:
        find = partial(_find, self._read, self.images, self.shares)
        return LabeledFiles(
            self.images,
            self.class_names,
            find,
            check_files=self.check_files,
            on_error=self.on_error,
        )


def _find(
    table: LabelTable,
    images: str | os.PathLike,
    shares: Mapping[str, float],
    borders: Borders,
) -> Found:
    """Find the files of a table, and hold out what it has no split for."""
    paths = _paths(table.files, Path(images).expanduser())
    files = PictureFiles(paths, table.labels, table.groups)
    splits, borders = split_table(table, shares, borders)
    parts = {name: files.at(splits == name) for name in ("train", "val", "test")}
    return Found(parts, borders)


def split_table(
    table: LabelTable, shares: Mapping[str, float], borders: Borders
) -> HeldOut:
    """Return which rows are to train, to validate and to test on.

    Args:
        table: The rows, of which some splits may be given.
        shares: Share to hold out for each other split.
        borders: What a run held out; empty for none.
    """
    splits = np.full(len(table.files), "train", object)
    if table.splits is not None:
        splits[:] = table.splits
    to_train = splits == "train"
    units = table.files if table.groups is None else table.groups
    has_label = PictureFiles(table.files, table.labels).has_label(
        len(table.class_names)
    )
    missing = {name: x for name, x in shares.items() if name not in splits}
    held_out = hold_out_groups(units[to_train], has_label[to_train], missing, borders)
    splits[to_train] = held_out.splits
    return HeldOut(splits, held_out.borders)


def _paths(names: np.ndarray, folder: Path) -> np.ndarray:
    """Return the path of each file, `(N,)`.

    Raises:
        TableError: There is no such file, or there are several of its name, or two
            names are of one file.
    """
    if not folder.is_dir():
        raise TableError(f"There is no folder {folder} of pictures.")
    every = list(picture_search.files_in(folder))
    by_path = {os.path.relpath(path, folder): path for path in every}
    by_name: dict[str, list[str]] = {}
    for path in every:
        by_name.setdefault(os.path.basename(path), []).append(path)
    found: list[Any] = []
    missing: list[str] = []
    several: list[str] = []
    for name in names:
        inside = os.path.relpath(folder / name, folder)
        same_name = by_name.get(inside, [])  # of no path with folders
        if inside in by_path:
            found.append(by_path[inside])
        elif len(same_name) == 1:
            found.append(same_name[0])
        else:
            (several if same_name else missing).append(name)
    for wrong, what in ((missing, "not"), (several, "more than once")):
        if wrong:
            raise TableError(
                f"{len(wrong)} of the {len(names)} files of the table are {what} in "
                f"{folder}: {few(wrong)}.{_meant(missing[:1], by_path)} Take their "
                "rows out, or name the folder of all of them with images=."
            )
    _refuse_one_file_twice(names, found)
    return np.array(found, object)


def _meant(missing: Sequence[str], there: Iterable[str]) -> str:
    """Ask whether a missing file is one that is called so but for ending or folder."""
    for name in missing:
        last = PureWindowsPath(name.casefold())  # of both kinds of slashes
        for path in sorted(there):
            file = PurePath(path.casefold())
            if {file.name, file.stem} & {last.name, last.stem}:
                return f" Is {name} meant to be {path}? Then write it like that."
    return ""


def _refuse_one_file_twice(names: np.ndarray, paths: Sequence[str]) -> None:
    """Refuse two rows of one file, as a.png and ./a.png: they could be two splits'."""
    first: dict[str, str] = {}
    twice = [
        f"{first[path]} and {name}"
        for name, path in zip(names, paths, strict=True)
        if first.setdefault(path, name) != name
    ]
    if twice:
        raise TableError(
            f"{len(twice)} files are in the table twice, under two names: "
            f"{few(twice)}. Take one row of each out."
        )
