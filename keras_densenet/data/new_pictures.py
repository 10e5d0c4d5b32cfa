"""Pictures without labels, to ask a trained network about."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from keras_densenet.data import picture_files, picture_search
from keras_densenet.data.augment import standardize
from keras_densenet.data.crops import resize_over, resize_to_input, ten_crop
from keras_densenet.data.datamodule import FACTS, DataModule
from keras_densenet.data.labeled_files import refuse_on_error
from keras_densenet.tensor import Tensor

ANY_PATH = str | os.PathLike


class Pictures(DataModule):
    """Pictures of your own, prepared as a network's test pictures are: to predict.

    `trainer.predict(module, kd.data.Pictures("photos", like=data))` gives a row for
    each picture, in the order of `predict_files()`.

    Args:
        paths: A picture, a folder of pictures, or several of both. In folders and those
            within them is looked for what `ImageFolder` takes for pictures; a warning
            counts the other files.
        like: The data module that the network was trained on: it says how pictures are
            prepared, and what the classes are. It need not be set up.
        batch_size: Pictures in a batch; by default that of `like`.
        on_error: "raise" names the broken pictures in an error; "skip" leaves them out,
            with a warning.

    Raises:
        ValueError: There is no such file or folder, or there are no pictures in it; or
            the network of `like` sees no gray, RGB or RGBA pictures of one size.
        BrokenPictureError: There are broken pictures; raised in `setup`.
    """

    def __init__(
        self,
        paths: ANY_PATH | Iterable[ANY_PATH],
        like: DataModule,
        *,
        batch_size: int | None = None,
        on_error: str = "raise",
    ) -> None:
        refuse_on_error(on_error, check_files=True)
        _refuse_other_inputs(like)
        for fact in (*FACTS, "input_shape"):
            setattr(self, fact, getattr(like, fact))
        self.like = like
        self.mirror = getattr(like, "mirror", True)  # whether views may be
        self.batch_size = batch_size or like.batch_size
        self.on_error = on_error
        alone = isinstance(paths, str | os.PathLike)
        self.paths: list[Any] = [paths] if alone else list(paths)  # type: ignore[arg-type]
        self._numbers = np.array([], int)
        self._files: np.ndarray | None = None
        self._plain = np.array([], bool)

    @property
    def title(self) -> str:
        """Return what people call the data that the network was trained on."""
        return self.like.title

    @property
    def short_side(self) -> int:
        """Return the short side of a picture when its center is cut out, in pixels."""
        return self.like.short_side

    def setup(self, stage: str) -> None:
        """Find the files, and look at each of them, once."""
        if self._files is not None:
            return
        files = _found(self.paths)
        plain, broken, _ = picture_files.check(files)
        if self.on_error == "raise":
            picture_files.refuse_broken(broken, len(files))
        picture_files.warn_of_broken(broken, "", stacklevel=3)
        self._numbers = np.array([n for n, f in enumerate(files) if f not in broken])
        if not len(self._numbers):
            raise ValueError(
                f"None of the {len(files)} pictures can be read, as the warning says. "
                "Give others."
            )
        self._files, self._plain = files[self._numbers], plain[self._numbers]

    def predict_dataset(self) -> tf.data.Dataset:
        """Return batches of the pictures."""
        batches = self._batches(self._read).map(
            lambda images: standardize(images, self.mean, self.std),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        return batches.prefetch(tf.data.AUTOTUNE)

    def predict_views(self, views: Literal["flip", 10]) -> tf.data.Dataset | None:
        """Return batches of several views of the pictures.

        Ten are cut out where `like` has larger pictures than its network sees.
        """
        if views != 10 or self.short_side <= min(self.input_shape[:2]):
            return super().predict_views(views)
        self._refuse_mirrored(views)
        return self._batches(self._read_ten).prefetch(tf.data.AUTOTUNE)

    def _batches(self, read: Callable[[Tensor, Tensor], Tensor]) -> tf.data.Dataset:
        paths = [os.fsencode(path) for path in self._set_up()]
        pictures = tf.data.Dataset.from_tensor_slices(
            (tf.constant(paths, tf.string), self._plain)
        )
        pictures = pictures.map(read, num_parallel_calls=tf.data.AUTOTUNE)
        return pictures.batch(self.batch_size)

    def predict_files(self) -> Mapping[int, str]:
        """Return the path of each picture, by its number among all that were found."""
        files = self._set_up()
        return dict(zip(self._numbers.tolist(), files.tolist(), strict=True))

    def broken_file(self) -> str | None:
        """Return path and reason of a file that is broken by now; None if none is."""
        return picture_files.first_broken(self._set_up().tolist())

    def train_dataset(self) -> tf.data.Dataset:
        """Raise an error: the pictures have no labels."""
        raise NotImplementedError(
            "Pictures has pictures to predict, without labels. Train and test on the "
            "data that it was made like."
        )

    test_dataset = train_dataset

    def _set_up(self) -> np.ndarray:
        if self._files is None:
            raise ValueError(
                'Pictures are found by setup: call setup("predict") first.'
            )
        return self._files

    def _read(self, path: Tensor, plain: Tensor) -> Tensor:
        height, width, channels = self.input_shape
        image = picture_files.read_picture(path, plain, channels)
        return resize_to_input(
            image, (height, width), self.short_side, self.method, self.fit
        )

    def _read_ten(self, path: Tensor, plain: Tensor) -> Tensor:
        height, width, channels = self.input_shape
        image = picture_files.read_picture(path, plain, channels)
        large = resize_over(image, (height, width), self.short_side, self.method)
        return standardize(ten_crop(large, (height, width)), self.mean, self.std)


def _found(paths: Iterable[ANY_PATH]) -> np.ndarray:
    """Return the paths of all pictures: of each folder in their order."""
    files: list[str] = []
    left_out: Counter[str] = Counter()
    for path in paths:
        where = Path(path).expanduser()
        if where.is_dir():
            within = picture_search.pictures_in(where, left_out)
            if not within:
                raise ValueError(f"There are no pictures in the folder {path}.")
            files += within
        elif where.exists():
            files.append(str(where))
        else:
            raise ValueError(f"There is no file or folder {path} to predict.")
    if not files:
        raise ValueError("There are no pictures to predict: name files or folders.")
    picture_search.warn_of_left_out(left_out, stacklevel=4)
    return np.array(files, object)


def _refuse_other_inputs(like: DataModule) -> None:
    shape = tuple(like.input_shape)
    if len(shape) != 3 or shape[-1] not in picture_files.MODES or None in shape:
        raise ValueError(
            "Files can be prepared for a network that sees gray, RGB or RGBA pictures "
            "of one size, (H, W, 1), (H, W, 3) or (H, W, 4). Received: "
            f"like={type(like).__name__} with input_shape={shape}"
        )
