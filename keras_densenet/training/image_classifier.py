"""What is trained: a network, its optimizer, its loss and its metrics."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_densenet.data import DataModule
from keras_densenet.training.errors import MisconfigurationError
from keras_densenet.training.optimizer import TorchSGD, step_schedule


class ImageClassifier:
    """A network with the paper's training (section 4.2), built by the trainer.

    The trainer calls, inside its strategy and its precision:

        configure_model(data) -> configure_optimizer(total_steps), configure_loss(),
        configure_metrics() -> model.compile(...), configure_callbacks()

    Override a `configure_` method to change that part.

    Args:
        network: A function that makes a `keras.Model` giving class probabilities, such
            as `keras_densenet.DenseNetBC`. Its `classes` and `input_shape`, if it has
            them and they are not given, come from the data.
        learning_rate: At the start.
        momentum: Nesterov's.
        weight_decay: Coupled, on all trainable weights.
        milestones: Shares of the training after which the learning rate is divided by
            10.
        **options: The network's arguments.

    Attributes:
        model: The `keras.Model`, or None before the trainer has built it.

    Raises:
        MisconfigurationError: An option that the network does not have.

    Example:
        >>> def linear(classes, input_shape):
        ...     return keras.Sequential([keras.Input(input_shape)])
        >>> ImageClassifier(linear, depth=100)
        Traceback (most recent call last):
        ...
        keras_densenet.training.errors.MisconfigurationError: linear has no option \
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
        **options: Any,
    ) -> None:
        self.network = network
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.milestones = milestones
        self.options = options
        self.model: keras.Model | None = None
        unknown = options.keys() - self._parameters()
        if unknown:
            raise MisconfigurationError(
                f"{network.__name__} has no option {', '.join(sorted(unknown))}: it "
                f"has {', '.join(self._parameters())}."
            )

    def configure_model(self, data: DataModule, **flags: Any) -> keras.Model:
        """Make the network, with as many classes and pixels as the data have.

        Args:
            data: What it is trained on.
            **flags: Options that the trainer asks for, such as `sync_batchnorm=True`.
        """
        options = self.options | flags
        for name in flags.keys() - self._parameters():
            raise MisconfigurationError(
                f"Trainer({name}=...) needs a network that has that option, and "
                f"{self.network.__name__} has {', '.join(self._parameters())}."
            )
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
        """Make the paper's optimizer for a training of `total_steps` steps."""
        schedule = step_schedule(self.learning_rate, total_steps, self.milestones)
        return TorchSGD(schedule, self.momentum, weight_decay=self.weight_decay)

    def configure_loss(self) -> keras.losses.Loss:
        """Make the loss: cross-entropy of class numbers and probabilities."""
        return keras.losses.SparseCategoricalCrossentropy()

    def configure_metrics(self) -> list[keras.metrics.Metric]:
        """Make the metrics; "accuracy" says which checkpoint is best."""
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    def configure_callbacks(self) -> list[keras.callbacks.Callback]:
        """Make callbacks that this training needs, besides the trainer's."""
        return []

    def _parameters(self) -> list[str]:
        return list(inspect.signature(self.network).parameters)
