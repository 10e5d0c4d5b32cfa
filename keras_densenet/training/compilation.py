"""From a module to a model that is built and compiled inside a trainer's strategy."""

from typing import TYPE_CHECKING, TypeAlias

import keras
import tensorflow as tf

from keras_densenet.data import DataModule
from keras_densenet.devices.cluster import is_multi_worker
from keras_densenet.devices.multi_worker import mend_keras
from keras_densenet.errors import MisconfigurationError
from keras_densenet.training.image_classifier import ImageClassifier
from keras_densenet.training.misconfiguration import refuse_compiled

if TYPE_CHECKING:
    from keras_densenet.training.trainer import Trainer

Module: TypeAlias = ImageClassifier | keras.Model


def compiled(
    trainer: "Trainer", module: Module, data: DataModule, steps: int
) -> keras.Model:
    """Give the model to train, with its optimizer built.

    Args:
        trainer: Whose strategy, precision and flags it is for.
        module: What makes it, or a model that is compiled already.
        data: What it is trained on.
        steps: Of the whole training, for the schedule.

    Raises:
        MisconfigurationError: A model from outside the strategy, or not compiled, or
            flags that come too late for it.
    """
    if isinstance(module, keras.Model):
        refuse_compiled(trainer)
        refuse_foreign(trainer, module)
        with trainer.scope():
            return _ready_to_train(trainer, module)
    with trainer.scope():
        before, module.data = module.model, data
        options = {"sync_batchnorm": True} if trainer.sync_batchnorm else {}
        model = module.configure_model(data, **options)
        if before is not None:
            _take_weights(model, before)
        model.compile(
            optimizer=_limited(trainer, module.configure_optimizer(steps)),
            loss=module.configure_loss(),
            metrics=module.configure_metrics(),
            jit_compile=trainer.jit_compile,
            steps_per_execution=trainer.steps_per_execution,
            run_eagerly=trainer.run_eagerly,
        )
        module.model = _ready_to_train(trainer, model)
    return model


def _take_weights(model: keras.Model, before: keras.Model) -> None:
    """Let a module that was fitted before go on with its weights."""
    try:
        model.set_weights(before.get_weights())
    except ValueError as error:
        raise MisconfigurationError(
            "This module was fitted before, with other classes or another network, and "
            "would go on with those weights: make a new one, or set its model to None. "
            f"({error})"
        ) from error


def is_of(trainer: "Trainer", model: keras.Model) -> bool:
    """Say whether a model was made inside the trainer's strategy."""
    strategy = trainer.strategy or tf.distribute.get_strategy()
    return model.distribute_strategy is strategy


def refuse_foreign(trainer: "Trainer", model: keras.Model) -> None:
    """Refuse a model from outside the trainer's strategy."""
    if not is_of(trainer, model):
        raise MisconfigurationError(
            "The model was made outside this trainer's strategy and would train on "
            "one device. Make and compile it inside `with trainer.scope():`."
        )


def refuse_uncompiled(model: keras.Model) -> None:
    """Refuse a model without optimizer and loss."""
    if not model.compiled:
        raise MisconfigurationError(
            "The model has no optimizer and loss: call model.compile(...) inside "
            "`with trainer.scope():`."
        )


def _ready_to_train(trainer: "Trainer", model: keras.Model) -> keras.Model:
    """Build the optimizer: for a checkpoint to load, and to trace one step, not two."""
    refuse_uncompiled(model)
    model.optimizer.build(model.trainable_variables)
    if is_multi_worker(trainer.strategy):
        mend_keras(model)
    return model


def _limited(
    trainer: "Trainer", optimizer: keras.optimizers.Optimizer
) -> keras.optimizers.Optimizer:
    """Let an optimizer clip, and average the gradients of several batches."""
    if trainer.gradient_clip_val is not None:
        by_norm = trainer.gradient_clip_algorithm == "norm"
        name = "global_clipnorm" if by_norm else "clipvalue"
        setattr(optimizer, name, trainer.gradient_clip_val)
    if trainer.accumulate_grad_batches > 1:
        optimizer.gradient_accumulation_steps = trainer.accumulate_grad_batches
    return optimizer
