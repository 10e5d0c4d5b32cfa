"""Names that PyTorch Lightning calls and nothing here would: "did you mean ...?"."""

import difflib
import inspect
from collections.abc import Iterable, Iterator
from typing import Any

import keras

from keras_densenet.callbacks.state import is_of_keras_or_ours
from keras_densenet.errors import MisconfigurationError

HOOKS = tuple(name for name in dir(keras.callbacks.Callback) if name.startswith("on_"))
ON_EXCEPTION = "on_exception"  # which the trainer calls, as Lightning does
_NEAR = 0.85  # how alike a name is that is taken for a mistyped one
_NEAR_FLAG = 0.7

_STEPS = ("training_step", "validation_step", "test_step", "predict_step")
_KERAS_STEP = "train_step or test_step of the keras.Model that the network makes"
_IN_A_STEP = "train_step of a keras.Model"
_FROM_CALLBACKS = "of a keras.callbacks.Callback, which configure_callbacks returns"


def _of_a_callback() -> dict[str, str]:
    """Return what Keras has for each of Lightning's hooks of callbacks."""
    names = {
        "on_fit_start": "on_train_begin",
        "on_fit_end": "on_train_end",
        "on_save_checkpoint": "state_dict()",
        "on_load_checkpoint": "load_state_dict(state)",
        "on_train_epoch_start": "on_epoch_begin(epoch, logs)",
        "on_train_epoch_end": "on_epoch_end(epoch, logs)",
        "on_validation_epoch_end": "on_epoch_end(epoch, logs), whose logs have "
        "val_loss, or on_test_end(logs)",
    }
    for ours, theirs in (
        ("train", "train"),
        ("test", "test"),
        ("test", "validation"),
        ("predict", "predict"),
    ):
        for begin, start in (("begin", "start"), ("end", "end")):
            for between in ("", "epoch_"):
                name = f"on_{theirs}_{between}{start}"
                names.setdefault(name, f"on_{ours}_{begin}(logs)")
            name = f"on_{theirs}_batch_{start}"
            names[name] = f"on_{ours}_batch_{begin}(batch, logs)"
    steps = ("before_zero_grad", "before_backward", "after_backward")
    for name in (*steps, "before_optimizer_step"):
        names[f"on_{name}"] = _IN_A_STEP
    return {name: mean for name, mean in names.items() if name not in HOOKS}


OF_A_CALLBACK = _of_a_callback()
OF_A_CLASSIFIER = {
    "configure_optimizers": "configure_optimizer(total_steps)",
    "lr_scheduler_step": "schedule(total_steps)",
    "configure_gradient_clipping": "Trainer(gradient_clip_val=...)",
    "configure_sharded_model": "configure_model(data)",
    "forward": "call of the keras.Model that the network makes",
    "setup": "setup(stage) of a data module, or configure_model(data)",
    "teardown": f"on_train_end(logs) {_FROM_CALLBACKS}",
    "prepare_data": "prepare_data of a data module",
    **dict.fromkeys(
        (*_STEPS, "train_step", "backward", "optimizer_step", "optimizer_zero_grad"),
        _KERAS_STEP,
    ),
    **dict.fromkeys(
        (
            *("transfer_batch_to_device", "on_before_batch_transfer"),
            "on_after_batch_transfer",
        ),
        "train_dataset of a data module, whose batches the network is given",
    ),
    **{
        f"{split}_dataloader": f"{split}_dataset of a data module"
        for split in ("train", "val", "test", "predict")
    },
}
OF_A_MODEL = {
    "training_step": "train_step(data)",
    "validation_step": "test_step(data)",
    "configure_optimizers": "model.compile(optimizer=...)",
}


def refuse_names_of_a_classifier(cls: type, known: Iterable[str]) -> None:
    """Refuse methods of an `ImageClassifier` of one's own that nothing would call.

    Args:
        cls: The class.
        known: The methods that the trainer calls.

    Raises:
        TypeError: It has one, by Lightning's name or mistyped.
    """
    known = [name for name in known if name.startswith(("configure_", "schedule"))]
    for name, value in vars(cls).items():
        if not callable(value) or name in known:
            continue
        mean = OF_A_CLASSIFIER.get(name)
        if name in HOOKS or name in OF_A_CALLBACK:
            mean = OF_A_CALLBACK.get(name, name)
            if mean != _IN_A_STEP:
                mean = f"{mean} {_FROM_CALLBACKS}"
        if mean is None:
            mean = next(iter(difflib.get_close_matches(name, known, 1, _NEAR)), None)
        if mean is not None:
            raise TypeError(_never_called(cls, name, mean))


def refuse_names_of_a_model(model: keras.Model) -> None:
    """Refuse Lightning's steps in a `keras.Model` of one's own.

    Raises:
        MisconfigurationError: It has one.
    """
    for name in _own_names(model, keras.Model):
        if name in OF_A_MODEL:
            message = _never_called(type(model), name, OF_A_MODEL[name])
            raise MisconfigurationError(message)


def refuse_names_of_a_callback(callback: keras.callbacks.Callback) -> None:
    """Refuse methods of a callback of one's own that nothing would call as they are.

    Raises:
        MisconfigurationError: It has one, by Lightning's name, mistyped, or with other
            arguments.
    """
    for name in _own_names(callback, keras.callbacks.Callback):
        if not name.startswith("on_"):
            continue
        if name in (*HOOKS, ON_EXCEPTION):
            _refuse_other_arguments(callback, name)
            continue
        near = difflib.get_close_matches(name, HOOKS, 1, _NEAR)
        mean = OF_A_CALLBACK.get(name) or next(iter(near), None)
        if mean is not None:
            message = _never_called(type(callback), name, mean)
            raise MisconfigurationError(message)


def _never_called(cls: type, name: str, mean: str) -> str:
    return f"{cls.__name__}.{name} would never be called. Did you mean {mean}?"


def _own_names(thing: Any, root: type) -> Iterator[str]:
    """Name what a thing and its classes have that are not Keras's or ours."""
    yield from (name for name, value in vars(thing).items() if callable(value))
    for cls in type(thing).__mro__:
        if cls is root:
            return
        if not is_of_keras_or_ours(cls):
            yield from (name for name, value in vars(cls).items() if callable(value))


def _refuse_other_arguments(callback: keras.callbacks.Callback, name: str) -> None:
    """Refuse a hook that cannot be called as Keras calls it."""
    try:
        signature = inspect.signature(getattr(callback, name))
    except (TypeError, ValueError):  # of a callable that is not Python's own
        return
    called, how = _call_of(name)
    try:
        signature.bind(*called[0], **called[1])
    except TypeError as error:
        raise MisconfigurationError(
            f"{type(callback).__name__}.{name}{signature} is called as {name}({how}), "
            "and its arguments are others: callbacks are Keras's here, which know "
            "self.model and self.params."
        ) from error


def _call_of(name: str) -> tuple[tuple[tuple, dict], str]:
    """Return the arguments that a hook is called with, and how they are written."""
    if name == ON_EXCEPTION:
        return ((Exception(),), {}), "exception"
    if "batch" in name:
        return ((0,), {"logs": {}}), "batch, logs=logs"
    if "epoch" in name:
        return ((0, {}), {}), "epoch, logs"
    return (({},), {}), "logs"


# --- flags -----------------------------------------------------------------------

OF_THE_TRAINER = {
    "gpus": "accelerator='gpu', devices=...",
    "num_gpus": "accelerator='gpu', devices=...",
    "auto_select_gpus": "accelerator='gpu', devices=...",
    "tpu_cores": "a tf.distribute.Strategy, strategy=...",
    "num_processes": "devices=...",
    "distributed_backend": "strategy=...",
    "amp_backend": "precision='16-mixed'",
    "amp_level": "precision='16-mixed'",
    "weights_summary": "enable_model_summary=...",
    "progress_bar_refresh_rate": "enable_progress_bar=...",
    "checkpoint_callback": "enable_checkpointing=..., callbacks=[ModelCheckpoint(...)]",
    "early_stop_callback": "callbacks=[keras.callbacks.EarlyStopping(...)]",
    "weights_save_path": "callbacks=[ModelCheckpoint(dirpath=...)]",
    "resume_from_checkpoint": "trainer.fit(..., ckpt_path=...)",
    "auto_lr_find": "kd.Tuner(trainer).lr_find(...)",
    "auto_scale_batch_size": "kd.Tuner(trainer).scale_batch_size(...)",
    "stochastic_weight_avg": "use_ema=True of Keras's optimizers",
    "track_grad_norm": "kd.analysis.gradient_flow(...)",
    "terminate_on_nan": "nothing: a loss that is NaN always ends the training",
    "min_steps": "min_epochs=...",
    "benchmark": "nothing: TensorFlow chooses the kernels itself",
    "inference_mode": "nothing: Keras takes no gradients but in training",
    "use_distributed_sampler": "nothing: a strategy shares out the batches",
    "replace_sampler_ddp": "nothing: a strategy shares out the batches",
    "plugins": "strategy=..., precision=...",
    "barebones": "logger=False, enable_checkpointing=False, enable_progress_bar=False, "
    "enable_model_summary=False",
    "reload_dataloaders_every_n_epochs": "train_batches(step) of a data module",
    "enable_autolog_hparams": "logger=...; config.yaml has the arguments",
    "model_registry": "default_root_dir=...",
    "batch_size": "the data's: kd.data.Digits(batch_size=...)",
    "learning_rate": "the module's: kd.ImageClassifier(..., learning_rate=...)",
    "lr": "the module's: kd.ImageClassifier(..., learning_rate=...)",
    "epochs": "max_epochs=...",
    "seed": "kd.seed_everything(seed)",
    "verbose": "enable_progress_bar=...",
}


def refuse_other_flags(given: Iterable[str], flags: Iterable[str]) -> None:
    """Refuse what is no flag of the `Trainer`.

    Args:
        given: Names that the user gave.
        flags: Names that there are.

    Raises:
        MisconfigurationError: There is another one.
    """
    flags = list(flags)
    for name in given:
        if name in flags:
            continue
        near = difflib.get_close_matches(name, flags, 1, _NEAR_FLAG)
        cure = OF_THE_TRAINER.get(name) or next((f"{flag}=..." for flag in near), None)
        hint = f"Did you mean {cure}?" if cure else f"There are {', '.join(flags)}."
        if cure and cure.startswith("nothing"):
            hint = f"Leave it out: {cure.removeprefix('nothing: ')}."
        raise MisconfigurationError(f"Trainer has no flag {name}. {hint}")
