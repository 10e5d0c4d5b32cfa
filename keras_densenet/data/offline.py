"""The digits, to train on where a data set cannot be had."""

from rich.console import Console
from rich.panel import Panel

from keras_densenet.data.arrays import ArrayDataModule
from keras_densenet.data.digits import Digits
from keras_densenet.data.preparation import DataUnavailableError


def prepared_or_digits(data: ArrayDataModule) -> ArrayDataModule:
    """Prepare a data set; if it cannot be had, say so loudly and return the digits.

    Args:
        data: The data set that should be trained on.

    Returns:
        `data`, prepared; or `Digits` with its batch size, augmentation and seed.
    """
    try:
        data.prepare_data()
    except DataUnavailableError as error:
        name = type(data).__name__
        Console(stderr=True).print(
            Panel(
                f"{error}\n\nTraining on the built-in hand-written digits instead: "
                f"what follows says nothing about {name}.",
                title=f"This is NOT {name}",
                style="bold yellow",
            )
        )
        return Digits(
            data.batch_size, augment=data.augment, seed=data.seed, strong=data.strong
        )
    return data
