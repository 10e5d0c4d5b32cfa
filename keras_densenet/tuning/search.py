"""The search itself, over keras-tuner's algorithms."""

import datetime
import functools
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import keras_tuner
import tensorflow as tf
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
OF_A_TRIAL = ("max_epochs", "max_steps", "default_root_dir")  # flags it sets itself


@dataclass(frozen=True)
class Search:
    """What a search has found.

    Attributes:
        hypermodel: What was searched.
        folder: Of the search: `trials.csv`, `front.png`, `coordinates.png` and a folder
            a trial, with its run.
        objective: Name of the score.
        highest: Whether a high score is good.
        seed: Of each trial.
        records: The trials, in their order.
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
            ValueError: No trial has one.
        """
        return self.finalists(1)[0]

    def finalists(self, count: int) -> list[Record]:
        """Give the best candidates, the best first, at most `count`.

        Scores of one training each are partly luck, and the best one's most of all:
        train these anew with other seeds, with `retrain(trial, seed=...)`, and compare
        their means. Of several trials of a candidate, as Hyperband's rungs are, it is
        the best.

        Raises:
            ValueError: No trial has a score.
        """
        scored = with_score(self.records)
        if not scored:
            raise ValueError(
                f"No trial of {self.folder} has come to its end: see message in "
                f"{self.folder / 'trials.csv'}."
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
        """Train a candidate anew, the whole training.

        Args:
            trial: By default the best.
            seed: By default that of the search.
            max_epochs: By default those of the search.
            **flags: Of the trainer.

        Returns:
            The trainer, what it has trained, and the data: for `trainer.test`,
            `trainer.report` and `trainer.export`.
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
    that was ended, at any moment, goes on where it was when it is called again; no
    finished trial is run again, and the one that was under way goes on from its last
    checkpoint. A trial that fails is named, kept in the table, and passed over.

    In several processes, with keras-tuner's `KERASTUNER_TUNER_ID`,
    `KERASTUNER_ORACLE_IP` and `KERASTUNER_ORACLE_PORT`, they share one search: the
    chief proposes, the others train (`recipes/tune.py --workers 2`). They must see one
    `directory`.

    Args:
        hypermodel: What is searched.
        algorithm: "random", "bayesian" (a Gaussian process), or "hyperband": many
            candidates for few epochs, and the best of them for more. Its rungs go on
            from each other's checkpoints, with the schedule of `hypermodel.max_epochs`.
        objective: A metric of training or validation, "val_accuracy" or "val_loss"; of
            others a `keras_tuner.Objective`, which says whether it is to be high or
            low.
        max_trials: Of "random" and "bayesian", 1 or more; "hyperband" has as many as it
            needs.
        factor: Of "hyperband": one in so many goes on, so many times longer.
        max_time: After which no trial begins, as "00:00:10:00" (10 minutes), of each
            process that searches.
        directory: Of searches.
        project_name: Of this one.
        seed: Of what is proposed, and of each trial.
        overwrite: Whether to begin anew where there is a search already.
        max_consecutive_failed_trials: After which the search is given up.
        verbose: Whether to print.
        **flags: Of the `Trainer`, such as `devices=2` or `precision="bf16-mixed"`.
            Each trial has copies of its `callbacks`.

    Raises:
        ValueError: An option that cannot be, a search of that name that was for
            something else, or one whose files are damaged.
        RuntimeError: Too many trials failed one after the other.
    """
    _refuse_options(algorithm, max_trials, Path(directory))
    _refuse_flags(flags)
    folder = Path(directory) / project_name
    hypermodel.data(_any_values(hypermodel)).prepare_data()  # once, before any trial
    oracle = _oracle(
        algorithm,
        hypermodel,
        objective=objective,
        seed=seed or 1,  # keras-tuner takes 0 for none
        max_trials=max_trials,
        factor=factor,
        max_consecutive_failed_trials=max_consecutive_failed_trials,
    )
    if max_time is not None:
        oracle.ends_at = time.monotonic() + seconds_of(max_time)
    oracle.verbose = 0  # progress says it
    options = {"seed": seed, "factor": factor} | flags
    described = _described(hypermodel, oracle, algorithm, options)
    overwrite = overwrite and not _is_worker()  # that is for the chief
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
    """Refuse what cannot be, before anything is made."""
    if algorithm not in ALGORITHMS:
        raise ValueError(
            f"algorithm must be one of {', '.join(ALGORITHMS)}. Received: {algorithm!r}"
        )
    if max_trials is None or max_trials < 1:
        raise ValueError(f"max_trials must be 1 or more. Received: {max_trials}")
    if directory.is_file():
        raise ValueError(f"directory={directory} is a file: give a folder.")
    if "KERASTUNER_ORACLE_IP" in os.environ and not os.environ.get(WORKER):
        raise ValueError(
            f"KERASTUNER_ORACLE_IP is set, and {WORKER} is not: the chief's is "
            '"chief", a worker\'s a name of its own.'
        )


def _progress(
    oracle: Any, max_epochs: int, done: list[Record], verbose: bool
) -> Progress:
    """Give what prints, with what earlier processes have done."""
    scored = with_score(done)
    return Progress(
        *_planned(oracle, max_epochs),
        sum(record.epochs for record, _ in scored),
        scores=[(score, record.trial) for record, score in scored],
        worker=os.environ[WORKER] if _is_worker() else "",
        quiet=not verbose,
    )


def _oracle(algorithm: str, hypermodel: DenseNetHyperModel, **options: Any) -> Any:
    theirs = {"factor"} if algorithm != "hyperband" else {"max_trials"}
    options = {name: value for name, value in options.items() if name not in theirs}
    if algorithm == "hyperband":
        options["max_epochs"] = hypermodel.max_epochs
    if algorithm == "bayesian":  # keras-tuner's three a dimension are more than all
        options["num_initial_points"] = max(3, options["max_trials"] // 3)
    if isinstance(options["objective"], str):
        name = options["objective"]
        if not name.endswith(("loss", "accuracy")):
            raise ValueError(
                'objective must be a loss or an accuracy, as "val_loss"; of another '
                "metric give keras_tuner.Objective(name, direction), direction "
                f'"min" or "max". Received: objective={name!r}'
            )
        direction = "min" if name.endswith("loss") else "max"
        options["objective"] = keras_tuner.Objective(name, direction)
    oracle = ALGORITHMS[algorithm](**options)
    oracle.fits = lambda values: not hypermodel.over_budget(values)
    return oracle


def _is_worker() -> bool:
    """Say whether another process proposes: keras-tuner's chief."""
    has_chief = "KERASTUNER_ORACLE_IP" in os.environ
    return has_chief and "chief" not in os.environ[WORKER]


def _any_values(hypermodel: DenseNetHyperModel) -> dict[str, Any]:
    space = keras_tuner.HyperParameters()
    hypermodel.declare_hyperparameters(space)
    return space.values


def _planned(oracle: Any, max_epochs: int) -> tuple[int, int]:
    """Give how many trials and epochs there are to be, without failures."""
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
    oracle: Any,
    algorithm: str,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Say what a search is of, so that another one does not go on in its folder."""
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


def _named(make_data: Any) -> str:
    """Name what makes the data, with the arguments that a partial gives it."""
    if not isinstance(make_data, functools.partial):
        return getattr(make_data, "__qualname__", type(make_data).__qualname__)
    given = [*map(repr, make_data.args)]
    given += [f"{name}={value!r}" for name, value in make_data.keywords.items()]
    return f"{_named(make_data.func)}({', '.join(given)})"


def _refuse_flags(flags: Mapping[str, Any]) -> None:
    """Refuse what the trainer would refuse in each trial."""
    known = [field.name for field in fields(Flags) if field.name not in OF_A_TRIAL]
    unknown = [name for name in flags if name not in known]
    if unknown:
        raise ValueError(
            f"{', '.join(unknown)} is no option of search, nor one of the trainer's "
            f"that it leaves to you: {', '.join(known)}."
        )
    Trainer(**{"max_epochs": 1, **flags})


@contextmanager
def _names_damage(folder: Path) -> Iterator[None]:
    """Say which folder it is whose files are no JSON, or are gone."""
    try:
        yield
    except (json.JSONDecodeError, UnicodeDecodeError, tf.errors.NotFoundError) as error:
        raise ValueError(
            f"The search in {folder} cannot go on: a file of it is damaged or gone "
            f"({error}). Give another project_name, or overwrite=True to begin anew."
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
                f"There is another search in {folder}: {changes}. Give another "
                "project_name, or overwrite=True to begin anew."
            )


def _records(folder: Path, hypermodel: DenseNetHyperModel) -> list[Record]:
    """Read the trials of a search."""
    paths = folder.glob("trial_*/trial.json")
    records = [_record(Trial.load(str(path)), hypermodel) for path in paths]
    return sorted(records, key=lambda record: record.trial)


def _record(trial: Any, hypermodel: DenseNetHyperModel) -> Record:
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


def _place(hp: Any, value: Any) -> float:
    """Say where a value lies in its range, 0..1."""
    if getattr(hp, "step", None) and getattr(hp, "sampling", "") == "linear":
        # keras-tuner rounds down, and takes 0.5 for 0.4.
        return (value - hp.min_value) / max(hp.max_value - hp.min_value, 1e-12)
    return hp.value_to_prob(value)
