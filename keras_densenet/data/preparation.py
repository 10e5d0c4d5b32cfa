"""Data sets are got ready through TensorFlow Datasets (TFDS), also offline.

A data set is taken from the first of these that has it: the folder where TFDS has
prepared it, its archives in `manual_dir`, its server.
"""

import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
import tensorflow as tf
import tensorflow_datasets as tfds
from google.protobuf.json_format import ParseError
from tensorflow_datasets.core.download.download_manager import (
    NonMatchingChecksumError,
)

# TensorFlow raises these where files are cut off, missing or empty.
DAMAGED = (
    tf.errors.DataLossError,
    tf.errors.NotFoundError,
    tf.errors.FailedPreconditionError,
)
PROBE_SECONDS = 10
DEFAULT_FOLDER = "~/tensorflow_datasets"


class DataUnavailableError(RuntimeError):
    """A data set is neither prepared on this machine nor to be downloaded."""


def builder_of(
    name: str, title: str, data_dir: str | os.PathLike | None
) -> tfds.core.DatasetBuilder:
    """Make TFDS's builder of a data set.

    Args:
        name: Name of the data set in TFDS.
        title: What people call it.
        data_dir: Where TFDS keeps its data; None for its default.

    Raises:
        DataUnavailableError: The files that TFDS has prepared are damaged.
    """
    with readable(title, data_dir or DEFAULT_FOLDER):
        return tfds.builder(name, data_dir=data_dir)


@contextmanager
def readable(title: str, where: str | os.PathLike) -> Iterator[None]:
    """Say what to do where the files that TFDS has prepared are damaged.

    Args:
        title: What people call the data set.
        where: Where the files are.

    Raises:
        DataUnavailableError: The files are damaged, or some are missing.
    """
    try:
        yield
    except (*DAMAGED, ParseError) as error:
        raise DataUnavailableError(
            f"The files of {title} in {where} are damaged or missing: {error}\nDelete "
            "the data set's folder there, and it is prepared anew."
        ) from error


def prepare(
    builder: tfds.core.DatasetBuilder,
    *,
    title: str,
    data_dir: str | os.PathLike | None = None,
    manual_dir: str | os.PathLike | None = None,
    download: bool = True,
) -> None:
    """Prepare a data set, unless it is prepared already.

    Args:
        builder: TFDS's builder of the data set, made with `data_dir`.
        title: What people call the data set.
        data_dir: Where TFDS keeps its data; None for its default.
        manual_dir: A folder with the archives, under the names that they are published
            under; TFDS compares their checksums.
        download: Whether to download what `manual_dir` does not have.

    Raises:
        DataUnavailableError: The data set can be neither found nor downloaded. The
            error names the ways out.
    """
    if builder.is_prepared():
        return
    try:
        _refuse_what_cannot_be(builder, manual_dir, download)
        config = tfds.download.DownloadConfig(manual_dir=manual_dir)
        builder.download_and_prepare(download_config=config)
    except _FAILURES as error:
        reason = str(error) if isinstance(error, _NotAskedError) else _brief(error)
        message = _ways_out(builder, title, data_dir, manual_dir, reason)
        raise DataUnavailableError(message) from error


class _NotAskedError(Exception):
    """Archives are missing that the user said not to download."""


# TFDS's, where archives are missing that one must register for.
_NO_ARCHIVES = (AssertionError, tf.errors.NotFoundError)
_CUT_OFF = (tarfile.ReadError, zlib.error, EOFError, tf.errors.OutOfRangeError)
_FAILURES = (
    _NotAskedError,
    OSError,
    *_NO_ARCHIVES,
    tfds.download.DownloadError,
    NonMatchingChecksumError,
    *_CUT_OFF,
)


def _refuse_what_cannot_be(
    builder: tfds.core.DatasetBuilder,
    manual_dir: str | os.PathLike | None,
    download: bool,
) -> None:
    """Fail at once where TFDS would retry for minutes, or download unasked."""
    folder = Path(manual_dir or os.devnull).expanduser()
    archives = _archives(builder)
    missing = [url for url, name in archives.items() if not (folder / name).exists()]
    if missing and not download:
        raise _NotAskedError("download=False")
    for url in missing:
        requests.head(url, timeout=PROBE_SECONDS, allow_redirects=True)


def _archives(builder: tfds.core.DatasetBuilder) -> dict[str, str]:
    """Return the names under which the archives are published, by address."""
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:  # nobody may download them for you
        return {}
    return {url: info.filename for url, info in builder.url_infos.items()}


def _brief(error: Exception) -> str:
    name = type(error).__name__
    if isinstance(error, _NO_ARCHIVES):
        return "its archives are not in manual_dir"
    if isinstance(error, _CUT_OFF):
        return f"an archive is not whole: {error}"
    if isinstance(error, (requests.RequestException, tfds.download.DownloadError)):
        return f"{name} while downloading"
    return f"{name}: {error}"


def _ways_out(
    builder: tfds.core.DatasetBuilder,
    title: str,
    data_dir: str | os.PathLike | None,
    manual_dir: str | os.PathLike | None,
    reason: str,
) -> str:
    where = data_dir or DEFAULT_FOLDER
    archives = ", ".join(_archives(builder).values()) or "its archives"
    instructions = " ".join((builder.MANUAL_DOWNLOAD_INSTRUCTIONS or "").split())
    return (
        f"{title} is not prepared in {where}, and cannot be downloaded ({reason}). "
        "Three ways out: (1) name a folder that has it, with --data-dir, data_dir= or "
        f"TFDS_DATA_DIR; `tfds build {builder.name} --data_dir FOLDER` makes one on a "
        f"machine with a network; (2) put {archives} into a folder and name that, with "
        f"--manual-dir or manual_dir= (now: {manual_dir}); (3) use the "
        "hand-written digits that are built in: --data digits, or "
        f"keras_densenet.data.Digits(). {instructions}".rstrip()
    )
