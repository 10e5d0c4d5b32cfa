"""Fine-tuning: a network that knows other pictures is trained on yours."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from rich.console import Console

from keras_densenet import weights
from keras_densenet.data import DataModule
from keras_densenet.errors import MisconfigurationError
from keras_densenet.training.image_classifier import ImageClassifier
from keras_densenet.training.optimizer import TorchSGD

BACKBONE = "backbone"  # all layers but the classifier


class FineTuning(ImageClassifier):
    """A network with weights from elsewhere, a new classifier, and gentle training.

    All weights but the classifier's are those of `weights`; the classifier is new, for
    the data's own classes. Layers up to `frozen` stay as they are, and their batch
    norms use the statistics that they have. The others learn the more slowly the
    nearer they are to the pictures (`layer_decay`): early features serve all pictures.

    For two phases, first the classifier alone and then all of it, fit twice: the
    second fit goes on with the weights of the first.

        module = FineTuning(DenseNet121, weights="imagenet", frozen="backbone")
        trainer.fit(module, datamodule=data)
        module.frozen, module.learning_rate = None, 0.001
        trainer.fit(module, datamodule=data)

    Args:
        network: A DenseNet of this package, such as `keras_densenet.DenseNet121`.
        weights: What `keras_densenet.weights.load` takes: "imagenet", a file of this
            package, keras.applications, torchvision or timm, a model. None for random
            weights, to compare with. Where a checkpoint replaces them they are not
            loaded, and their file is not needed.
        inflate: Whether weights of pictures are made those of volumes: see
            `keras_densenet.weights.load`. Volumes have a unit of their own, so that
            they are standardized as the data say, whatever the pictures were.
        frozen: Name of the last layer that stays as it is, such as "dense_block2";
            "backbone" for all but the classifier; None for none.
        layer_decay: The learning rate of a layer divided by that of the layer after it,
            in (0, 1]: the classifier has `learning_rate`, the last batch norm
            `layer_decay` times that, the last block `layer_decay ** 2` times, and so
            on. The layers are those of `model.layers` that have weights.
        learning_rate: Of the classifier, at the start.
        lr_schedule: "cosine" or "step", as in `ImageClassifier`.
        **kwargs: Those of `ImageClassifier`, and the network's options.

    Raises:
        MisconfigurationError: An argument out of its range; also, before the training,
            data that are standardized otherwise than for these weights, or a layer that
            is not there.
        keras_densenet.weights.WeightsError: Weights of another network.
    """

    def __init__(
        self,
        network: Callable[..., keras.Model],
        *,
        weights: Any = "imagenet",
        inflate: bool = False,
        frozen: str | None = None,
        layer_decay: float = 0.8,
        learning_rate: float = 0.01,
        lr_schedule: Literal["step", "cosine"] = "cosine",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            network, learning_rate=learning_rate, lr_schedule=lr_schedule, **kwargs
        )
        _refuse_decay(layer_decay)
        self.weights = weights
        self.inflate = inflate
        self.frozen = frozen
        self.layer_decay = layer_decay
        self._layer_rates: dict[str, float] = {}

    def configure_model(self, data: DataModule, **flags: Any) -> keras.Model:
        """Make the network, put the weights in, and freeze its first layers."""
        _refuse_decay(self.layer_decay)
        is_first_fit = self.model is None  # the second goes on with its weights
        model = super().configure_model(data, **flags)
        if self.weights is not None and is_first_fit:
            is_known = not self.from_checkpoint or _is_there(self.weights)
            if is_known and not self.inflate:
                refuse_other_preprocessing(self.weights, data)
            if not self.from_checkpoint:
                weights.load(
                    model, self.weights, include_top=False, inflate=self.inflate
                )
        freeze(model, self.frozen)
        self._layer_rates = layer_rates(model, self.layer_decay)
        return model

    def configure_optimizer(self, total_steps: int) -> keras.optimizers.Optimizer:
        """Make the paper's optimizer, with a learning rate for each layer."""
        return TorchSGD(
            self.schedule(total_steps),
            self.momentum,
            weight_decay=self.weight_decay,
            layer_rates=self._layer_rates,
        )


def freeze(model: keras.Model, last: str | None) -> None:
    """Let layers stay as they are, from the first one up to `last`; train the others.

    Keras trains none of their weights, and their batch norms are those of inference:
    they neither use nor change with the statistics of your pictures. Compile the model
    after it.

    Args:
        model: Functional or sequential.
        last: Name of a layer in `model.layers`; "backbone" for all but the last one
            that has weights; None for none, which takes it back.

    Raises:
        MisconfigurationError: There is no such layer, or nothing would be left.
    """
    every = [layer.name for layer in model.layers]
    *before, classifier = [layer.name for layer in _with_weights(model)] or [""]
    stay = every[: every.index(classifier)] if classifier else []  # what may
    if last is None:
        stay = []
    elif last in stay:
        stay = stay[: stay.index(last) + 1]
    elif last != BACKBONE or not stay:
        raise MisconfigurationError(
            f'frozen is "{BACKBONE}" or the name of a layer before the last one with '
            f"weights: {', '.join(before)}. Received: frozen={last!r}"
        )
    for layer in model.layers:
        layer.trainable = layer.name not in stay


def layer_rates(model: keras.Model, decay: float) -> dict[str, float]:
    """Return a factor of the learning rate a layer: from the end 1, decay, decay^2...

    Args:
        model: Functional or sequential.
        decay: Of one layer to the one before it, in (0, 1].
    """
    layers = _with_weights(model)
    return {layer.name: decay**number for number, layer in enumerate(reversed(layers))}


def refuse_other_preprocessing(source: Any, data: DataModule) -> None:
    """Refuse data that are standardized otherwise than the weights are used to.

    Where that is a guess or not known, the data's own numbers hold, and a line says so.
    """
    known = weights.preprocessing(source, channels=data.input_shape[-1])
    if known is None:
        _say(f"are not known: those of {type(data).__name__} are used.")
        return
    ours = [tuple(map(float, values)) for values in known]
    theirs = [tuple(np.ravel(getattr(data, name, ()))) for name in ("mean", "std")]
    same = np.shape(theirs) == np.shape(ours) and np.allclose(theirs, ours, 1e-4)
    if isinstance(known, weights.GuessedPreprocessing):
        _say(_guess(ours, data, same))
    elif not (hasattr(data, "mean") and hasattr(data, "std")):
        raise MisconfigurationError(
            f"The weights are of pictures standardized with mean={ours[0]} and std="
            f"{ours[1]}, and {type(data).__name__} does not say what its pictures were "
            f"standardized with: {type(data).__name__}(..., mean=..., std=...)."
        )
    elif not same:
        raise MisconfigurationError(
            f"The weights are of pictures standardized with mean={ours[0]} and std="
            f"{ours[1]}, and {type(data).__name__} has mean={_numbers(data.mean)} and "
            f"std={_numbers(data.std)}: give it theirs, as in "
            f"{type(data).__name__}(..., "
            "**keras_densenet.weights.preprocessing(source)._asdict())."
        )


def _guess(guess: Sequence[tuple], data: DataModule, same: bool) -> str:
    numbers = f"are not known for certain: mean={guess[0]} and std={guess[1]}"
    if same:
        return f"{numbers} are a guess."
    return f"{numbers} would be a guess, and those of {type(data).__name__} are used."


def _say(what: str) -> None:
    Console(stderr=True, soft_wrap=True).print(
        f"Mean and std of the pictures that the weights were trained with {what}",
        highlight=False,
        markup=False,
    )


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(map(float, values))


def _is_there(source: Any) -> bool:
    """Return whether weights are no file, or one that has not gone since."""
    is_path = isinstance(source, str | os.PathLike) and source != "imagenet"
    return not is_path or Path(source).exists()


def _refuse_decay(decay: float) -> None:
    if not isinstance(decay, int | float) or not 0 < decay <= 1:
        raise MisconfigurationError(
            "layer_decay is in (0, 1]; 1 trains all layers alike. Received: "
            f"layer_decay={decay!r}"
        )


def _with_weights(model: keras.Model) -> list[keras.layers.Layer]:
    return [layer for layer in model.layers if layer.weights]
