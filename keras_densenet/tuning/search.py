"""The search itself, over keras-tuner's algorithms."""

import datetime
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial

from keras_densenet.data import DataModule
from keras_densenet.training import ImageClassifier, Trainer, seed_everything
from keras_densenet.training.callbacks.limits import seconds_of
from keras_densenet.tuning.oracles import (
    BayesianOracle,
    HalvingOracle,
    RandomOracle,
    write_whole,
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
        scored = with_score(self.records)
        if not scored:
            raise ValueError(
                f"No trial of {self.folder} has come to its end: see message in "
                f"{self.folder / 'trials.csv'}."
            )
        sign = 1 if self.highest else -1
        return max(scored, key=lambda pair: sign * pair[1])[0]

    def retrain(
        self, max_epochs: int | None = None, **flags: Any
    ) -> tuple[Trainer, ImageClassifier, DataModule]:
        """Train the best candidate anew, the whole training.

        Args:
            max_epochs: By default those of the search.
            **flags: Of the trainer.

        Returns:
            The trainer, what it has trained, and the data: for `trainer.test`,
            `trainer.report` and `trainer.export`.
        """
        seed_everything(self.seed)
        values = self.best.values
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
        objective: A metric of training or validation.
        max_trials: Of "random" and "bayesian"; "hyperband" has as many as it needs.
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

    Raises:
        ValueError: An algorithm that is unknown, or a search of that name that was for
            something else.
        RuntimeError: Too many trials failed one after the other.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(
            f"algorithm must be one of {', '.join(ALGORITHMS)}. Received: {algorithm!r}"
        )
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
    described = _described(hypermodel, oracle, algorithm)
    overwrite = overwrite and not _is_worker()  # that is for the chief
    if not (overwrite or _is_worker()):
        _refuse_another_search(folder, described)
    done = [] if overwrite else _records(folder, hypermodel)
    epochs = sum(record.epochs for record in done if record.score is not None)
    trials, of_all = _planned(oracle, hypermodel.max_epochs)
    tuner = Trials(
        oracle,
        hypermodel,
        seed=seed,
        flags=flags,
        progress=Progress(
            trials,
            of_all,
            epochs,
            worker=os.environ["KERASTUNER_TUNER_ID"] if _is_worker() else "",
            quiet=not verbose,
        ),
        directory=str(directory),
        project_name=project_name,
        overwrite=overwrite,
    )
    if not _is_worker():
        write_whole(folder / DESCRIPTION, described)
    tuner.search()
    highest = oracle.objective.direction == "max"
    name, records = oracle.objective.name, _records(folder, hypermodel)
    found = Search(hypermodel, folder, name, highest, seed, records)
    _write_results(found)
    return found


def _oracle(algorithm: str, hypermodel: DenseNetHyperModel, **options: Any) -> Any:
    theirs = {"factor"} if algorithm != "hyperband" else {"max_trials"}
    options = {name: value for name, value in options.items() if name not in theirs}
    if algorithm == "hyperband":
        options["max_epochs"] = hypermodel.max_epochs
    if algorithm == "bayesian":  # keras-tuner's three a dimension are more than all
        options["num_initial_points"] = max(3, options["max_trials"] // 3)
    if isinstance(options["objective"], str):
        name = options["objective"]
        direction = "min" if name.endswith("loss") else "max"
        options["objective"] = keras_tuner.Objective(name, direction)
    oracle = ALGORITHMS[algorithm](**options)
    oracle.fits = lambda values: not hypermodel.over_budget(values)
    return oracle


def _is_worker() -> bool:
    """Say whether another process proposes: keras-tuner's chief."""
    has_chief = "KERASTUNER_ORACLE_IP" in os.environ
    return has_chief and "chief" not in os.environ["KERASTUNER_TUNER_ID"]


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
    hypermodel: DenseNetHyperModel, oracle: Any, algorithm: str
) -> dict[str, Any]:
    """Say what a search is of, so that another one does not go on in its folder."""
    return {
        "algorithm": algorithm,
        "objective": oracle.objective.name,
        "seed": oracle.seed,
        "data": getattr(hypermodel.make_data, "__qualname__", "partial"),
        "max_epochs": hypermodel.max_epochs,
        "ranges": json.loads(json.dumps(hypermodel.ranges)),  # tuples are lists there
        "budget": [
            hypermodel.max_parameters,
            hypermodel.max_multiply_adds,
            hypermodel.max_memory,
        ],
    }


def _refuse_another_search(folder: Path, described: dict[str, Any]) -> None:
    path = folder / DESCRIPTION
    if path.is_file():
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
    paths = sorted(folder.glob("trial_*/trial.json"))
    return [_record(Trial.load(str(path)), hypermodel) for path in paths]


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
        {hp.name: hp.value_to_prob(record.values[hp.name]) for hp in searched}
        for record in found.records
    ]
    name, folder = found.objective, found.folder
    plot_front(found.records, name, folder / "front.png", found.highest)
    if searched:
        plot_coordinates(found.records, places, name, folder / "coordinates.png")
