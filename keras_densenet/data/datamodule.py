"""The contract between data sets and the trainer, as in PyTorch Lightning."""

import abc
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import tensorflow as tf

from keras_densenet.data.augment import mirrored_axes
from keras_densenet.errors import MisconfigurationError

_LIGHTNING_NAMES = {
    f"{split}_dataloader": f"{split}_dataset"
    for split in ("train", "val", "test", "predict")
}

# What kind of labels a picture has; see `DataModule`.
Labels: TypeAlias = Literal["one", "several", "pixels"]
LABELS = get_args(Labels)

# What another view of the same pictures has of them.
FACTS = (
    *("num_classes", "class_names", "mean", "std", "batch_size", "soft_labels"),
    *("labels", "method", "fit"),
)


class Members(NamedTuple):
    """Which pictures a split has.

    Attributes:
        numbers: Their places among all pictures that they were taken from, int64
            `(N,)`: of a fold, among all that are not to test on.
        files: The path of each within the data's folder; None where there are no files.
        groups: The name of what each belongs to, such as a patient, text `(N,)`; None
            where nothing belongs together.
    """

    numbers: np.ndarray
    files: Sequence[str] | None = None
    groups: np.ndarray | None = None


class DataModule(abc.ABC):
    """A data set with all its splits, ready for a network.

    The trainer calls, in this order:

        prepare_data()                  download, once a machine; keep no state here
        setup("fit")                    read; also "validate", "test", "predict"
        keep_split(state)               where a run's checkpoint is resumed or tested
        load_state_dict(state)          where a run is resumed
        train_dataset(), val_dataset()  batches of (pictures, labels)
        train_batches(step)             those of the whole training, from a step on
        on_exception(error)             only where one ends it, before teardown
        teardown("fit")                 let go of what setup took

    A `tf.data.Dataset` it returns has global batches: under a strategy with R
    replicas each replica sees `batch_size / R` pictures. Pictures are float32 of shape
    `(N, H, W, channels)`, signals `(N, T, channels)` and volumes
    `(N, D, H, W, channels)`, all standardized with `mean` and `std`. Labels are class
    numbers of shape `(N,)`, probabilities `(N, classes)` with `soft_labels`, or what
    `labels` says.

    Attributes:
        num_classes: Number of classes.
        input_shape: `(H, W, channels)` of one picture, `(T, channels)` of a signal,
            `(D, H, W, channels)` of a volume.
        class_names: One name a class, in the order of the class numbers.
        mean: Mean of each channel in the training pictures, in 0..255; of signals and
            volumes in their own unit.
        std: Standard deviation of each channel, likewise.
        batch_size: Pictures in a global batch, over all replicas.
        soft_labels: Whether labels are probabilities, in all datasets.
        labels: "one" where each picture is of one class; "several" where it may have
            several labels: these are then float32 `(N, classes)`, 1 where a picture has
            one, 0 where it has not, NaN where that is not known. "pixels" where each
            pixel is of one class: int32 `(N, H, W)`, 255 where that is not known.
        method: Method of `tf.image.resize` for pictures of other sizes.
        fit: How these become `input_shape`'s: "crop", "pad" or "squash", as
            `resize_to_input` takes it; None for "crop" where it is a square, and
            "squash" where it is none.
    """

    num_classes: int
    input_shape: tuple[int, ...]
    class_names: Sequence[str]
    mean: Sequence[float]
    std: Sequence[float]
    batch_size: int
    soft_labels: bool = False
    labels: Labels = "one"
    method: str = "bicubic"
    fit: str | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse Lightning's names for the data sets, which nothing would call."""
        super().__init_subclass__(**kwargs)
        for name in _LIGHTNING_NAMES.keys() & vars(cls).keys():
            raise TypeError(
                f"{cls.__name__}.{name} would never be called: data modules return "
                f"tf.data.Datasets here. Did you mean {_LIGHTNING_NAMES[name]}?"
            )

    def prepare_data(self) -> None:  # noqa: B027, nothing to do is a good default
        """Download or generate what is needed; it is called once a machine."""

    def setup(self, stage: str) -> None:  # noqa: B027
        """Read what `stage` needs: "fit", "validate", "test" or "predict"."""

    @property
    def title(self) -> str:
        """Return what people call the data set."""
        return type(self).__name__

    @property
    def short_side(self) -> int:
        """Return the short side of a picture when its center is cut out, in pixels.

        Pictures of other sizes are prepared so, for evaluation and when served.
        """
        return min(self.input_shape[:-1])

    @abc.abstractmethod
    def train_dataset(self) -> tf.data.Dataset:
        """Return the training batches of one epoch, shuffled anew at each pass."""

    def train_batches(self, step: int) -> tf.data.Dataset:
        """Return the batches of the whole training, without end, from batch `step` on.

        A run that is resumed at a step must see the batches that it would have seen. By
        default it does if `train_dataset()` is the same in every process, because its
        shuffling has a seed. All the batches before `step` are then read again:
        override this where a batch can be found by its number.
        """
        return self.train_dataset().repeat().skip(step)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of the data: numbers, texts, lists of them."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Take back what `state_dict` returned, where a run is resumed."""

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells the pictures to train on from others: numbers and texts.

        A checkpoint keeps it, and a run goes on only where it is the same. With it the
        pictures may lie elsewhere then; without it, as by default, the arguments that
        the data module was made with must all be the same, its paths among them. It is
        asked for after `setup("fit")`.
        """
        return {}

    def keep_split(self, state: dict[str, Any]) -> bool:
        """Hold out the pictures that a run held out; called after setup.

        A run that is resumed, and what is tested from its checkpoint, keep its split
        even if files were added or removed since: no picture that it was trained on is
        one to test on. Nothing is to be done where splits are the data set's own.

        Args:
            state: What the run's `state_dict` returned.

        Returns:
            Whether other pictures are held out than before the call.
        """
        return False

    def fold(self, number: int, folds: int) -> "DataModule":
        """Return the same data, of which one fold is validated on.

        Each picture that is not to test on is in one fold of a cross-validation,
        whatever split it was in, and all other folds are trained on. No group is in two
        folds, each fold has its share of every label, and the folds are the same
        whenever they are asked for. The pictures to test on stay what they are. Mean
        and standard deviation that are computed of the training pictures are those of
        the fold's.

        Args:
            number: Of the fold to validate on, 1..folds.
            folds: How many there are, 2 or more.

        Returns:
            Data of their own: what is called of them changes nothing here.

        Raises:
            MisconfigurationError: These data cannot be divided, or not into so many.
        """
        raise MisconfigurationError(
            f"{type(self).__name__} does not say how its pictures are divided into "
            "folds. ImageFolder, ImageTable, Arrays, DigitMosaics, Digits, CIFAR10, "
            "CIFAR100 and SVHN do; of data of your own override fold(number, folds), "
            "and return a data module whose val_dataset() is that fold."
        )

    def val_dataset(self) -> tf.data.Dataset | None:
        """Return the validation batches, or None if nothing is held out."""
        return None

    def members(self, split: str) -> Members | None:
        """Return which pictures `val_dataset` or `test_dataset` has, in its order.

        It is asked for after setup.

        Args:
            split: "val" or "test".

        Returns:
            None where the data do not say.
        """
        return None

    @abc.abstractmethod
    def test_dataset(self) -> tf.data.Dataset:
        """Return the test batches."""

    @abc.abstractmethod
    def predict_dataset(self) -> tf.data.Dataset:
        """Return batches of pictures alone, to predict: by custom the test pictures."""

    def predict_views(self, views: Literal["flip", 10]) -> tf.data.Dataset | None:
        """Return batches of several views of the pictures to predict.

        Args:
            views: "flip" for a picture and its mirror image; 10 for ten crops of a
                larger one, in the order of `keras_densenet.data.ten_crop`.

        Returns:
            `(N, views, H, W, channels)`, standardized, in the order of
            `predict_dataset`; None where there is nothing to predict.

        Raises:
            MisconfigurationError: A mirrored picture is not of its class, as
                `mirror=False` says; or there are no larger pictures.
        """
        self._refuse_mirrored(views)
        if views == 10:
            raise MisconfigurationError(
                f"Ten views are cut out of larger pictures, and {type(self).__name__} "
                "has none to predict: ImageFolder, ImageTable, ImageNet and Pictures "
                'like them do. Take views="flip".'
            )
        batches = self.predict_dataset()
        if batches is None:
            return None
        return batches.map(
            lambda images: tf.stack([images, tf.reverse(images, axis=[-2])], axis=1),
            num_parallel_calls=tf.data.AUTOTUNE,
        )

    def _refuse_mirrored(self, views: Any) -> None:
        mirror, last = getattr(self, "mirror", True), len(self.input_shape) - 2
        if last not in mirrored_axes(mirror, last + 1):
            raise MisconfigurationError(
                f"views={views!r} asks about mirrored pictures, too, which "
                f"{type(self).__name__}(mirror={mirror}) says are not of their class, "
                "as those of a chest or of a digit: no network has learned them. "
                "Predict without views."
            )

    def predict_files(self) -> Mapping[int, str] | None:
        """Return the files of `predict_dataset`'s pictures, in its order, after setup.

        Returns:
            Paths, by the pictures' numbers: their places among all files, also those
            that are left out because they are broken. None where there are no files.
        """
        return None

    def has_pictures(self, split: str) -> bool:
        """Return whether a split, such as "test", may have pictures, after setup.

        It is asked where another split would do as well: to be asked for one that has
        none, data may refuse.
        """
        return True

    def broken_file(self) -> str | None:
        """Return path and reason of a picture file that is broken, after setup.

        It is asked when a file could not be decoded, and TensorFlow did not say which.
        """
        return None

    def on_exception(self, exception: BaseException) -> None:  # noqa: B027
        """Do what is to be done where an error ends what the data are read for."""

    def teardown(self, stage: str) -> None:  # noqa: B027
        """Let go of what `setup` took."""
