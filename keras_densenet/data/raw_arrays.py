"""Which arrays are pictures, signals or volumes, and what they must be."""

from typing import Any, NamedTuple

import numpy as np

AT_A_TIME = 1_000  # pictures whose moments are taken
VALUES = 2**22  # of signals and volumes at a time, of which one may be large
MANY = 16  # channels: so many are told from a depth or a width that lacks an axis
STEPS = 4  # times as many as channels: so long are signals


class Kind(NamedTuple):
    """What an array of a rank is called, and the shape that it has."""

    one: str
    shape: str

    @property
    def name(self) -> str:
        """Return what several are called."""
        return f"{self.one}s"


KINDS = {  # by the rank
    1: Kind("signal", "(N, T, channels)"),
    2: Kind("picture", "(N, H, W, channels)"),
    3: Kind("volume", "(N, D, H, W, channels)"),
}
_RAW = (
    "pictures are raw ones, in 0..255, or floats in 0..1, as they are standardized "
    "here. Of pictures that are standardized already make a tf.data.Dataset: "
    "kd.data.Datasets(tf.data.Dataset.from_tensor_slices((images, labels)).batch(64))"
)


def checked_arrays(which: str, arrays: Any, rank: int | None = None) -> np.ndarray:
    """Return signals, pictures or volumes as they are kept.

    Args:
        which: What errors begin with.
        arrays: The pictures; see `KINDS` for the shapes.
        rank: 1 for signals, 2 for pictures, 3 for volumes; None where the number of
            axes is to say it.

    Returns:
        Pictures in 0..255: uint8, or float32 where they were floats. Signals and
        volumes in their own unit: uint8 or int16 where they were, else float32.

    Raises:
        ValueError: They have another shape, or one that may mean two things; or values
            that pictures do not have, or that are no finite numbers.
    """
    arrays = np.asarray(arrays)
    _refuse_shapes(which, arrays.shape, rank)
    if arrays.ndim == 4:
        return _checked_pictures(which, arrays)
    return _checked_values(which, arrays)


def _refuse_shapes(which: str, shape: tuple[int, ...], rank: int | None) -> None:
    """Refuse shapes of nothing; without a rank also those that may be of two kinds."""
    if rank is not None and rank not in KINDS:
        raise ValueError(
            "rank is 1 for signals, 2 for pictures, 3 for volumes. Received: "
            f"rank={rank!r}"
        )
    found = KINDS.get(len(shape) - 2)
    if found is None or rank not in (None, len(shape) - 2) or 0 in shape:
        wanted = KINDS[rank or 2]
        lacks_one = len(shape) == (rank or 2) + 1
        hint = f" Give {_with_an_axis(shape)}." if lacks_one else ""
        raise ValueError(
            f"{which}{wanted.name} are arrays of the shape {wanted.shape}. Received: "
            f"the shape {shape}.{hint}"
        )
    if rank is None:
        _refuse_channels_first(which, shape, found)
        _refuse_two_kinds(which, shape)


def _refuse_two_kinds(which: str, shape: tuple[int, ...]) -> None:
    """Refuse gray pictures that may be signals, and volumes that may be pictures."""
    *_, before, channels = shape
    if len(shape) == 3 and before < STEPS * channels:
        raise ValueError(
            f"{which}pictures are arrays of the shape (N, H, W, channels), and signals "
            f"(N, T, channels). Received: the shape {shape}. Give "
            f"{_with_an_axis(shape)} if these are pictures. If they are signals of "
            f"{before} steps and {channels} channels say rank=1; where their channels "
            "come first give np.moveaxis(signals, 1, -1)."
        )
    if len(shape) == 4 and channels > MANY:
        raise ValueError(
            f"{which}arrays of the shape {shape} may be volumes without channels, or "
            f"pictures of {channels} channels. Give {_with_an_axis(shape)} if they are "
            "volumes, and say rank=2 if they are pictures."
        )


def _with_an_axis(shape: tuple[int, ...]) -> str:
    """Return how to add the axis of a picture's channel, or of a single picture."""
    one_picture = len(shape) == 3 and shape[-1] in (1, 3)
    return f"images[{'np.newaxis' if one_picture else '..., np.newaxis'}]"


def _refuse_channels_first(which: str, shape: tuple[int, ...], kind: Kind) -> None:
    """Refuse pictures and volumes whose channels come before height and width."""
    _, first, *sides = shape
    if len(sides) < 2 or sides[-1] <= 4:
        return
    are_volumes = len(sides) == 3  # of several modalities, which have few channels
    are_many = are_volumes and (first <= MANY or sides[-1] > MANY)
    if first == 3 or (first == 1 and sides[-1] == sides[-2]) or are_many:
        hint = f" If they have {sides[-1]} channels say rank=3." * are_volumes
        raise ValueError(
            f"{which}{kind.name} have their channels last, {kind.shape}. Received: "
            f"the shape {shape}. Give np.moveaxis(images, 1, -1).{hint}"
        )


def _checked_pictures(which: str, images: np.ndarray) -> np.ndarray:
    if images.dtype.kind not in "buif":
        raise ValueError(f"{which}{_RAW}. Received: {images.dtype}")
    least, most = float(images.min()), float(images.max())
    if not (least >= 0 and most <= 255):  # NaN is neither
        raise ValueError(f"{which}{_RAW}. Received: values in {least:.4g}..{most:.4g}")
    if images.dtype.kind != "f":
        return images.astype("uint8", copy=False)
    images = images.astype("float32", copy=False)
    return images * np.float32(255) if most <= 1 else images


def _checked_values(which: str, arrays: np.ndarray) -> np.ndarray:
    name = KINDS[arrays.ndim - 2].name
    if arrays.dtype.kind not in "buif":
        raise ValueError(f"{which}{name} are numbers. Received: {arrays.dtype}")
    if arrays.dtype.kind == "b":
        return arrays.astype("uint8")
    if arrays.dtype in ("uint8", "int16"):
        return arrays
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused
        arrays = arrays.astype("float32", copy=False)
        may_have_others = not np.isfinite(arrays.sum())
    if may_have_others and not np.isfinite(arrays).all():
        raise ValueError(
            f"{which}{name} have NaNs, infinite numbers or some beyond float32's "
            "3.4e38: replace them, such as by np.nan_to_num(images)."
        )
    return arrays


def moments(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel of pictures `(N, H, W, C)`.

    Those of signals and volumes likewise. A channel that is the same everywhere has the
    standard deviation 1.0.
    """
    channels = images.shape[-1]
    axes = tuple(range(images.ndim - 1))
    total, squares, about = np.zeros(channels), np.zeros(channels), np.zeros(channels)
    step = AT_A_TIME
    if images.ndim != 4:
        step = max(1, VALUES // images[0].size)
        # In a unit of their own they may be far from 0: squares of that would cancel.
        about = images[0].mean(axes[:-1], dtype="float64")
    for first in range(0, len(images), step):
        some = images[first : first + step].astype("float64") - about
        total += some.sum(axis=axes)
        squares += (some**2).sum(axis=axes)
    pixels = images.size // channels
    mean = total / pixels
    std = np.sqrt(np.maximum(squares / pixels - mean**2, 0.0))
    mean += about
    # In a unit of their own all may be small; a step of float32 is smaller.
    least = 1e-6 if images.ndim == 4 else 1e-7 * np.abs(mean)
    std[std <= least] = 1.0
    return tuple(mean.tolist()), tuple(std.tolist())
