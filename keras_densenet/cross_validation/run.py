"""The folds of a cross-validation, each a run of the trainer in a folder of its own."""

import copy
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
from rich.console import Console

from keras_densenet.callbacks import ModelCheckpoint
from keras_densenet.cross_validation.held_out import (
    answer_about,
    is_done,
    read_answers,
    read_record,
)
from keras_densenet.cross_validation.results import (
    CrossValidation,
    write_folds,
    write_out_of_fold,
)
from keras_densenet.data import DataModule
from keras_densenet.errors import MisconfigurationError
from keras_densenet.one_owner import held_alone
from keras_densenet.training import ImageClassifier, Trainer, seed_everything
from keras_densenet.training.arguments import data_of, module_of
from keras_densenet.training.flags import listed
from keras_densenet.training.origin import origin_of_data, other_data
from keras_densenet.training.run_config import (
    described_flags,
    described_module,
    differences,
)
from keras_densenet.training.run_folder import latest_checkpoint
from keras_densenet.training.seed import last_seed
from keras_densenet.whole_file import whole_file

FOLDER = "cross_validation"  # within default_root_dir
DESCRIPTION = "cross_validation.json"
# Flags that leave what is trained as it is.
_HARMLESS = (
    *("default_root_dir", "logger", "log_every_n_steps", "profiler"),
    *("enable_progress_bar", "enable_model_summary", "num_sanity_val_steps"),
)
# Flags by which a fold would not be validated on all of its pictures.
_OF_A_PART = {
    "fast_dev_run": 0,
    "limit_val_batches": 1.0,
    "limit_predict_batches": 1.0,
    "overfit_batches": 0,
}


class _Folds(NamedTuple):
    """What all folds have in common.

    Attributes:
        module: What each network is made as.
        data: What is divided.
        folds: How many there are.
        flags: Of each fold's trainer.
        folder: Of the cross-validation.
        seed: Of each fold.
    """

    module: ImageClassifier
    data: DataModule
    folds: int
    flags: dict[str, Any]
    folder: Path
    seed: int

    def folder_of(self, number: int) -> Path:
        """Return where a fold's run is."""
        return self.folder / f"fold_{number}"


def cross_validate(
    module: ImageClassifier,
    data: Any,
    folds: int = 5,
    *,
    seed: int | None = None,
    **flags: Any,
) -> CrossValidation:
    """Train a network for each fold of the data, and answer about each picture.

    Every picture that is not to test on is in one fold, none of a group (such as a
    patient, `ImageTable(group=)`) in two, and each fold has its share of every label.
    The network of a fold is trained on all others, from new weights, and asked about
    the fold. The test pictures are left alone.

    Each fold is one `Trainer.fit` in `<default_root_dir>/cross_validation/fold_<n>/`.
    It can be ended at any moment, and goes on where it was when it is called again with
    the same arguments: no finished fold is trained again, and the one that was running
    goes on from its last checkpoint. In the folder are also

        folds.csv         each fold's metrics, their mean and standard deviation
        predictions.csv   label, fold, group, file and probabilities of each picture

    Metrics are those of each run's best checkpoint, which is chosen by the same fold: a
    little too good, as those of any validation. With
    `callbacks=[kd.callbacks.ModelCheckpoint(save_top_k=0)]` they are of the last one.

    Args:
        module: What to train, an `ImageClassifier` or `FineTuning`. It stays as it is:
            each fold has a copy without a network.
        data: A data module that can be divided, as `DataModule.fold` says:
            `ImageFolder`, `ImageTable`, those in memory. Also arrays (pictures,
            labels).
        folds: How many folds, 2 or more.
        seed: Seed of every fold, so that they differ in their pictures alone; by
            default that of `seed_everything`, else one that is drawn once.
        **flags: Options of the `Trainer`, such as `max_epochs=30`. Each fold has its
            own copies of `callbacks`.

    Returns:
        The metrics of each fold, with mean and standard deviation, and the answers.

    Raises:
        MisconfigurationError: What is given cannot be cross-validated, or there is
            another cross-validation in that folder.

    Examples:
        found = kd.cross_validate(module, data, folds=5, max_epochs=30)
        found.mean["auroc"], found.std["auroc"]
        found.predictions.probabilities  # (N, classes)
    """
    module, data = (
        _checked_module(module),
        data_of("fit", datamodule=data, dataloaders=None),
    )
    _refuse_masks(data)
    trainer = _checked_trainer(flags)
    folder = Path(trainer.flags.default_root_dir) / FOLDER
    with held_alone([folder]):
        data.prepare_data()
        common = _begun(_Folds(module, data, folds, flags, folder, -1), trainer, seed)
        console = trainer.console
        for number in range(1, folds + 1):
            if is_done(common.folder_of(number)):
                _say(console, f"Fold {number} of {folds} is trained already.")
            else:
                _say(console, f"Fold {number} of {folds}")
                _train(common, number, console)
        found = _found(common)
        write_folds(found, folder / "folds.csv")
        write_out_of_fold(found.predictions, folder / "predictions.csv")
        console.print(found.table())
        _say(console, f"Folds and predictions: {folder}")
    return found


def _refuse_masks(data: DataModule) -> None:
    """Refuse pictures whose pixels have classes: predictions would be of each pixel."""
    if data.labels == "pixels":
        raise MisconfigurationError(
            "cross_validate keeps an answer for each picture, and those of "
            f"{type(data).__name__} have masks: train on data.fold(number, folds) "
            "yourself, each with trainer.fit and trainer.validate."
        )


def _train(common: _Folds, number: int, console: Console) -> None:
    """Train a fold, or let it go on, and ask its network about it."""
    keras.utils.clear_session()  # frees what the fold before has left
    seed_everything(common.seed)
    folder = common.folder_of(number)
    own = {name: copy.deepcopy(common.flags[name]) for name in _copied(common.flags)}
    trainer = Trainer(**common.flags | own | {"default_root_dir": folder})
    module, data = common.module.unfitted(), common.data.fold(number, common.folds)
    try:
        trainer.fit(module, data, ckpt_path=latest_checkpoint(folder))
    except SystemExit:  # it is saved, and the trainer has said how its run goes on
        _say(console, "The cross-validation goes on when it is called again.")
        raise
    answer_about(trainer, module, data, number, folder)


def _copied(flags: Mapping[str, Any]) -> list[str]:
    """Name the flags that have a state, which a fold must not get from another."""
    return [name for name in ("callbacks", "logger") if name in flags]


def _found(common: _Folds) -> CrossValidation:
    folders = [common.folder_of(n) for n in range(1, common.folds + 1)]
    records = [read_record(folder) for folder in folders]
    answers = read_answers(folders, common.data.class_names)
    return CrossValidation(common.folder, records, answers)


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True)


# --- the folder --------------------------------------------------------------------


def _begun(common: _Folds, trainer: Trainer, seed: int | None) -> _Folds:
    """Return the same with its seed, where it goes on that of before.

    Raises:
        MisconfigurationError: There is another cross-validation in the folder.
    """
    path = common.folder / DESCRIPTION
    kept = json.loads(path.read_text()) if path.is_file() else {}
    if kept.get("kind") == _kind(common.data):
        common.data.load_state_dict(kept["state"])
    drawn = kept.get("seed", last_seed())
    seed = drawn if seed is None else seed
    common = common._replace(seed=random.randrange(2**31) if seed is None else seed)
    described = _described(common, trainer)
    if kept:
        _refuse_another(common, kept, described)
    else:
        with whole_file(path) as beside:
            beside.write_text(json.dumps(described))
    return common


def _described(common: _Folds, trainer: Trainer) -> dict[str, Any]:
    """Describe a cross-validation, so that no other one goes on in its folder."""
    flags = described_flags(trainer.flags)
    first = common.data.fold(1, common.folds)
    first.setup("fit")
    try:
        # Of one fold and of all the others: of every picture.
        data = origin_of_data(first, first.fingerprint())
    finally:
        first.teardown("fit")
    described = {
        "folds": common.folds,
        "seed": common.seed,
        "module": described_module(common.module),
        "flags": {n: v for n, v in flags.items() if n not in _HARMLESS},
        "data": data,
        "kind": _kind(common.data),
        "state": common.data.state_dict(),
    }
    return json.loads(json.dumps(described))  # tuples are lists there


def _kind(data: DataModule) -> str:
    return f"{type(data).__module__}.{type(data).__qualname__}"


def _refuse_another(
    common: _Folds, kept: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
    changes = other_data(kept["data"], now["data"], type(common.data))
    if not changes and kept["data"]["pictures"] != now["data"]["pictures"]:
        changes = ["the pictures, or their folds, are others"]
    named = ("folds", "seed", "module", "flags")
    before, given = ({name: it[name] for name in named} for it in (kept, now))
    changes = [*differences(before, given), *changes]
    if changes:
        raise MisconfigurationError(
            f"There is another cross-validation in {common.folder}: "
            f"{'; '.join(changes)}. To go on, call it as it was begun; for another one "
            "give another default_root_dir."
        )


# --- what is given -----------------------------------------------------------------


def _checked_module(module: Any) -> ImageClassifier:
    given = module_of("cross_validate", module, None)
    if isinstance(given, keras.Model):
        raise MisconfigurationError(
            "Each fold begins with a network of its own, and a model that is made "
            "already would go from fold to fold with what it has learned: give what "
            "makes it, such as kd.ImageClassifier(kd.DenseNetBC, depth=40, "
            "growth_rate=12), or kd.ImageClassifier(make) of a function that returns "
            f"your model. Received: the model {given.name}"
        )
    return given


def _checked_trainer(flags: Mapping[str, Any]) -> Trainer:
    """Return a trainer as each fold has, which refuses flags that cannot work."""
    trainer = Trainer(**flags)
    for name, whole in _OF_A_PART.items():
        if getattr(trainer.flags, name) != whole:
            raise MisconfigurationError(
                f"cross_validate answers about every picture, and {name}="
                f"{getattr(trainer.flags, name)!r} takes a part of them: leave it out. "
                "To see that it works, Trainer(fast_dev_run=True).fit(module, "
                "data.fold(1, 5))."
            )
    if trainer.hardware.cluster:
        raise MisconfigurationError(
            "cross_validate trains its folds in one process: leave TF_CONFIG unset. "
            "On several machines fit each trainer.fit(module, data.fold(n, folds))."
        )
    for callback in listed(trainer.flags.callbacks):
        if isinstance(callback, ModelCheckpoint) and callback.own_dirpath:
            raise MisconfigurationError(
                "Each fold has checkpoints of its own, and all would be written to "
                f"dirpath={str(callback.own_dirpath)!r}: leave dirpath out."
            )
    return trainer
