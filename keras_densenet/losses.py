"""Cross-entropy that Keras has not: of labels and pixels that may not be known."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_densenet.pixel_classes import VOID
from keras_densenet.tensor import Tensor


@keras.saving.register_keras_serializable(package="keras_densenet")
class MaskedBinaryCrossentropy(keras.losses.Loss):
    """Binary cross-entropy over the labels that are known, added up over labels.

    For each label it is the mean over those pictures of a batch of which the label is
    known, as in torchxrayvision's training: a label that few pictures say something of
    counts as much as the others. Under a strategy that is each replica's share of the
    batch. It is computed from logits, also where a model ends in sigmoids.

    Args:
        from_logits: Whether a model gives logits, and not probabilities.
        positive_weight: How much a picture that has a label counts, beside one that has
            not: one number, or one for each label, `(classes,)`, above 0.
        label_smoothing: How far labels are moved from 0 and 1 towards 1/2, in [0, 1).
        name: The loss's name.
    """

    def __init__(
        self,
        from_logits: bool = False,
        positive_weight: float | Sequence[float] = 1.0,
        label_smoothing: float = 0.0,
        name: str = "masked_binary_crossentropy",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.from_logits = from_logits
        self.positive_weight = positive_weight
        self.label_smoothing = label_smoothing

    def call(self, labels: Tensor, answers: Tensor) -> Tensor:
        """Return a value for each picture, `(N,)`, of which the mean is the loss.

        Args:
            labels: 1, 0, or NaN where it is not known, `(N, classes)`.
            answers: Probabilities, or logits, `(N, classes)`.
        """
        known = ops.logical_not(ops.isnan(labels))
        labels = ops.where(known, labels, ops.zeros_like(labels))
        labels = ops.cast(labels, answers.dtype)
        labels = labels * (1 - self.label_smoothing) + self.label_smoothing / 2
        known = ops.cast(known, answers.dtype)
        weight = ops.convert_to_tensor(self.positive_weight, answers.dtype)
        yes, no = (
            ops.binary_crossentropy(target, answers, self.from_logits)
            for target in (ops.ones_like(answers), ops.zeros_like(answers))
        )
        losses = known * (weight * labels * yes + (1 - labels) * no)  # (N, classes)
        pictures = ops.cast(ops.shape(known)[0], answers.dtype)
        share = ops.maximum(ops.sum(known, axis=0), 1) / pictures  # (classes,)
        return ops.sum(losses / share, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        weight = ops.convert_to_numpy(self.positive_weight).tolist()
        return {
            **super().get_config(),
            "from_logits": self.from_logits,
            "positive_weight": weight,
            "label_smoothing": self.label_smoothing,
        }


@keras.saving.register_keras_serializable(package="keras_densenet")
class PixelCrossentropy(keras.losses.Loss):
    """Cross-entropy over the pixels of a batch whose class is known.

    Keras's own with `ignore_class` takes probabilities for what they are, and one that
    is rounded to 0 has no gradient. Here logits are taken where a model ends in a
    softmax, too. Under a strategy it is each replica's share of the batch.

    Args:
        from_logits: Whether a model gives logits, and not probabilities.
        name: The loss's name.
    """

    def __init__(
        self,
        from_logits: bool = False,
        name: str = "pixel_crossentropy",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.from_logits = from_logits

    def __call__(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Return the loss; a weight may be of each pixel, or of each picture `(N,)`."""
        if sample_weight is not None and len(sample_weight.shape) == 1:
            ones = [1] * (len(y_pred.shape) - 2)
            sample_weight = ops.reshape(sample_weight, [-1, *ones])
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, labels: Tensor, answers: Tensor) -> Tensor:
        """Return a value for each pixel, `(N, H, W)`, of which the mean is the loss.

        Args:
            labels: Class numbers `(N, H, W)`, `VOID` where they are not known.
            answers: Probabilities, or logits, `(N, H, W, classes)`.
        """
        known = ops.not_equal(labels, VOID)
        labels = ops.where(known, labels, ops.zeros_like(labels))
        losses = ops.sparse_categorical_crossentropy(labels, answers, self.from_logits)
        known = ops.cast(known, losses.dtype)
        share = ops.mean(known)
        return losses * known / ops.where(share > 0, share, ops.ones_like(share))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), "from_logits": self.from_logits}


@keras.saving.register_keras_serializable(package="keras_densenet")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of class numbers, moved towards an equal share of all classes.

    Keras has label smoothing for probabilities alone.

    Args:
        from_logits: Whether a model gives logits, and not probabilities.
        label_smoothing: How far labels are moved, in [0, 1).
        name: The loss's name.
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.1,
        name: str = "smoothed_crossentropy",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.from_logits = from_logits
        self.label_smoothing = label_smoothing

    def call(self, labels: Tensor, answers: Tensor) -> Tensor:
        """Return a value for each picture, `(N,)`.

        Args:
            labels: Class numbers, `(N,)` or `(N, 1)`.
            answers: Probabilities, or logits, `(N, classes)`.
        """
        numbers = ops.cast(ops.reshape(labels, [-1]), "int32")
        shares = ops.one_hot(numbers, answers.shape[-1], dtype=answers.dtype)
        return keras.losses.categorical_crossentropy(
            shares, answers, self.from_logits, self.label_smoothing
        )

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {
            **super().get_config(),
            "from_logits": self.from_logits,
            "label_smoothing": self.label_smoothing,
        }
