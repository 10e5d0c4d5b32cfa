"""From a module to a model that is built and compiled on a trainer's devices."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import keras

from keras_densenet.data import DataModule, Datasets
from keras_densenet.devices import Devices
from keras_densenet.devices.gradient_reduction import reduce_first
from keras_densenet.devices.multi_worker import mend_keras
from keras_densenet.devices.precision import build_optimizer, compute_loss_in_double
from keras_densenet.errors import MisconfigurationError
from keras_densenet.model_output import loss_reads, output_of
from keras_densenet.training.fitting_loss import (
    refuse_numbers_below_0,
    refuse_other_loss,
)
from keras_densenet.training.flags import Flags
from keras_densenet.training.image_classifier import ImageClassifier, Module
from keras_densenet.training.lightning_names import refuse_names_of_a_model
from keras_densenet.training.misconfiguration import refuse_compiled

Optimizer: TypeAlias = keras.optimizers.Optimizer


def compiled(
    flags: Flags,
    devices: Devices,
    module: Module,
    data: DataModule,
    steps: int,
    adapt: Callable[[Optimizer], Optimizer] = lambda optimizer: optimizer,
    from_checkpoint: bool = False,
) -> keras.Model:
    """Return the model to train, with its optimizer built.

    Args:
        flags: What becomes arguments of the optimizer and of `model.compile`.
        devices: Where the model is to live.
        module: What makes it, or a model that is compiled already.
        data: What it is trained on.
        steps: Steps of the whole training, for the schedule.
        adapt: Changes the module's optimizer, as the range test of learning rates does.
        from_checkpoint: Whether a checkpoint is loaded into it next.

    Raises:
        MisconfigurationError: A model from outside the devices' scope, or not compiled,
            flags that come too late for it, or a loss for other numbers than it gives.
    """
    if isinstance(module, keras.Model):
        refuse_compiled(flags)
        refuse_foreign(devices, module)
        with devices.scope():
            _build(module, data)
            refuse_other_loss(module, getattr(module, "loss", None))
            return _ready_to_train(devices, module, data)
    module.from_checkpoint = from_checkpoint and module.model is None
    with devices.scope():
        model = _configured(flags, module, data)
        loss = _fitting_loss(module, model, data)
        model.compile(
            optimizer=_limited(flags, adapt(module.configure_optimizer(steps))),
            loss=loss,
            metrics=module.configure_metrics(),
            jit_compile=flags.jit_compile,
            steps_per_execution=flags.steps_per_execution,
            run_eagerly=flags.run_eagerly,
        )
        module.model = _ready_to_train(devices, model, data)
    return model


@contextmanager
def unbuilt_if_not_loaded(module: Module) -> Iterator[None]:
    """Take a model back that was made for a checkpoint, if that cannot be loaded.

    It has random weights, which the next fit would go on with.
    """
    made_for_it = isinstance(module, ImageClassifier) and module.from_checkpoint
    try:
        yield
    except BaseException:
        if made_for_it:
            module.model = None
        raise
    finally:
        if made_for_it:
            module.from_checkpoint = False


def _configured(flags: Flags, module: ImageClassifier, data: DataModule) -> keras.Model:
    """Return the module's network, with the weights of a fit before."""
    before, module.data = module.model, data
    options = {"sync_batchnorm": True} if flags.sync_batchnorm else {}
    model = module.configure_model(data, **options)
    if not isinstance(model, keras.Model):
        name = getattr(module.network, "__name__", "configure_model")
        raise MisconfigurationError(
            f"{name} must return a keras.Model, and returns {type(model).__name__}: "
            "does its last line say `return model`?"
        )
    _build(model, data)
    if before is not None:
        _take_weights(model, before)
    return model


def _fitting_loss(module: ImageClassifier, model: keras.Model, data: DataModule) -> Any:
    """Return the module's loss, which fits what its network answers."""
    module.refuse_one_class()
    module.output = output_of(model)  # for the module's own loss,
    loss = module.configure_loss()
    refuse_other_loss(model, loss)
    refuse_numbers_below_0(model, loss, data.input_shape)
    module.output = output_of(model, loss)  # and now for its metrics
    return loss


def _build(model: keras.Model, data: DataModule) -> None:
    """Make the weights of a model that waits for its first pictures to do so."""
    if not model.built:
        model(keras.Input(data.input_shape))  # build() does not look into a subclass


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


def refuse_foreign(devices: Devices, model: keras.Model) -> None:
    """Refuse a model from outside the trainer's strategy."""
    if not devices.hold(model):
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


def _refuse_too_few_classes(model: keras.Model, data: DataModule) -> None:
    """Refuse a model of fewer classes than the data have: labels would be of none."""
    if isinstance(data, Datasets) or not hasattr(model, "output_shape"):
        return  # whose classes would be counted, or whose output is not known
    shape, classes = model.output_shape, data.num_classes
    if not (isinstance(shape, tuple) and shape[-1]):
        return
    reads = loss_reads(getattr(model, "loss", None))
    is_number = shape[-1] == 1 and (reads is None or reads.family == "numbers")
    apart = max(2, shape[-1])  # one unit is yes or no
    if not is_number and apart < classes:
        raise MisconfigurationError(
            f"{model.name} tells {apart} classes apart, and there are {classes} in "
            f"{type(data).__name__}: its last layer needs as many outputs."
        )


def _are_unlike(one: Sequence[int | None], other: Sequence[int | None]) -> bool:
    """Return whether two sizes differ where both are known."""
    pairs = zip(one, other, strict=False)
    return len(one) != len(other) or any(a != b for a, b in pairs if a and b)


def _refuse_other_pictures(model: keras.Model, data: DataModule) -> None:
    """Refuse a model that takes pictures of another size than the data have."""
    takes, has = getattr(model, "input_shape", None), data.input_shape
    if not isinstance(takes, tuple) or None in (takes, has):
        return  # of several inputs, or not known
    if _are_unlike(takes[1:], has):
        raise MisconfigurationError(
            f"{model.name} takes pictures of the shape {takes[1:]}, and those of "
            f"{type(data).__name__} have {tuple(has)}: give the network or the data "
            "the other one's shape."
        )


def _refuse_other_places(model: keras.Model, data: DataModule) -> None:
    """Refuse a model that answers for each pixel where the data have no masks.

    Where they have some, refuse one that does not, or for other pixels.
    """
    shape, has = getattr(model, "output_shape", None), data.input_shape
    if not isinstance(shape, tuple) or has is None:
        return  # not known
    if data.labels != "pixels":
        if len(shape) == len(has) + 1 and len(shape) > 2:
            raise MisconfigurationError(
                f"{model.name} answers for each pixel, {shape}, and the labels of "
                f"{type(data).__name__} are of whole pictures: give it masks, such as "
                "kd.data.MaskFolder, or take another network."
            )
        return
    if _are_unlike(shape[1:-1], has[:-1]):
        raise MisconfigurationError(
            f"{type(data).__name__} has masks of {has[:-1]} pixels, and "
            f"{model.name} answers {shape}: it needs the classes of each pixel, as "
            "kd.FCDenseNet gives them."
        )


def refuse_other_data(model: keras.Model, data: DataModule) -> None:
    """Refuse data whose pictures or classes are not those that a model is made for."""
    _refuse_other_pictures(model, data)
    _refuse_other_places(model, data)
    _refuse_too_few_classes(model, data)


def _ready_to_train(
    devices: Devices, model: keras.Model, data: DataModule
) -> keras.Model:
    """Build the optimizer: for a checkpoint to load, and to trace one step, not two."""
    refuse_uncompiled(model)
    refuse_names_of_a_model(model)
    refuse_other_data(model, data)
    build_optimizer(model)
    if devices.strategy:
        reduce_first(model)
    mend(devices, model)
    return model


def mend(devices: Devices, model: keras.Model) -> None:
    """Let a model be trained and evaluated as its devices and precision ask for."""
    if devices.policy == "float64":
        compute_loss_in_double(model)
    if devices.cluster and devices.replicas > 1:  # one replica is as one machine
        mend_keras(model)


def _limited(flags: Flags, optimizer: Optimizer) -> Optimizer:
    """Let an optimizer clip, and average the gradients of several batches."""
    if flags.gradient_clip_val is not None:
        by_norm = flags.gradient_clip_algorithm == "norm"
        name = "global_clipnorm" if by_norm else "clipvalue"
        setattr(optimizer, name, flags.gradient_clip_val)
    if flags.accumulate_grad_batches > 1:
        optimizer.gradient_accumulation_steps = flags.accumulate_grad_batches
    return optimizer
