import keras
import pytest

import keras_densenet as kd
from keras_densenet.training import MisconfigurationError
from keras_densenet.training.lightning_names import (
    HOOKS,
    OF_A_CALLBACK,
    OF_THE_TRAINER,
    refuse_names_of_a_callback,
    refuse_names_of_a_model,
)


def method(self, *args, **kwargs): ...


@pytest.mark.parametrize(
    ("name", "mean"),
    [
        ("configure_optimizers", r"configure_optimizer\(total_steps\)"),
        ("configure_metric", "configure_metrics"),
        ("configure_callback", "configure_callbacks"),
        ("training_step", "train_step or test_step of the keras.Model"),
        ("validation_step", "test_step of the keras.Model"),
        ("train_step", "of the keras.Model"),
        ("forward", "call of the keras.Model"),
        ("train_dataloader", "train_dataset of a data module"),
        ("on_train_epoch_end", "on_epoch_end.* which configure_callbacks returns"),
        ("on_epoch_end", "on_epoch_end of a keras.callbacks.Callback"),
        ("on_before_optimizer_step", r"train_step of a keras.Model\?$"),
        ("prepare_data", "prepare_data of a data module"),
        ("transfer_batch_to_device", "train_dataset of a data module"),
    ],
)
def test_a_classifier_has_no_method_that_is_never_called(name, mean):
    with pytest.raises(TypeError, match=f"Mine.{name} would never .* mean .*{mean}"):
        type("Mine", (kd.ImageClassifier,), {name: method})


def test_a_classifiers_own_methods_are_its_own():
    names = ("configure_optimizer", "schedule", "configure_augmentation", "draw")
    parts = dict.fromkeys(names, method)
    assert issubclass(type("Mine", (kd.FineTuning,), parts), kd.ImageClassifier)


def callback(**methods):
    return type("Mine", (keras.callbacks.Callback,), methods)()


@pytest.mark.parametrize(
    ("name", "mean"),
    [
        ("on_train_epoch_end", r"on_epoch_end\(epoch, logs\)"),
        ("on_train_start", r"on_train_begin\(logs\)"),
        ("on_validation_epoch_end", "whose logs have val_loss"),
        ("on_validation_batch_start", r"on_test_batch_begin\(batch, logs\)"),
        ("on_test_start", r"on_test_begin\(logs\)"),
        ("on_save_checkpoint", r"state_dict\(\)"),
        ("on_epoch_ends", "on_epoch_end"),
        ("on_epochs_end", "on_epoch_end"),
        ("on_train_batches_end", "on_train_batch_end"),
    ],
)
def test_a_callback_has_no_method_that_is_never_called(name, mean):
    with pytest.raises(MisconfigurationError, match=f"Mine.{name} would.*{mean}"):
        refuse_names_of_a_callback(callback(**{name: method}))
    if name == "on_epoch_ends":  # Keras's takes any name
        with pytest.raises(MisconfigurationError, match=r"Callback\.on_epoch_ends"):
            refuse_names_of_a_callback(keras.callbacks.LambdaCallback(**{name: method}))


@pytest.mark.parametrize(
    ("name", "function", "called"),
    [
        ("on_epoch_end", lambda self, trainer, module, epoch: 0, "epoch, logs"),
        ("on_epoch_end", lambda self, epoch: 0, "epoch, logs"),
        ("on_train_end", lambda self, trainer, module: 0, "logs"),
        ("on_train_batch_end", lambda self, batch, metrics: 0, "batch, logs=logs"),
        ("on_exception", lambda self, trainer, module, error: 0, "exception"),
    ],
)
def test_a_hook_with_other_arguments_is_refused(name, function, called):
    with pytest.raises(MisconfigurationError, match=rf"is called as {name}\({called}"):
        refuse_names_of_a_callback(callback(**{name: function}))


def test_hooks_of_all_kinds_are_allowed():
    refuse_names_of_a_callback(callback(**dict.fromkeys(HOOKS, method)))
    helpers = {"on_my_way": method, "_on_epoch_end": method, "train": method}
    refuse_names_of_a_callback(callback(**helpers))
    refuse_names_of_a_callback(keras.callbacks.LambdaCallback(on_epoch_end=method))
    for theirs in (keras.callbacks.EarlyStopping(), kd.callbacks.ModelCheckpoint()):
        refuse_names_of_a_callback(theirs)


def test_no_name_stands_for_itself():
    assert not OF_A_CALLBACK.keys() & set(HOOKS)
    flags = vars(kd.training.Flags())
    assert not OF_THE_TRAINER.keys() & flags.keys()


def test_the_trainer_refuses_such_callbacks_and_models(tmp_path):
    trainer = kd.Trainer(
        1, default_root_dir=tmp_path, callbacks=[callback(on_train_epoch_end=method)]
    )
    data = kd.data.Digits(batch_size=64)
    layers = [keras.Input((32, 32, 3)), keras.layers.GlobalAveragePooling2D()]
    module = kd.ImageClassifier(
        lambda: keras.Sequential([*layers, keras.layers.Dense(10, "softmax")])
    )
    with pytest.raises(MisconfigurationError, match="on_epoch_end"):
        trainer.fit(module, data)
    model = type("Mine", (keras.Model,), {"training_step": method})()
    with pytest.raises(MisconfigurationError, match=r"train_step\(data\)"):
        refuse_names_of_a_model(model)


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("max_epoch", r"Trainer has no flag max_epoch\. Did you mean max_epochs"),
        ("check_val_every_n_epochs", "Did you mean check_val_every_n_epoch="),
        ("gradient_clip", "gradient_clip_val"),
        ("gpus", r"devices=\.\.\."),
        ("weights_summary", "enable_model_summary"),
        ("enable_autolog_hparams", "config.yaml"),
        ("epochs", "Did you mean max_epochs"),
        ("inference_mode", "Leave it out"),
        ("colour", "There are max_epochs, "),
    ],
)
def test_an_unknown_flag_is_named_with_the_one_that_is_meant(flag, said):
    with pytest.raises(MisconfigurationError, match=said):
        kd.Trainer(**{flag: 1})
