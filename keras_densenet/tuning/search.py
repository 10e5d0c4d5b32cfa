"""The search itself, with keras-tuner's algorithms."""

import datetime
import functools
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import keras_tuner
import tensorflow as tf
from keras_tuner.engine.hyperparameters import HyperParameter
from keras_tuner.engine.trial import Trial

from keras_densenet.callbacks.limits import seconds_of
from keras_densenet.data import DataModule
from keras_densenet.training import ImageClassifier, Trainer, seed_everything
from keras_densenet.training.flags import Flags
from keras_densenet.tuning.oracles import (
    BayesianOracle,
    HalvingOracle,
    RandomOracle,
    write_json,
)
from keras_densenet.tuning.progress import Progress
from keras_densenet.tuning.results import (
    Record,
    plot_coordinates,
    plot_front,
    with_score,
    write_table,
)
from keras_densenet.tuning.search_space import DenseNetHyperModel
from keras_densenet.tuning.trials import Trials

ALGORITHMS = {
    "random": RandomOracle,
    "bayesian": BayesianOracle,
    "hyperband": HalvingOracle,
}
DESCRIPTION = "search.json"
WORKER = "KERASTUNER_TUNER_ID"
OF_A_TRIAL = ("max_epochs", "max_steps", "default_root_dir")  # flags that trials set


@dataclass(frozen=True)
class Search:
    """The results of a search.

    Attributes:
        hypermodel: What was searched.
        folder: Folder of the search, with `trials.csv`, `front.png`, `coordinates.png`
            and the run of each trial in a folder of its own.
        objective: Name of the score.
        highest: Whether a high score is good.
        seed: Seed of every trial.
        records: The trials, ordered by number.
    """

    hypermodel: DenseNetHyperModel
    folder: Path
    objective: str
    highest: bool
    seed: int
    records: list[Record]

    @property
    def best(self) -> Record:
        """The trial with the best score.

        Raises:
            ValueError: No trial has a score.
        """
        return self.finalists(1)[0]

    def finalists(self, count: int) -> list[Record]:
        """Return at most `count` candidates, the best first.

        The score of a single training is partly luck, and that of the best one most of
        all. So train these anew with other seeds, with `retrain(trial, seed=...)`, and
        compare their means. Where a candidate had several trials, as with Hyperband's
        rungs, its best one is returned.

        Raises:
            ValueError: No trial has a score.
        """
        scored = with_score(self.records)
        if not scored:
            raise ValueError(
                f"No trial of {self.folder} was completed. The column message of "
                f"{self.folder / 'trials.csv'} says why trials failed."
            )
        sign = 1 if self.highest else -1
        scored = sorted(scored, key=lambda pair: sign * pair[1], reverse=True)
        candidates: list[Record] = []
        for record, _ in scored:
            if record.values not in [better.values for better in candidates]:
                candidates.append(record)
        return candidates[:count]

    def retrain(
        self,
        trial: Record | None = None,
        *,
        seed: int | None = None,
        max_epochs: int | None = None,
        **flags: Any,
    ) -> tuple[Trainer, ImageClassifier, DataModule]:
        """Train a candidate anew, from the first epoch to the last.

        Args:
            trial: The trial of the candidate; by default the best.
            seed: Seed of the training; by default that of the search.
            max_epochs: Number of epochs; by default that of the search.
            **flags: Options of the trainer.

        Returns:
            The trainer, the module that it has trained, and the data, as
            `trainer.test`, `trainer.report` and `trainer.export` take them.
        """
        seed_everything(self.seed if seed is None else seed)
        values = (trial or self.best).values
        module, data = self.hypermodel.module(values), self.hypermodel.data(values)
        trainer = Trainer(
            max_epochs=max_epochs or self.hypermodel.max_epochs,
            **{"default_root_dir": self.folder / "best"} | flags,
        )
        trainer.fit(module, datamodule=data)
        return trainer, module, data


def search(
    hypermodel: DenseNetHyperModel,
    *,
    algorithm: str = "hyperband",
    objective: str | keras_tuner.Objective = "val_accuracy",
    max_trials: int = 20,
    factor: int = 3,
    max_time: str | datetime.timedelta | dict | None = None,
    directory: str | os.PathLike = "tuning",
    project_name: str = "densenet",
    seed: int = 0,
    overwrite: bool = False,
    max_consecutive_failed_trials: int = 10,
    verbose: bool = True,
    **flags: Any,
) -> Search:
    """Search for a network and its training.

    Each trial is one `Trainer.fit` in `<directory>/<project_name>/trial_<n>/`. A search
    can be ended at any moment: called again, it goes on where it was. No completed
    trial is run again, and the one that was running goes on from its last checkpoint. A
    trial that fails is reported, kept in the table, and passed over.

    Several processes share one search if they have keras-tuner's variables
    `KERASTUNER_TUNER_ID`, `KERASTUNER_ORACLE_IP` and `KERASTUNER_ORACLE_PORT`: the
    chief proposes, the others train (`recipes/tune.py --workers 2`). All must reach the
    same `directory`.

    Args:
        hypermodel: What is searched.
        algorithm: "random", "bayesian" (a Gaussian process), or "hyperband": many
            candidates for few epochs, and the best of them for more. Its rungs go on
            from each other's checkpoints, with the schedule of `hypermodel.max_epochs`.
        objective: A metric of training or validation, such as "val_accuracy" or
            "val_loss". For a metric whose name ends in neither "accuracy" nor "loss"
            pass a `keras_tuner.Objective`, which says whether high or low is good.
        max_trials: Number of trials for "random" and "bayesian", 1 or more; "hyperband"
            runs as many as it needs.
        factor: For "hyperband": one trial in so many goes on, for so many times longer.
        max_time: Time after which no trial begins, such as "00:00:10:00" (10 minutes);
            each process counts its own.
        directory: Folder of all searches.
        project_name: Name of this search, and of its folder.
        seed: Seed of the proposals and of every trial.
        overwrite: Whether to begin anew if the search exists already.
        max_consecutive_failed_trials: Number of failures in a row that end the search.
        verbose: Whether to print the progress.
        **flags: Options of the `Trainer`, such as `devices=2` or
            `precision="bf16-mixed"`. Each trial has its own copies of `callbacks`.

    Returns:
        The trials, with the best of them.

    Raises:
        ValueError: An option is not valid, or a search of that name exists that was for
            something else, or whose files are damaged.
        RuntimeError: Too many trials failed in a row.
    """
    _refuse_options(algorithm, max_trials, Path(directory))
    _refuse_flags(flags)
    folder = Path(directory) / project_name
    # Data are downloaded once, before any trial.
    hypermodel.data(_any_values(hypermodel)).prepare_data()
    oracle = _oracle(
        algorithm,
        hypermodel,
        objective=objective,
        seed=seed or 1,  # keras-tuner takes a seed of 0 for no seed
        max_trials=max_trials,
        factor=factor,
        max_consecutive_failed_trials=max_consecutive_failed_trials,
    )
    if max_time is not None:
        oracle.ends_at = time.monotonic() + seconds_of(max_time)
    oracle.verbose = 0  # Progress prints instead
    options = {"seed": seed, "factor": factor} | flags
    described = _described(hypermodel, oracle, algorithm, options)
    overwrite = overwrite and not _is_worker()  # only the chief overwrites
    if not (overwrite or _is_worker()):
        _refuse_another_search(folder, described)
    with _names_damage(folder):
        done = [] if overwrite else _records(folder, hypermodel)
    with _names_damage(folder):
        tuner = Trials(
            oracle,
            hypermodel,
            seed=seed,
            flags=flags,
            progress=_progress(oracle, hypermodel.max_epochs, done, verbose),
            directory=str(directory),
            project_name=project_name,
            overwrite=overwrite,
        )
    if not _is_worker():
        write_json(folder / DESCRIPTION, described)
    tuner.search()
    highest = oracle.objective.direction == "max"
    name, records = oracle.objective.name, _records(folder, hypermodel)
    found = Search(hypermodel, folder, name, highest, seed, records)
    _write_results(found)
    return found


def _refuse_options(algorithm: str, max_trials: int | None, directory: Path) -> None:
    """Raise a `ValueError` for options that are not valid, before anything is made."""
    if algorithm not in ALGORITHMS:
        raise ValueError(
            f"algorithm must be one of {', '.join(ALGORITHMS)}. Received: "
            f"algorithm={algorithm!r}."
        )
    if max_trials is None or max_trials < 1:
        raise ValueError(
            f"max_trials must be 1 or more. Received: max_trials={max_trials}."
        )
    if directory.is_file():
        raise ValueError(
            f"directory must be a folder, but {directory} is a file. Give another path."
        )
    if "KERASTUNER_ORACLE_IP" in os.environ and not os.environ.get(WORKER):
        raise ValueError(
            f"KERASTUNER_ORACLE_IP is set, but {WORKER} is not. Set it to "
            '"chief" for the chief, and to a name of its own for each worker.'
        )


def _progress(
    oracle: keras_tuner.Oracle, max_epochs: int, done: list[Record], verbose: bool
) -> Progress:
    """Return what prints, which begins with what earlier processes have done."""
    scored = with_score(done)
    return Progress(
        *_planned(oracle, max_epochs),
        sum(record.epochs for record, _ in scored),
        scores=[(score, record.trial) for record, score in scored],
        worker=os.environ[WORKER] if _is_worker() else "",
        quiet=not verbose,
    )


def _oracle(
    algorithm: str, hypermodel: DenseNetHyperModel, **options: Any
) -> keras_tuner.Oracle:
    theirs = {"factor"} if algorithm != "hyperband" else {"max_trials"}
    options = {name: value for name, value in options.items() if name not in theirs}
    if algorithm == "hyperband":
        options["max_epochs"] = hypermodel.max_epochs
    # keras-tuner would draw three points for each dimension: more than max_trials.
    if algorithm == "bayesian":
        options["num_initial_points"] = max(3, options["max_trials"] // 3)
    if isinstance(options["objective"], str):
        name = options["objective"]
        if not name.endswith(("loss", "accuracy")):
            raise ValueError(
                'objective must be a loss or an accuracy, such as "val_loss". For '
                "another metric give keras_tuner.Objective(name, direction) with "
                f'direction "min" or "max". Received: objective={name!r}.'
            )
        direction = "min" if name.endswith("loss") else "max"
        options["objective"] = keras_tuner.Objective(name, direction)
    oracle = ALGORITHMS[algorithm](**options)
    oracle.fits = lambda values: not hypermodel.over_budget(values)
    return oracle


def _is_worker() -> bool:
    """Return whether another process, keras-tuner's chief, proposes the trials."""
    has_chief = "KERASTUNER_ORACLE_IP" in os.environ
    return has_chief and "chief" not in os.environ[WORKER]


def _any_values(hypermodel: DenseNetHyperModel) -> dict[str, Any]:
    space = keras_tuner.HyperParameters()
    hypermodel.declare_hyperparameters(space)
    return space.values


def _planned(oracle: keras_tuner.Oracle, max_epochs: int) -> tuple[int, int]:
    """Return how many trials and epochs a search has, if none fails."""
    if not isinstance(oracle, HalvingOracle):
        return oracle.max_trials, oracle.max_trials * max_epochs
    trials = epochs = 0
    for bracket in range(oracle._get_num_brackets()):
        before = 0
        for number in range(oracle._get_num_rounds(bracket)):
            size = oracle._get_size(bracket, number)
            last = oracle._get_epochs(bracket, number)
            trials, epochs = trials + size, epochs + size * (last - before)
            before = last
    return trials, epochs


# --- the folder --------------------------------------------------------------------


def _described(
    hypermodel: DenseNetHyperModel,
    oracle: keras_tuner.Oracle,
    algorithm: str,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Describe a search, so that no other one goes on in its folder."""
    plain = (str, int, float, type(None))
    return {
        "algorithm": algorithm,
        "objective": f"{oracle.objective.direction} {oracle.objective.name}",
        "options": {n: v for n, v in options.items() if isinstance(v, plain)},
        "data": _named(hypermodel.make_data),
        "max_epochs": hypermodel.max_epochs,
        "lr_schedule": hypermodel.lr_schedule,
        "memory_efficient": hypermodel.memory_efficient,
        "ranges": json.loads(json.dumps(hypermodel.ranges)),  # tuples are lists there
        "budget": [
            hypermodel.max_parameters,
            hypermodel.max_multiply_adds,
            hypermodel.max_memory,
        ],
    }


def _named(make_data: Callable) -> str:
    """Return the name of what makes the data, with the arguments of a partial."""
    if not isinstance(make_data, functools.partial):
        return getattr(make_data, "__qualname__", type(make_data).__qualname__)
    given = [*map(repr, make_data.args)]
    given += [f"{name}={value!r}" for name, value in make_data.keywords.items()]
    return f"{_named(make_data.func)}({', '.join(given)})"


def _refuse_flags(flags: Mapping[str, Any]) -> None:
    """Raise a `ValueError` for flags that the trainer would refuse in each trial."""
    known = [field.name for field in fields(Flags) if field.name not in OF_A_TRIAL]
    unknown = [name for name in flags if name not in known]
    if unknown:
        raise ValueError(
            f"{', '.join(unknown)} is no option of search, nor one of the trainer's "
            f"options that can be set for a search: {', '.join(known)}."
        )
    Trainer(**{"max_epochs": 1, **flags})


@contextmanager
def _names_damage(folder: Path) -> Iterator[None]:
    """Turn an error about a file that is damaged or gone into one for the user."""
    try:
        yield
    except (json.JSONDecodeError, UnicodeDecodeError, tf.errors.NotFoundError) as error:
        raise ValueError(
            f"The search in {folder} cannot go on, because one of its files is damaged "
            f"or gone ({error}). Give another project_name, or overwrite=True to begin "
            "anew."
        ) from error


def _refuse_another_search(folder: Path, described: dict[str, Any]) -> None:
    path = folder / DESCRIPTION
    if path.is_file():
        with _names_damage(folder):
            before = json.loads(path.read_text())
        other = [name for name in described if before.get(name) != described[name]]
        if other:
            changes = "; ".join(
                f"{name} was {before.get(name)} and is {described[name]}"
                for name in other
            )
            raise ValueError(
                f"There is another search in {folder} ({changes}). Give another "
                "project_name, or overwrite=True to begin anew."
            )


def _records(folder: Path, hypermodel: DenseNetHyperModel) -> list[Record]:
    """Read the trials of a search."""
    paths = folder.glob("trial_*/trial.json")
    records = [_record(Trial.load(str(path)), hypermodel) for path in paths]
    return sorted(records, key=lambda record: record.trial)


def _record(trial: Trial, hypermodel: DenseNetHyperModel) -> Record:
    values = dict(trial.hyperparameters.values)
    begun_by = values.get("tuner/trial_id")
    chosen = {name: values[name] for name in hypermodel.ranges}
    costs = hypermodel.costs(chosen)
    message = (trial.message or "").strip().splitlines()
    is_over = trial.status == "COMPLETED"

    def metric(name: str) -> float:
        known = trial.metrics.exists(name)
        return float(trial.metrics.get_best_value(name)) if known else 0.0

    return Record(
        trial=int(trial.trial_id) + 1,
        status=trial.status,
        score=float(trial.score) if is_over else None,
        epochs=int(metric("epochs")),
        seconds=round(metric("seconds"), 1),
        begun_by=None if begun_by is None else int(begun_by) + 1,
        parameters=costs.parameters,
        multiply_adds=costs.multiply_adds,
        values=chosen,
        message=message[-1] if message else "",
    )


def _write_results(found: Search) -> None:
    write_table(found.records, found.folder / "trials.csv")
    if not with_score(found.records):
        return
    space = keras_tuner.HyperParameters()
    found.hypermodel.declare_hyperparameters(space)
    searched = [
        hp
        for hp in space.space
        if not isinstance(hp, keras_tuner.engine.hyperparameters.Fixed)
    ]
    places = [
        {hp.name: _place(hp, record.values[hp.name]) for hp in searched}
        for record in found.records
    ]
    name, folder = found.objective, found.folder
    plot_front(found.records, name, folder / "front.png", found.highest)
    if searched:
        path = folder / "coordinates.png"
        plot_coordinates(found.records, places, name, path, found.highest)


def _place(hp: HyperParameter, value: Any) -> float:
    """Return where a value lies in its range, 0..1."""
    if getattr(hp, "step", None) and getattr(hp, "sampling", "") == "linear":
        # keras-tuner's value_to_prob rounds down, and takes 0.5 for 0.4.
        return (value - hp.min_value) / max(hp.max_value - hp.min_value, 1e-12)
    return hp.value_to_prob(value)
