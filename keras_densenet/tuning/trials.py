"""Running trials: each is a run of the trainer in a folder of its own."""

import copy
import time
from pathlib import Path
from typing import Any, NamedTuple

import keras
import keras_tuner
from keras_tuner.errors import FatalValueError

from keras_densenet.analysis.curves import read_metrics
from keras_densenet.callbacks import StopAfterEpoch
from keras_densenet.errors import MisconfigurationError
from keras_densenet.training import Trainer, seed_everything
from keras_densenet.training.flags import listed
from keras_densenet.training.run_folder import latest_checkpoint
from keras_densenet.tuning.oracles import write_json
from keras_densenet.tuning.progress import Progress
from keras_densenet.tuning.search_space import DenseNetHyperModel


class Rung(NamedTuple):
    """The epochs that a trial trains, in a training that another trial may have begun.

    Attributes:
        first: Number of epochs that the trial `begun_by` has trained already.
        last: Number of epochs to train up to.
        begun_by: The trial of the same candidate in the rung before, if any.
    """

    first: int
    last: int
    begun_by: str | None


def rung_of(trial: keras_tuner.engine.trial.Trial, max_epochs: int) -> Rung:
    """Return the epochs of a trial: those that Hyperband names, and otherwise all."""
    values = trial.hyperparameters.values
    return Rung(
        values.get("tuner/initial_epoch", 0),
        values.get("tuner/epochs", max_epochs),
        values.get("tuner/trial_id"),
    )


class Trials(keras_tuner.Tuner):
    """Trains the candidates that an oracle proposes.

    Each trial is one `Trainer.fit`. From its checkpoints it goes on after a kill, and
    Hyperband's next rung goes on where the rung before ended, with weights, optimizer,
    schedule and data, exactly as one training would have done.

    Args:
        oracle: The oracle that proposes candidates.
        hypermodel: What builds networks and data.
        seed: Seed of every trial, so that they differ only in the searched values.
        flags: Options of the trainer.
        progress: What prints each trial and epoch.
        **kwargs: Arguments of `keras_tuner.Tuner`.
    """

    hypermodel: DenseNetHyperModel

    def __init__(
        self,
        oracle: keras_tuner.Oracle,
        hypermodel: DenseNetHyperModel,
        *,
        seed: int,
        flags: dict[str, Any],
        progress: Progress,
        **kwargs: Any,
    ) -> None:
        self.seed = seed
        self.flags = flags
        self.progress = progress
        self._asked = 0.0
        super().__init__(oracle, hypermodel, **kwargs)

    def _populate_initial_space(self) -> None:
        # keras-tuner would build a network to find out what can be chosen.
        space = self.oracle.get_space()
        self.hypermodel.declare_hyperparameters(space)
        self.oracle.update_space(space)

    def save(self) -> None:
        """Write the state of the search; keras-tuner's own file never changes."""
        if not self._is_worker():
            self.oracle.save()
        path = Path(self._get_tuner_fname())
        if not path.is_file():
            write_json(path, self.get_state())

    def on_search_begin(self) -> None:
        """Write the state that a search killed in its first trial goes on from."""
        self.save()

    def pre_create_trial(self) -> None:
        """Wait a moment if another worker has to end a trial first."""
        if time.monotonic() - self._asked < 1:
            time.sleep(1)
        self._asked = time.monotonic()

    def on_trial_begin(self, trial: keras_tuner.engine.trial.Trial) -> None:
        """Print what is tried."""
        costs = self.hypermodel.costs(trial.hyperparameters.values)
        rung = rung_of(trial, self.hypermodel.max_epochs)
        self.progress.begin(trial, rung.last - rung.first, costs.parameters)

    def run_trial(
        self, trial: keras_tuner.engine.trial.Trial, *_: Any, **__: Any
    ) -> dict[str, float]:
        """Train one candidate, and return the metrics of its best epoch."""
        rung = rung_of(trial, self.hypermodel.max_epochs)
        values = trial.hyperparameters.values
        begun = time.perf_counter()
        keras.utils.clear_session()  # frees what the trial before has left
        seed_everything(self.seed)
        quiet = {"enable_progress_bar": False, "enable_model_summary": False}
        flags: dict[str, Any] = quiet | copy.deepcopy(self.flags)
        theirs = listed(flags.pop("callbacks", None))
        trainer = Trainer(
            max_epochs=self.hypermodel.max_epochs,
            default_root_dir=self._folder(trial.trial_id),
            callbacks=[self.progress.epochs(), StopAfterEpoch(rung.last), *theirs],
            **flags,
        )
        module = self.hypermodel.module(values)
        checkpoint = self._checkpoint(trial.trial_id, rung.begun_by)
        try:
            trainer.fit(module, self.hypermodel.data(values), ckpt_path=checkpoint)
        except MisconfigurationError as error:  # it would stop every other trial, too
            raise FatalValueError(str(error)) from error
        log = trainer.log_dir or checkpoint.parent.parent  # type: ignore[union-attr]
        seconds = time.perf_counter() - begun
        best = _best_epoch(log / "metrics.csv", self.oracle.objective)
        return best | {"seconds": seconds, "epochs": rung.last - rung.first}

    def on_trial_end(self, trial: keras_tuner.engine.trial.Trial) -> None:
        """Print the result, also of a trial that failed."""
        super().on_trial_end(trial)
        self.progress.end(self.oracle.get_trial(trial.trial_id), self.oracle.objective)

    def _folder(self, trial_id: str) -> Path:
        return Path(self.get_trial_dir(trial_id))

    def _checkpoint(self, trial_id: str, begun_by: str | None) -> Path | None:
        """Return the checkpoint to go on from: its own, or that of the rung before."""
        for id_ in (trial_id, begun_by):
            last = None if id_ is None else latest_checkpoint(self._folder(id_))
            if last:
                return last
        return None


def _best_epoch(metrics: Path, objective: Any) -> dict[str, float]:
    """Return the metrics of the epoch whose objective is best."""
    columns = read_metrics(metrics)
    if objective.name not in columns:
        raise FatalValueError(
            f"objective={objective.name!r} is none of the metrics. Choose one of "
            f"{', '.join(columns)}."
        )
    better = max if objective.direction == "max" else min
    known = [n for n, value in enumerate(columns[objective.name]) if value == value]
    if not known:
        raise FatalValueError(
            f"objective={objective.name!r} has no value in any epoch. Check that "
            "limit_val_batches and check_val_every_n_epoch let the trials validate."
        )
    best = better(known, key=lambda n: columns[objective.name][n])
    return {name: column[best] for name, column in columns.items()}
