"""What is trained: a network, its optimizer, its loss and its metrics."""

import copy
import inspect
import math
import os
from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from typing import Any, Literal, TypeAlias, cast

import keras
import numpy as np

from keras_densenet.data import DataModule
from keras_densenet.errors import MisconfigurationError
from keras_densenet.losses import (
    MaskedBinaryCrossentropy,
    PixelCrossentropy,
    SmoothedCrossentropy,
)
from keras_densenet.metrics import MacroAUROC, MacroF1, PixelAccuracy, mean_iou
from keras_densenet.model_output import ModelOutput
from keras_densenet.training.lightning_names import refuse_names_of_a_classifier
from keras_densenet.training.optimizer import TorchSGD, cosine_schedule, step_schedule

_ACTIVATION = "classifier_activation"  # of networks that let one choose


class ImageClassifier:
    """A network with the paper's training (section 4.2), built by the trainer.

    The trainer calls, inside its strategy and its precision:

        configure_model(data) -> configure_optimizer(total_steps), configure_loss(),
        configure_metrics() -> model.compile(...), configure_callbacks()

    Override a `configure_` method to change that part.

    Args:
        network: A function that makes a `keras.Model` giving class probabilities or
            logits, such as `keras_densenet.DenseNetBC`. Its `classes` and
            `input_shape`, if it has them and they are not given, come from the data.
        learning_rate: At the start.
        momentum: Nesterov's.
        weight_decay: Coupled, on all trainable weights.
        milestones: Shares of the training after which the learning rate is divided by
            10.
        lr_schedule: "step", by the milestones, or "cosine", to 0 without milestones.
        scale_lr_from: Global batch size that `learning_rate` is for. With n times as
            many pictures in a batch it is n times as high (Goyal et al. 2017). None
            for the learning rate as it is.
        class_weight: Weight of each class in the loss, by its number, or "balanced" for
            the data's `class_weight`; `model.fit(class_weight=...)`. A mixed label
            (mixup, cutmix) has the weight of its largest share.
        positive_weight: Where pictures have several labels, how much one that has a
            label counts in the loss, beside one that has not: a number, one for each
            label, or "balanced" for the data's `positive_weight`.
        label_smoothing: How far labels are moved towards an equal share of all classes,
            or of several labels towards 1/2, in [0, 1).
        **options: The network's arguments.

    Attributes:
        data: What it is trained on; set by the trainer before it calls the rest.
        model: The `keras.Model`, or None before the trainer has built it.
        from_checkpoint: Whether the network gets a checkpoint's weights right after it
            is made; set by the trainer. Its first weights are then not read, whose file
            may be gone.
        output: What the network answers, such as logits; set by the trainer when it
            has made the network, before it asks for loss and metrics.

    Raises:
        MisconfigurationError: An option that the network does not have.

    Examples:
        >>> def linear(classes, input_shape):
        ...     return keras.Sequential([keras.Input(input_shape)])
        >>> ImageClassifier(linear, depth=100)
        Traceback (most recent call last):
        ...
        keras_densenet.errors.MisconfigurationError: linear has no option \
depth: it has classes, input_shape.
    """

    def __init__(
        self,
        network: Callable[..., keras.Model],
        *,
        learning_rate: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        milestones: Sequence[float] = (0.5, 0.75),
        lr_schedule: Literal["step", "cosine"] = "step",
        scale_lr_from: int | None = None,
        class_weight: dict[int, float] | Literal["balanced"] | None = None,
        positive_weight: float | Sequence[float] | Literal["balanced"] = 1.0,
        label_smoothing: float = 0.0,
        **options: Any,
    ) -> None:
        _refuse_no_network(network)
        _refuse_rates(learning_rate, momentum, weight_decay)
        _refuse_milestones(milestones)
        _refuse_smoothing(label_smoothing)
        self.network = network
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.milestones = milestones
        self.lr_schedule = lr_schedule
        self.scale_lr_from = scale_lr_from
        self.class_weight = class_weight
        self.positive_weight = positive_weight
        self.label_smoothing = label_smoothing
        self.options = options
        self.data: DataModule | None = None
        self.model: keras.Model | None = None
        self.from_checkpoint = False
        self.output = ModelOutput("softmax")
        _refuse_schedule(lr_schedule, scale_lr_from)
        unknown = options.keys() - self._parameters()
        if unknown:
            raise MisconfigurationError(
                f"{network.__name__} has no option {', '.join(sorted(unknown))}: it "
                f"has {', '.join(self._parameters())}."
            )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse Lightning's names and mistyped ones, which nothing would call."""
        super().__init_subclass__(**kwargs)
        refuse_names_of_a_classifier(cls, dir(ImageClassifier))

    def unfitted(self) -> "ImageClassifier":
        """Return one with the same options and no network: a fit makes it anew."""
        other = copy.copy(self)
        other.data = other.model = None
        other.from_checkpoint = False
        other.output = ModelOutput("softmax")
        return other

    @property
    def gives_several_labels(self) -> bool:
        """Whether a picture may have several labels, each with its own probability.

        That is what data say of themselves; of others it is taken to be so where their
        labels are numbers for each class and the network ends in sigmoids. Pictures
        that are mixed (mixup, cutmix) have one class each, in shares.
        """
        if self._has_several_labels():
            return True
        is_mixed = bool(getattr(self.data, "strong", None))
        several = self.output.is_of_each_class and self.output.units != 1
        return several and self._has_soft_labels() and not is_mixed

    def configure_model(self, data: DataModule, **flags: Any) -> keras.Model:
        """Make the network, with as many classes and pixels as the data have.

        Args:
            data: What it is trained on.
            **flags: Options that the trainer asks for, such as `sync_batchnorm=True`.

        Raises:
            MisconfigurationError: The network has not such options.
        """
        options = self.options | flags
        for name in flags.keys() - self._parameters():
            raise MisconfigurationError(
                f"Trainer({name}=...) needs a network that has that option, and "
                f"{self.network.__name__} has {', '.join(self._parameters())}."
            )
        if self._gets_weights() and isinstance(
            options.get("weights"), str | os.PathLike
        ):
            options["weights"] = None
        if data.labels == "several" and _ACTIVATION in self._parameters():
            self._refuse_softmax(options.setdefault(_ACTIVATION, "sigmoid"))
        facts = {"classes": data.num_classes, "input_shape": tuple(data.input_shape)}
        for name, value in facts.items():
            if name not in self._parameters():
                continue
            if options.setdefault(name, value) != value:
                raise MisconfigurationError(
                    f"The network has {name}={options[name]}, the data have {value}: "
                    f"leave {name} out to take the data's."
                )
        return self.network(**options)

    def configure_optimizer(self, total_steps: int) -> keras.optimizers.Optimizer:
        """Make the paper's optimizer for a training of `total_steps` steps.

        Args:
            total_steps: -1 for a training without end, by `max_epochs=-1`.
        """
        schedule = self.schedule(total_steps)
        return TorchSGD(schedule, self.momentum, weight_decay=self.weight_decay)

    def schedule(self, total_steps: int) -> Any:
        """Return the learning rate of each step: a number, or a schedule of Keras."""
        learning_rate = self._scaled_learning_rate()
        if total_steps == -1 and (self.milestones or self.lr_schedule == "cosine"):
            raise MisconfigurationError(
                "max_epochs=-1 trains without end, and the learning rate falls at "
                "shares of the whole training: say Trainer(max_steps=...), or make an "
                "ImageClassifier with milestones=() and without lr_schedule='cosine'."
            )
        if self.lr_schedule == "cosine":
            return cosine_schedule(learning_rate, total_steps)
        return step_schedule(learning_rate, total_steps, self.milestones)

    def configure_loss(self) -> keras.losses.Loss:
        """Make the loss: cross-entropy of labels and probabilities, or logits.

        Where the data say that pictures have several labels, it is binary, over those
        that are known; where they have masks it is the mean over the pixels that are
        not void. For one unit with a sigmoid, override it and return
        `keras.losses.BinaryCrossentropy()`.

        Raises:
            MisconfigurationError: The data have one class, or several labels and a
                network that ends in a softmax.
        """
        if self._has_masks():
            return self._loss_of_pixels()
        if self._has_several_labels():
            self._refuse_softmax(self.output.kind)
            return MaskedBinaryCrossentropy(
                self._gives_logits(), self._positive_weight(), self.label_smoothing
            )
        self.refuse_one_class()
        self._refuse_positive_weight()
        from_logits = self.output.kind == "logits"
        if self._has_soft_labels():
            return keras.losses.CategoricalCrossentropy(
                from_logits=from_logits, label_smoothing=self.label_smoothing
            )
        if self.label_smoothing:
            return SmoothedCrossentropy(from_logits, self.label_smoothing)
        return keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)

    def refuse_one_class(self) -> None:
        """Refuse data of one class, where the loss is cross-entropy of classes.

        Of pictures of several labels there may be one alone, which they have or not.

        Raises:
            MisconfigurationError: There is one class.
        """
        own_loss = type(self).configure_loss is not ImageClassifier.configure_loss
        if self.data is None or own_loss or self._has_several_labels():
            return
        if self.data.num_classes > 1:
            return
        raise MisconfigurationError(
            "Cross-entropy needs two or more classes, and "
            f"{type(self.data).__name__} has {', '.join(self.data.class_names)} "
            "alone: every answer would be right. Add pictures of another class, "
            "such as all that is something else."
        )

    def configure_class_weight(self) -> dict[int, float] | None:
        """Return the weight of each class in the loss, or None for the same."""
        if self.class_weight is not None and self._has_several_labels():
            raise MisconfigurationError(
                "class_weight is for one class a picture, and those of "
                f"{type(self.data).__name__} have several labels: give "
                'positive_weight="balanced", or a number for each label. Received: '
                f"class_weight={self.class_weight!r}"
            )
        if self.class_weight != "balanced":
            self._refuse_other_classes()
            return self.class_weight
        weights = getattr(self.data, "class_weight", None)
        if weights is None:
            raise MisconfigurationError(
                'class_weight="balanced" needs data with a class_weight, such as '
                f"ImageFolder, and {type(self.data).__name__} has none: give a "
                "dictionary of weights."
            )
        return weights

    def configure_metrics(self) -> list[keras.metrics.Metric]:
        """Make the metrics; "accuracy" says which checkpoint is best.

        Where the data say that pictures have several labels these are "auroc", which
        says it then, and "f1", each the mean over labels of what is known. Of masks
        they are "mean_iou", likewise, and "pixel_accuracy", over what is not void.
        With more than 100 classes, as ImageNet has, also "top_5_accuracy". Of a network
        that gives a probability of each class by itself, by sigmoids, it is the share
        of labels that are right at 1/2, if the data have several labels a picture.
        """
        if self._has_several_labels():
            classes = cast(DataModule, self.data).num_classes
            from_logits = self._gives_logits()
            return [MacroAUROC(classes, from_logits), MacroF1(classes, from_logits)]
        if self._has_masks():
            return [mean_iou(cast(DataModule, self.data).num_classes), PixelAccuracy()]
        metrics: list[keras.metrics.Metric] = [self._accuracy()]
        if self._says_yes_or_no():
            return metrics
        if self.data is not None and self.data.num_classes > 100:
            metrics += [
                keras.metrics.MeanMetricWrapper(top_5_accuracy, "top_5_accuracy")
            ]
        return metrics

    def configure_callbacks(self) -> list[keras.callbacks.Callback]:
        """Make callbacks that this training needs, besides the trainer's."""
        return []

    def _gets_weights(self) -> bool:
        """Return whether a checkpoint or a fit before replaces the first weights."""
        return self.from_checkpoint or self.model is not None

    def _refuse_other_classes(self) -> None:
        """Refuse weights that are not one a class: Keras would shift or drop some."""
        if self.class_weight is None or self.data is None:
            return
        classes = list(range(self.data.num_classes))
        if sorted(self.class_weight) != classes:
            raise MisconfigurationError(
                f"class_weight needs one weight a class, by its number in 0..."
                f"{classes[-1]}. Received: class_weight={self.class_weight}"
            )

    def _accuracy(self) -> keras.metrics.Metric:
        if self._says_yes_or_no():
            threshold = 0.0 if self.output.kind == "sigmoid_logits" else 0.5
            return keras.metrics.BinaryAccuracy("accuracy", threshold=threshold)
        if self._has_soft_labels():
            return keras.metrics.CategoricalAccuracy(name="accuracy")
        return keras.metrics.SparseCategoricalAccuracy(name="accuracy")

    def _has_soft_labels(self) -> bool:
        return self.data is not None and self.data.soft_labels

    def _has_several_labels(self) -> bool:
        return self.data is not None and self.data.labels == "several"

    def _has_masks(self) -> bool:
        return self.data is not None and self.data.labels == "pixels"

    def _loss_of_pixels(self) -> keras.losses.Loss:
        """Return cross-entropy over the pixels whose class is known."""
        self.refuse_one_class()
        self._refuse_positive_weight()
        if self.class_weight is not None or self.label_smoothing:
            raise MisconfigurationError(
                "class_weight and label_smoothing are for pictures of one class each: "
                "with masks leave them out, or override configure_loss. Received: "
                f"class_weight={self.class_weight!r}, "
                f"label_smoothing={self.label_smoothing!r}"
            )
        if self.output.is_of_each_class:
            raise MisconfigurationError(
                f"Pixels of {type(self.data).__name__} have one class each, and the "
                "network gives each class its own probability: end it in a softmax."
            )
        return PixelCrossentropy(from_logits=self.output.kind == "logits")

    def _gives_logits(self) -> bool:
        return self.output.kind in ("logits", "sigmoid_logits")

    def _positive_weight(self) -> float | list[float]:
        """Return how much pictures count that have a label."""
        data, weight = cast(DataModule, self.data), self.positive_weight
        if isinstance(weight, str):
            known = getattr(data, "positive_weight", None)
            if weight != "balanced" or known is None:
                raise MisconfigurationError(
                    "positive_weight is a number, one for each label, or "
                    '"balanced" for data with a positive_weight, such as ImageTable. '
                    f"Received: positive_weight={weight!r} and {type(data).__name__}"
                )
            weight = known
        numbers = np.atleast_1d(np.asarray(weight, float))
        fits = numbers.shape in ((1,), (data.num_classes,))
        if not (fits and (numbers > 0).all() and np.isfinite(numbers).all()):
            raise MisconfigurationError(
                f"positive_weight is one number above 0, or one for each of "
                f"{data.num_classes} labels. Received: positive_weight={weight!r}"
            )
        return numbers.tolist()

    def _refuse_positive_weight(self) -> None:
        """Refuse what would do nothing for one class a picture."""
        weight = self.positive_weight
        if isinstance(weight, str) or not np.all(np.asarray(weight, float) == 1):
            raise MisconfigurationError(
                "positive_weight is for pictures of several labels, and those of "
                f"{type(self.data).__name__} have one class each: give class_weight="
                f'"balanced", or a dictionary. Received: positive_weight={weight!r}'
            )

    def _refuse_softmax(self, activation: Any) -> None:
        """Refuse probabilities of one class for pictures of several labels."""
        name = getattr(activation, "__name__", activation)
        if name == "softmax":
            raise MisconfigurationError(
                f"The pictures of {type(self.data).__name__} have several labels, and "
                "a softmax gives one class a picture. End the network in sigmoids, "
                f'such as with {_ACTIVATION}="sigmoid", or in logits.'
            )

    def _says_yes_or_no(self) -> bool:
        """Return whether each unit is right or wrong by itself."""
        is_one_unit = self.output.is_of_each_class and self.output.units == 1
        return is_one_unit or self.gives_several_labels

    def _scaled_learning_rate(self) -> float:
        """Scale the learning rate with the global batch, if asked to."""
        if self.scale_lr_from is None:
            return self.learning_rate
        batch_size = getattr(self.data, "batch_size", None)
        if batch_size is None:
            raise MisconfigurationError(
                f"scale_lr_from={self.scale_lr_from} needs data with a batch_size, and "
                f"{type(self.data).__name__} has none."
            )
        return self.learning_rate * batch_size / self.scale_lr_from

    def _parameters(self) -> list[str]:
        return list(inspect.signature(self.network).parameters)


# What a trainer trains: one of ours, or a model that its user made and compiled.
Module: TypeAlias = ImageClassifier | keras.Model


def class_weight_of(module: Module) -> dict[int, float] | None:
    """Return the weight of each class in a module's loss, or None for the same."""
    is_ours = isinstance(module, ImageClassifier)
    return module.configure_class_weight() if is_ours else None


@keras.saving.register_keras_serializable(package="keras_densenet")
def top_5_accuracy(labels: Any, probabilities: Any) -> Any:
    """Return for each picture whether its class is among the five most probable.

    Args:
        labels: Class numbers `(N,)`, or probabilities `(N, classes)`: the largest one.
        probabilities: `(N, classes)` of any precision; TensorFlow takes float32 alone.
    """
    if len(labels.shape) == 2 and labels.shape[-1] == probabilities.shape[-1]:
        labels = keras.ops.argmax(labels, axis=-1)
    return keras.metrics.sparse_top_k_categorical_accuracy(
        labels, keras.ops.cast(probabilities, "float32"), k=5
    )


def _refuse_no_network(network: Any) -> None:
    """Refuse a network that is made already, or named by a text."""
    if callable(network) and not isinstance(network, keras.Model):
        return
    given = f"the model {network.name}" if callable(network) else repr(network)
    raise MisconfigurationError(
        "ImageClassifier takes the function that makes a network, and its options: "
        "kd.ImageClassifier(kd.DenseNetBC, depth=40, growth_rate=12). Received: "
        f"{given}. A model of your own is compiled `with trainer.scope():` and passed "
        "to fit itself."
    )


def _refuse_rates(learning_rate: Any, momentum: Any, weight_decay: Any) -> None:
    if not (isinstance(learning_rate, Real) and float(learning_rate) >= 0):
        raise MisconfigurationError(
            "learning_rate is a number of 0 or more, 0.1 in the paper; for a schedule "
            "override configure_optimizer. Received: "
            f"learning_rate={learning_rate!r}"
        )
    if not (isinstance(momentum, Real) and 0 <= float(momentum) < 1):
        raise MisconfigurationError(
            "momentum is a number in [0, 1), 0.9 in the paper. Received: "
            f"momentum={momentum!r}"
        )
    if not (isinstance(weight_decay, Real) and float(weight_decay) >= 0):
        raise MisconfigurationError(
            "weight_decay is a number of 0 or more, 1e-4 in the paper. Received: "
            f"weight_decay={weight_decay!r}"
        )


def _refuse_smoothing(label_smoothing: Any) -> None:
    if not (isinstance(label_smoothing, Real) and 0 <= float(label_smoothing) < 1):
        raise MisconfigurationError(
            "label_smoothing is a number in [0, 1), such as 0.1. Received: "
            f"label_smoothing={label_smoothing!r}"
        )


def _refuse_milestones(milestones: Any) -> None:
    """Refuse epochs, at which the learning rate would never fall."""
    shares = list(milestones) if isinstance(milestones, Iterable) else [math.nan]
    are_shares = all(isinstance(it, Real) and 0 < float(it) < 1 for it in shares)
    if not are_shares or shares != sorted(shares):
        raise MisconfigurationError(
            "milestones are shares of the training, rising, in (0, 1), such as "
            "(0.5, 0.75) for epochs 150 and 225 of 300. Received: "
            f"milestones={milestones!r}"
        )


def _refuse_schedule(lr_schedule: str, scale_lr_from: int | None) -> None:
    if lr_schedule not in ("step", "cosine"):
        raise MisconfigurationError(
            'lr_schedule is "step", by the milestones, or "cosine"; for another '
            f"override configure_optimizer. Received: {lr_schedule!r}"
        )
    if scale_lr_from is not None and scale_lr_from < 1:
        raise MisconfigurationError(
            "scale_lr_from is the batch size that the learning rate is for, 64 in the "
            f"paper's CIFAR training. Received: {scale_lr_from}"
        )
