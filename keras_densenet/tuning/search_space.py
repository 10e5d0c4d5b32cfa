"""What is searched: DenseNets for small pictures, and how they are trained."""

import functools
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import keras
import keras_tuner

from keras_densenet.analysis.profile import Profile, profile
from keras_densenet.data import DataModule
from keras_densenet.devices.precision import dtype_policy
from keras_densenet.layers.recomputation import checked_mode
from keras_densenet.models import DenseNet
from keras_densenet.training import ImageClassifier, Trainer
from keras_densenet.training.compilation import compiled

Range = bool | float | list | tuple  # see DenseNetHyperModel
OF_THE_NETWORK = ("depth", "growth_rate", "bottleneck", "compression", "dropout_rate")
STEPS = {  # distances between the values of a range; other ranges are continuous
    "growth_rate": 4,
    "compression": 0.1,
    "dropout_rate": 0.05,
    "augmentation": 0.1,
}
LOGARITHMIC = ("learning_rate", "weight_decay")
WHOLE = ("depth", "growth_rate", "batch_size")
# For each name the values that are allowed: in words, and as a function that checks.
LIMITS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "depth": ("3 n + 4, or 6 n + 4 with bottlenecks", lambda depth: depth > 4),
    "growth_rate": ("1 or more", lambda k: k >= 1),
    "bottleneck": ("True or False", lambda value: isinstance(value, bool)),
    "compression": ("above 0 and at most 1", lambda theta: 0 < theta <= 1),
    "dropout_rate": ("0 or more and below 1", lambda rate: 0 <= rate < 1),
    "learning_rate": ("above 0", lambda rate: rate > 0),
    "weight_decay": ("0 or more, and a range above 0", lambda decay: decay >= 0),
    "batch_size": ("1 or more", lambda size: size >= 1),
    "augmentation": ("0 to 1", lambda strength: 0 <= strength <= 1),
}
BUDGETS = ("max_parameters", "max_multiply_adds", "max_memory")


class DenseNetHyperModel(keras_tuner.HyperModel):
    """DenseNets for small pictures with their training, within a budget.

    Each searched value is given as a number, which fixes it; as a list to choose from;
    or as a tuple (lowest, highest).

    Args:
        data: What makes the data module. It takes `batch_size` and, where
            `augmentation` is not 0, `strong`, as `keras_densenet.data.Digits` does.
        depth: L, 6 n + 4; a range stands for all such depths in it.
        growth_rate: k; a range stands for every fourth number from the lowest on.
        bottleneck: Whether a 1x1 convolution begins each dense layer.
        compression: theta in (0, 1].
        dropout_rate: Share of values dropped, in [0, 1).
        learning_rate: Learning rate at the start; a range is logarithmic.
        weight_decay: Weight decay; a range is logarithmic.
        batch_size: Batch size; a range stands for all powers of 2 in it.
        augmentation: Strength of RandAugment, in [0, 1]; 0 is without.
        max_parameters: Largest number of parameters that a network may have.
        max_multiply_adds: Largest number of multiply-adds for one picture.
        max_memory: Largest number of bytes that training takes with a batch in float32,
            weights and momentum included, as `keras_densenet.analysis.profile` counts.
        memory_efficient: Mode of all networks; see `keras_densenet.DenseNet`.
        lr_schedule: Schedule of all trainings; see `keras_densenet.ImageClassifier`.
        max_epochs: Number of epochs of a whole training, which the schedule is for.

    Raises:
        ValueError: A value or a range is not valid, or even the smallest network is
            over the budget.
    """

    def __init__(
        self,
        data: Callable[..., DataModule],
        *,
        depth: Range = (16, 100),
        growth_rate: Range = (8, 40),
        bottleneck: Range = [True, False],  # noqa: B006, it is only read
        compression: Range = (0.4, 1.0),
        dropout_rate: Range = (0.0, 0.3),
        learning_rate: Range = (0.01, 0.5),
        weight_decay: Range = (1e-5, 1e-3),
        batch_size: Range = (32, 128),
        augmentation: Range = (0.0, 0.5),
        max_parameters: float | None = None,
        max_multiply_adds: float | None = None,
        max_memory: float | None = None,
        memory_efficient: bool | str = False,
        lr_schedule: str = "cosine",
        max_epochs: int = 10,
    ) -> None:
        super().__init__()
        if not callable(data):
            raise ValueError(
                "data must make a data module, as the class keras_densenet.data.Digits "
                "does. Give a class, or a functools.partial of it. Received: "
                f"data={data!r}."
            )
        self.make_data = data
        self.max_epochs = max_epochs
        self.max_parameters = max_parameters
        self.max_multiply_adds = max_multiply_adds
        self.max_memory = max_memory
        given = {
            "depth": depth,
            "growth_rate": growth_rate,
            "bottleneck": bottleneck,
            "compression": compression,
            "dropout_rate": dropout_rate,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "batch_size": batch_size,
            "augmentation": augmentation,
        }
        ranges = {name: _checked(name, value) for name, value in given.items()}
        ranges["depth"] = _choices("depth", ranges["depth"], _depths)
        ranges["batch_size"] = _choices(
            "batch_size", ranges["batch_size"], _powers_of_2
        )
        _refuse_depths(ranges["depth"], ranges["bottleneck"])
        self.ranges: dict[str, Range] = ranges
        self.memory_efficient = checked_mode(memory_efficient)
        self.lr_schedule = lr_schedule
        self._refuse_limits()
        self._facts = data(batch_size=1)  # classes and sizes: nothing is read
        self._refuse_if_all_are_over()

    def _refuse_limits(self) -> None:
        """Raise a `ValueError` for a number of epochs or a budget that is not valid."""
        if self.max_epochs < 1:
            raise ValueError(
                f"max_epochs must be 1 or more. Received: max_epochs={self.max_epochs}."
            )
        for name in BUDGETS:
            limit = getattr(self, name)
            if limit is not None and not (_is_number(limit) and limit > 0):
                raise ValueError(
                    f"{name} must be above 0, or None for no limit. Received: "
                    f"{name}={limit!r}."
                )

    def _refuse_if_all_are_over(self) -> None:
        """Raise a `ValueError` if even the smallest network is over the budget."""
        least = {name: _least(values) for name, values in self.ranges.items()}
        self.module(least)  # which refuses an unknown schedule
        kinds = self.ranges["bottleneck"]
        over = [
            self.over_budget(least | {"bottleneck": kind})
            for kind in (sorted(kinds)[::-1] if isinstance(kinds, list) else [kinds])
        ]
        if all(over):
            # The last kind is the one without bottlenecks, which is smaller.
            raise ValueError(
                f"Even the smallest network is over the budget: it has {over[-1]}. "
                "Raise the budget, or allow smaller networks."
            )

    def declare_hyperparameters(self, hp: keras_tuner.HyperParameters) -> None:
        """Tell keras-tuner which values there are to choose from."""
        for name, values in self.ranges.items():
            _declare(hp, name, values)

    # --- one candidate -------------------------------------------------------------

    def data(self, values: Mapping[str, Any]) -> DataModule:
        """Make a candidate's data module."""
        options: dict[str, Any] = {"batch_size": values["batch_size"]}
        if values["augmentation"]:
            options["strong"] = {"rand_augment": values["augmentation"]}
        return self.make_data(**options)

    def module(self, values: Mapping[str, Any]) -> ImageClassifier:
        """Make a candidate's network with its training."""
        return ImageClassifier(
            DenseNet,
            learning_rate=values["learning_rate"],
            weight_decay=values["weight_decay"],
            lr_schedule=self.lr_schedule,  # type: ignore[arg-type]
            memory_efficient=self.memory_efficient,
            **{name: values[name] for name in OF_THE_NETWORK},
        )

    def costs(self, values: Mapping[str, Any]) -> Profile:
        """Count what a candidate costs, without building it."""
        network = tuple(values[name] for name in OF_THE_NETWORK)
        shape = tuple(self._facts.input_shape)
        return _costs(network, self._facts.num_classes, shape, values["batch_size"])

    def over_budget(self, values: Mapping[str, Any]) -> str:
        """Return in what a candidate is over the budget; "" if it is within."""
        if all(getattr(self, name) is None for name in BUDGETS):
            return ""
        costs = self.costs(values)
        peak = costs.training_peak(self.memory_efficient)
        found = {
            "parameters": (costs.parameters, self.max_parameters),
            "multiply-adds": (costs.multiply_adds, self.max_multiply_adds),
            "bytes in training": (peak, self.max_memory),
        }
        return ", ".join(
            f"{cost:,} {what} of {limit:,.0f}"
            for what, (cost, limit) in found.items()
            if limit is not None and cost is not None and cost > limit
        )

    # --- what keras-tuner's own tuners call ----------------------------------------

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Build and compile a candidate.

        Raises:
            keras_tuner.errors.FailedTrialError: It is over the budget, and not built.
        """
        self.declare_hyperparameters(hp)
        why = self.over_budget(hp.values)
        if why:
            raise keras_tuner.errors.FailedTrialError(
                f"The network is over the budget: it has {why}."
            )
        data, trainer = self.data(hp.values), Trainer(max_epochs=self.max_epochs)
        data.prepare_data()
        data.setup("fit")
        steps = self.max_epochs * int(data.train_dataset().cardinality())
        module = self.module(hp.values)
        return compiled(trainer.flags, trainer.hardware, module, data, steps)

    def fit(
        self, hp: keras_tuner.HyperParameters, model: keras.Model, **kwargs: Any
    ) -> keras.callbacks.History:
        """Train a candidate with `model.fit`, on its own data module's batches."""
        data = self.data(hp.values)
        data.prepare_data()
        data.setup("fit")
        kwargs = {"epochs": self.max_epochs, "shuffle": False} | kwargs
        validation = data.val_dataset()
        return model.fit(data.train_dataset(), validation_data=validation, **kwargs)


@functools.lru_cache(maxsize=10_000)
def _costs(
    network: tuple, classes: int, input_shape: tuple, batch_size: int
) -> Profile:
    options = dict(zip(OF_THE_NETWORK, network, strict=True))
    # In this scope weights have a shape but no memory, and nothing is computed.
    scope = keras.StatelessScope(initialize_variables=False)
    with scope, dtype_policy("float32"):
        model = DenseNet(classes=classes, input_shape=input_shape, **options)
        return profile(model, batch_size)


def _declare(hp: keras_tuner.HyperParameters, name: str, values: Range) -> None:
    if isinstance(values, list):
        if sorted(values) == [False, True] and isinstance(values[0], bool):
            hp.Boolean(name, default=values[0])
        else:
            hp.Choice(name, values, default=values[0])
    elif not isinstance(values, tuple):
        hp.Fixed(name, values)
    elif name in LOGARITHMIC:
        hp.Float(name, *values, sampling="log")
    elif name in WHOLE:
        hp.Int(name, *values, step=int(STEPS[name]), default=values[0])
    else:
        hp.Float(name, *values, step=STEPS[name], default=values[0])


def _checked(name: str, values: Any) -> Range:
    """Return a value, a list or a range as numbers of the type that its name has.

    Raises:
        ValueError: It is not valid.
    """
    every = list(values) if isinstance(values, list | tuple) else [values]
    words, is_valid = LIMITS[name]
    is_range = isinstance(values, tuple)
    fits = bool(every)
    if is_range:
        fits = len(every) == 2 and name != "bottleneck"
    if name != "bottleneck":
        fits = fits and all(map(_is_number, every))
        if fits and name in WHOLE:
            fits = all(value == int(value) for value in every)
    fits = fits and all(map(is_valid, every))
    if fits and is_range:
        fits = every[0] <= every[1] and (name not in LOGARITHMIC or every[0] > 0)
    if not fits:
        raise ValueError(
            f"{name} must be a number, a list of them, or a tuple (lowest, highest), "
            f"each {words}. Received: {name}={values!r}."
        )
    kind = bool if name == "bottleneck" else int if name in WHOLE else float
    typed = [kind(value) for value in every]
    if is_range:
        return tuple(typed)
    return typed if isinstance(values, list) else typed[0]


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _least(values: Range) -> Any:
    return min(values) if isinstance(values, list | tuple) else values


def _refuse_depths(depth: Any, bottleneck: Range) -> None:
    """Raise a `ValueError` for depths that no network has, before a trial fails."""
    depths = depth if isinstance(depth, list) else [depth]
    step = 6 if bottleneck in (True, [True], [True, False], [False, True]) else 3
    wrong = [value for value in depths if value % step != 4 % step or value < step + 4]
    if wrong:
        raise ValueError(
            f"depth must be {step} n + 4, with n of 1 or more, for bottleneck="
            f"{bottleneck}. Received: {', '.join(map(str, wrong))}."
        )


def _choices(
    name: str, values: Range, of_range: Callable[[int, int], list[int]]
) -> Range:
    """Turn a range into the list of the valid values in it."""
    if not isinstance(values, tuple):
        return values
    found = of_range(*values)
    if not found:
        raise ValueError(
            f"There is no valid {name} in {values}: in a range depths are 6 n + 4 and "
            "batch sizes are powers of 2. Widen the range, or give a list of values."
        )
    return found


def _depths(low: int, high: int) -> list[int]:
    """Return the depths 6 n + 4 in a range, valid with and without bottlenecks.

    >>> _depths(16, 30)
    [16, 22, 28]
    """
    return [depth for depth in range(low, high + 1) if depth > 4 and depth % 6 == 4]


def _powers_of_2(low: int, high: int) -> list[int]:
    """Return the powers of 2 in a range.

    >>> _powers_of_2(20, 128)
    [32, 64, 128]
    """
    return [2**n for n in range(high.bit_length()) if low <= 2**n <= high]
