"""What a network in fewer bits still answers rightly, of pictures held out."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from keras_densenet.data import DataModule
from keras_densenet.export.signatures import Preprocessing
from keras_densenet.export.verification import ExportError

BATCH = 32
HELD_OUT = 2000  # pictures

Run = Callable[[np.ndarray], Mapping[str, Any]]  # answers of raw pictures


def raw_pictures(
    data: DataModule, stage: str, many: int = HELD_OUT
) -> tuple[np.ndarray, np.ndarray]:
    """Return a data module's first pictures, as they were, and their class numbers.

    Of several labels a picture they are the rows of labels.

    Args:
        data: The data module, whose data are prepared.
        stage: "fit" for training pictures, "test" for test pictures.
        many: How many, if there are as many.
    """
    data.setup(stage)
    dataset = data.train_dataset() if stage == "fit" else data.test_dataset()
    batches = list(dataset.unbatch().batch(BATCH).take(-(-many // BATCH)))
    images = np.concatenate([images for images, _ in batches])[:many]
    labels = np.concatenate([labels for _, labels in batches])[:many]
    data.teardown(stage)
    raw = Preprocessing(data.input_shape, data.mean, data.std).raw(images)
    is_shares = labels.ndim > 1 and np.allclose(labels.sum(axis=1), 1, atol=1e-2)
    return raw, labels.argmax(axis=1) if is_shares else labels


def accuracy_of(run: Run, images: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of right answers, or of yes and no, by decisions if any are."""
    starts = range(0, len(images), BATCH)
    batches = [run(np.asarray(images[at : at + BATCH], "float32")) for at in starts]
    answers = {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}
    logits = answers["logits"]
    if labels.ndim > 1 or logits.shape[1] == 1:  # yes or no, by sigmoids
        labels = labels.reshape(logits.shape)
        known, given = ~np.isnan(labels), answers.get("decisions", logits > 0)
        return float(np.mean(given[known] == (labels >= 0.5)[known]))
    return float(np.mean(logits.argmax(axis=1) == labels))


def checked_accuracies(
    served: Run,
    expected: Run,
    held_out: tuple[np.ndarray, np.ndarray],
    max_drop: float,
) -> dict[str, float]:
    """Return the accuracy of a network in bfloat16, and that of the model in float32.

    Raises:
        ExportError: More than `max_drop` of it is lost, and more than one picture.
    """
    found, before = (accuracy_of(run, *held_out) for run in (served, expected))
    pictures = len(held_out[1])
    rounding = 1e-6
    if before - found > max(max_drop, 1 / pictures) + rounding:
        raise ExportError(
            f"In bfloat16 the network classifies {found:.2%} of {pictures} pictures "
            f"rightly, in float32 {before:.2%}: more than max_drop={max_drop} is lost, "
            "and nothing was written. Leave precision out."
        )
    return {"held_out_accuracy": found, "held_out_accuracy_in_float32": before}
