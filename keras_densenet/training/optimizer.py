"""The paper's optimizer and its schedule (section 4.2)."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_densenet")
class TorchSGD(keras.optimizers.Optimizer):
    """Stochastic gradient descent as in Torch, with the paper's constants.

    For each trainable weight w with gradient g and velocity v:

        g <- g + weight_decay w
        v <- momentum v + g
        w <- w - learning_rate (g + momentum v)      with Nesterov's momentum
        w <- w - learning_rate v                     without

    `keras.optimizers.SGD` differs twice: its weight decay is decoupled, so that at
    momentum 0.9 it is about ten times weaker, and it keeps the learning rate inside the
    velocity, so that a drop of the rate is felt only many steps later.

    Args:
        learning_rate: A number, or a `keras.optimizers.schedules.LearningRateSchedule`.
        momentum: In [0, 1).
        nesterov: Whether momentum is Nesterov's.
        weight_decay: Coupled (L2), on all trainable weights: kernels, the classifier's
            bias, and BN's gamma and beta, as the authors have it.
        layer_rates: Factor of the learning rate for each layer's weights, by the
            layer's name; 1 for those that are not named. See `FineTuning`.
        name: The optimizer's name.
        **kwargs: Those of `keras.optimizers.Optimizer`.
    """

    def __init__(
        self,
        learning_rate: Any = 0.1,
        momentum: float = 0.9,
        nesterov: bool = True,
        weight_decay: float = 1e-4,
        layer_rates: Mapping[str, float] | None = None,
        name: str = "torch_sgd",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, name=name, **kwargs)
        self.momentum = momentum
        self.nesterov = nesterov
        # Not under Keras's name for it, with which Keras would decay a second time.
        self.coupled_weight_decay = weight_decay
        self.layer_rates = dict(layer_rates or {})

    def build(self, variables: list) -> None:
        """Create one velocity a variable."""
        if self.built:
            return
        super().build(variables)
        self._factors = [self._factor(variable.path) for variable in variables]
        self.velocities = self.add_optimizer_variables(variables, "velocity")

    def _factor(self, path: str) -> float:
        """Return the factor of a weight, by the names of layers in its path."""
        layers = path.split("/")[:-1]
        return next((r for n, r in self.layer_rates.items() if n in layers), 1.0)

    def _backend_update_step(
        self, grads: list, trainable_variables: list, learning_rate: Any
    ) -> None:
        # One read of the rate for all weights: Keras passes its variable on.
        learning_rate = ops.copy(learning_rate)
        super()._backend_update_step(grads, trainable_variables, learning_rate)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Move one variable by one step."""
        index = self._get_variable_index(variable)
        learning_rate = ops.cast(learning_rate, variable.dtype)
        if self._factors[index] != 1:
            learning_rate = learning_rate * self._factors[index]
        velocity = self.velocities[index]
        gradient = ops.cast(gradient, variable.dtype)
        gradient = gradient + self.coupled_weight_decay * variable
        if keras.backend.backend() == "tensorflow":
            self._apply_momentum(gradient, variable, velocity, learning_rate)
            return
        self.assign(velocity, self.momentum * velocity + gradient)
        step = gradient + self.momentum * velocity if self.nesterov else velocity
        self.assign_sub(variable, learning_rate * step)

    def _apply_momentum(
        self, gradient: Any, variable: Any, velocity: Any, learning_rate: Any
    ) -> None:
        """Do it in one kernel: a network of 100 layers has 300 weights to move."""
        import tensorflow as tf

        tf.raw_ops.ResourceApplyMomentum(
            var=variable.handle,
            accum=velocity.handle,
            lr=learning_rate,
            grad=gradient,
            momentum=tf.constant(self.momentum, gradient.dtype),
            use_nesterov=self.nesterov,
        )

    def get_config(self) -> dict:
        """Return what `from_config` needs."""
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "nesterov": self.nesterov,
            "weight_decay": self.coupled_weight_decay,
            "layer_rates": self.layer_rates,
        }


def step_schedule(
    learning_rate: float,
    total_steps: int,
    milestones: Sequence[float] = (0.5, 0.75),
    factor: float = 0.1,
) -> keras.optimizers.schedules.LearningRateSchedule | float:
    """Multiply the learning rate by `factor` at each milestone.

    Args:
        learning_rate: At the start; the paper's is 0.1.
        total_steps: Optimizer steps in the whole training.
        milestones: Shares of the training, rising, in (0, 1); the paper's are 50 % and
            75 % (30 and 60 of 90 epochs on ImageNet); none for a constant rate.
        factor: The paper's is 0.1.

    Examples:
        >>> schedule = step_schedule(0.1, total_steps=4)
        >>> [round(float(schedule(step)), 4) for step in range(4)]
        [0.1, 0.1, 0.01, 0.001]
    """
    if not milestones:
        return learning_rate
    # Keras keeps a value up to and with its boundary: the drop is one step later.
    boundaries = [round(share * total_steps) - 1 for share in milestones]
    values = [learning_rate * factor**i for i in range(len(milestones) + 1)]
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)


def cosine_schedule(
    learning_rate: float, total_steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Let the learning rate fall to 0 along half a cosine, step by step.

    At step t of T it is `learning_rate / 2 * (1 + cos(pi t / T))`: the authors' code
    has it as `-lrShape cosine`, and so the technical report (1707.06990).

    Args:
        learning_rate: At the start.
        total_steps: Optimizer steps in the whole training.

    Examples:
        >>> schedule = cosine_schedule(0.1, total_steps=4)
        >>> [round(float(schedule(step)), 4) for step in range(5)]
        [0.1, 0.0854, 0.05, 0.0146, 0.0]
    """
    return keras.optimizers.schedules.CosineDecay(learning_rate, total_steps)
