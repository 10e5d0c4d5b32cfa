"""Metrics of several labels a picture, and of pixels, over those that are known."""

from typing import Any

import keras
from keras import ops

from keras_densenet.pixel_classes import VOID
from keras_densenet.tensor import Tensor

BINS = 4096  # of logits, in which those of one bin are taken for equal
FARTHEST = 16.0  # the largest logit that is told from larger ones: 1 - 1e-7


class _OfEachLabel(keras.metrics.Metric):
    """What counts pictures for each label, and is the mean over labels.

    Args:
        classes: Number of labels.
        from_logits: Whether a model gives logits, and not probabilities.
        name: The metric's name.
    """

    def __init__(
        self, classes: int, from_logits: bool = False, *, name: str, **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.classes = classes
        self.from_logits = from_logits

    def _logits(self, answers: Tensor) -> Tensor:
        answers = ops.cast(answers, "float32")
        if self.from_logits:
            return answers
        tiny = 1e-7
        share = ops.clip(answers, tiny, 1 - tiny)
        return ops.log(share) - ops.log1p(-share)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        arguments = {"classes": self.classes, "from_logits": self.from_logits}
        return {**super().get_config(), **arguments}


@keras.saving.register_keras_serializable(package="keras_densenet")
class MacroAUROC(_OfEachLabel):
    """The area under the ROC curve of each label, and the mean of the labels.

    It is the probability that a picture that has a label gets a higher answer than one
    that has not, as in scikit-learn; equal ones count 1/2. Answers are counted in 4,096
    bins of logits from -16 to 16, so that it is exact but for pairs within one bin,
    0.008 wide: `kd.analysis` computes it without bins. Labels that are not known are
    left out; so is a label that all pictures have, or none. Where no label is left, it
    is NaN, of which no checkpoint is the best.

    Args:
        classes: Number of labels.
        from_logits: Whether a model gives logits, and not probabilities.
        name: The metric's name.
    """

    def __init__(
        self,
        classes: int,
        from_logits: bool = False,
        name: str = "auroc",
        **kwargs: Any,
    ) -> None:
        super().__init__(classes, from_logits, name=name, **kwargs)
        shape = (classes, BINS)
        self.positive = self.add_variable(shape, "zeros", name="positive")
        self.negative = self.add_variable(shape, "zeros", name="negative")

    def update_state(
        self, labels: Tensor, answers: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        """Count pictures.

        Args:
            labels: 1, 0, or NaN where it is not known, `(N, classes)`.
            answers: Probabilities, or logits, `(N, classes)`.
            sample_weight: Not used: each picture counts alike.
        """
        place = (self._logits(answers) / FARTHEST + 1) / 2 * BINS
        bins = ops.cast(ops.clip(place, 0, BINS - 1), "int32")  # (N, classes)
        bins += BINS * ops.arange(self.classes, dtype="int32")  # those of each label
        for counts, value in ((self.positive, 1), (self.negative, 0)):
            has = ops.cast(ops.equal(labels, value), "float32")  # NaN is neither
            added = ops.segment_sum(
                ops.reshape(has, [-1]), ops.reshape(bins, [-1]), self.classes * BINS
            )
            counts.assign_add(ops.reshape(added, [self.classes, BINS]))

    def result(self) -> Tensor:
        """Return the mean over the labels of which both kinds are known, or NaN."""
        positive, negative = ops.sum(self.positive, 1), ops.sum(self.negative, 1)
        below = ops.cumsum(self.negative, axis=1) - self.negative / 2
        pairs = positive * negative
        area = ops.sum(self.positive * below, axis=1) / ops.maximum(pairs, 1)
        defined = ops.cast(pairs > 0, area.dtype)
        return ops.sum(area * defined) / ops.sum(defined)


@keras.saving.register_keras_serializable(package="keras_densenet")
class MacroF1(_OfEachLabel):
    """The F1 score of each label at a probability of 1/2, and the mean of the labels.

    F1 is 2 TP / (2 TP + FP + FN), and 0 for a label that no picture has and none is
    said to have, as in scikit-learn. Labels that are not known are left out.

    Args:
        classes: Number of labels.
        from_logits: Whether a model gives logits, and not probabilities.
        name: The metric's name.
    """

    def __init__(
        self, classes: int, from_logits: bool = False, name: str = "f1", **kwargs: Any
    ) -> None:
        super().__init__(classes, from_logits, name=name, **kwargs)
        self.right = self.add_variable((classes,), "zeros", name="right")
        self.wrong = self.add_variable((classes,), "zeros", name="wrong")

    def update_state(
        self, labels: Tensor, answers: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        """Count pictures, as `MacroAUROC` does."""
        says = self._logits(answers) >= 0
        has, has_not = ops.equal(labels, 1), ops.equal(labels, 0)
        right = ops.logical_and(says, has)
        wrong = ops.logical_or(
            ops.logical_and(says, has_not),
            ops.logical_and(ops.logical_not(says), has),
        )
        for counts, which in ((self.right, right), (self.wrong, wrong)):
            counts.assign_add(ops.sum(ops.cast(which, counts.dtype), axis=0))

    def result(self) -> Tensor:
        """Return the mean over the labels."""
        return ops.mean(2 * self.right / ops.maximum(2 * self.right + self.wrong, 1))


def mean_iou(classes: int) -> keras.metrics.Metric:
    """Return Keras's mean over classes of intersection over union, without void pixels.

    A class that no pixel has, and none is said to have, does not count.

    Args:
        classes: Number of classes. Labels are `(N, H, W)`, answers
            `(N, H, W, classes)`, probabilities or logits.
    """
    return keras.metrics.MeanIoU(
        classes, name="mean_iou", ignore_class=VOID, sparse_y_pred=False
    )


@keras.saving.register_keras_serializable(package="keras_densenet")
class PixelAccuracy(keras.metrics.SparseCategoricalAccuracy):
    """The share of pixels whose class is right, without void pixels."""

    def __init__(self, name: str = "pixel_accuracy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def update_state(
        self, labels: Tensor, answers: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        """Count pixels.

        Args:
            labels: Class numbers `(N, H, W)`, `VOID` where they are not known.
            answers: Probabilities, or logits, `(N, H, W, classes)`.
            sample_weight: Not used: each pixel counts alike.
        """
        known = ops.not_equal(labels, VOID)
        labels = ops.where(known, labels, ops.zeros_like(labels))
        super().update_state(labels, answers, ops.cast(known, self.dtype))
