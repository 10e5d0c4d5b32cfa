"""Search for a network that is better than the default one and no larger.

    python recipes/tune.py --max-time 00:00:07:00   # digits: 12 minutes on 2 CPU cores
    python recipes/tune.py --data cifar10 --max-epochs 27 --max-time 01:00:00:00
    python recipes/tune.py --algorithm random --max-trials 50
    python recipes/tune.py --workers 2              # two processes share one search

Depth, growth rate, bottlenecks, compression, dropout, learning rate, weight decay,
batch size and augmentation are searched within the parameters of the default network,
DenseNet-BC (L = 22, k = 12). Of the digits, for which 12 epochs are enough, each
candidate has them all, and ranges are narrower, without dropout and RandAugment, which
makes a 6 of a 9; the score is the validation loss, since 180 pictures are too few to
count errors.

The best score of many is partly luck. So the finalists, the best few, are trained anew
with several seeds; the one with the best mean validation score is chosen; and it and
the default network, trained with the same seeds, are tested. Into
`<output_dir>/<data>-<algorithm>/` go

    trials.csv          what was tried, what came out, how long it took
    front.png           score against parameters, with the Pareto front
    coordinates.png     what was chosen, colored by score
    trial_<n>/          the run of each trial
    finals/, default/   the runs of the finalists and of the default network

Called again, a search that was ended goes on where it was.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any, Literal, TypeAlias

import keras_densenet as kd

DEPTH, GROWTH_RATE = 22, 12  # of the default network
Trained: TypeAlias = "tuple[kd.Trainer, kd.ImageClassifier, kd.data.DataModule]"
QUIET: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}


def main(
    data: Literal["digits", "cifar10", "cifar100", "svhn"] = "digits",
    data_dir: Path | None = None,
    algorithm: Literal["hyperband", "random", "bayesian"] | None = None,
    max_trials: int = 30,
    max_epochs: int = 12,
    max_parameters: int | None = None,
    max_time: str | None = None,
    workers: int = 1,
    finalists: int = 3,
    seeds: int = 3,
    seed: int = 0,
    overwrite: bool = False,
    output_dir: Path = Path("tuning"),
    export_dir: Path | None = None,
) -> None:
    """Search, train the best networks and the default one anew, test both.

    Args:
        data: What is trained on.
        data_dir: Where TensorFlow Datasets has it, or is to have it.
        algorithm: By default bayesian on the digits, else hyperband.
        max_trials: How many networks are tried; hyperband has as many as it needs.
        max_epochs: Of a network's whole training.
        max_parameters: By default those of the default network.
        max_time: Of the search, such as 00:00:10:00 for ten minutes: then no trial
            begins.
        workers: Processes that share the search.
        finalists: How many of the best are trained anew.
        seeds: With how many seeds each of them is trained; 0 leaves it out.
        seed: Of the search and of its trials.
        overwrite: Begin anew, not where it ended.
        output_dir: Where all of it goes.
        export_dir: Where to write the best as a SavedModel, if at all.
    """
    refuse_too_few(
        max_trials=max_trials,
        max_epochs=max_epochs,
        workers=workers,
        finalists=finalists,
    )
    if seeds < 1 and export_dir:
        raise ValueError("What is exported is trained anew: --seeds must be 1 or more.")
    on_digits = data == "digits"
    makers: dict[str, Callable[..., kd.data.DataModule]] = {
        "digits": kd.data.Digits,
        "cifar10": partial(kd.data.CIFAR10, data_dir=data_dir),
        "cifar100": partial(kd.data.CIFAR100, data_dir=data_dir),
        "svhn": partial(kd.data.SVHN, data_dir=data_dir),
    }
    make_data = makers[data]
    space: dict[str, Any] = (
        {  # the rest are those of DenseNetHyperModel
            "depth": (10, 28),
            "growth_rate": (8, 32),
            "bottleneck": [False, True],
            "dropout_rate": 0.0,
            "learning_rate": (0.05, 0.5),
            "batch_size": 32,
            "augmentation": 0.0,
        }
        if on_digits
        else {"depth": (16, 58), "growth_rate": (4, 32)}
    )
    algorithm = algorithm or ("bayesian" if on_digits else "hyperband")
    left: str | dict[str, float] | None = max_time
    if workers > 1:
        begun = time.monotonic()
        run_workers(workers)
        left = left_of(max_time, time.monotonic() - begun)
    if max_parameters is None:
        max_parameters = default_parameters(make_data(batch_size=1))
    found = kd.tuning.search(
        kd.tuning.DenseNetHyperModel(
            make_data, max_parameters=max_parameters, max_epochs=max_epochs, **space
        ),
        algorithm=algorithm,
        objective="val_loss" if on_digits else "val_accuracy",
        max_trials=max_trials,
        max_time=left,
        directory=output_dir,
        project_name=f"{data}-{algorithm}",
        seed=seed,
        overwrite=overwrite and workers == 1,  # else they have
    )
    if is_part_of_a_search():
        return
    print(f"All trials: {found.folder / 'trials.csv'}")
    if seeds:
        batch_size = 32 if on_digits else 64  # as the other recipes have it
        trainer, module, pictures = compare(found, finalists, seeds, batch_size)
        trainer.report(module, datamodule=pictures)
        if export_dir:
            trainer.export(module, export_dir)


def refuse_too_few(**counts: int) -> None:
    """Raise a `ValueError` where a count is below 1."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(
                f"--{name.replace('_', '-')} must be 1 or more. Received: {count}"
            )


def left_of(max_time: str | None, spent: float) -> dict[str, float] | None:
    """Return what is left of the time when so many seconds are spent."""
    if max_time is None:
        return None
    seconds = kd.callbacks.Timer(max_time).max_seconds
    return {"seconds": max(0.0, seconds - spent)}


def default_parameters(data: "kd.data.DataModule") -> int:
    """Return how many parameters the default network has."""
    shapes: Any = {"classes": data.num_classes, "input_shape": data.input_shape}
    return kd.DenseNetBC(DEPTH, GROWTH_RATE, **shapes).count_params()


def compare(
    found: "kd.tuning.Search", finalists: int, seeds: int, batch_size: int
) -> Trained:
    """Train the finalists anew, choose one by validation, and test it.

    Args:
        found: What the search has found.
        finalists: How many of the best are trained anew.
        seeds: With how many seeds each of them is, and the default network.
        batch_size: Of the default network.

    Returns:
        The chosen network, as its first seed trained it.
    """
    finals = []
    for record in found.finalists(finalists):
        folder = found.folder / "finals" / f"trial_{record.trial}"
        trained = [
            found.retrain(record, seed=seed, default_root_dir=folder, **QUIET)
            for seed in range(1, seeds + 1)
        ]
        score = mean([validation_score(found, *run) for run in trained])
        print(f"Trial {record.trial}, trained anew: {found.objective} {score:.4f}")
        finals.append((score, record, trained))
    choose = max if found.highest else min
    _, record, trained = choose(finals, key=lambda final: final[0])
    print(f"Chosen: trial {record.trial}, {record.parameters:,} parameters, ", end="")
    print(record.values)
    print_errors("chosen", [test_error(*run) for run in trained])
    errors = [error_of_default(found, s, batch_size) for s in range(1, seeds + 1)]
    print_errors("default", errors)
    return trained[0]


def validation_score(
    found: "kd.tuning.Search",
    trainer: "kd.Trainer",
    module: "kd.ImageClassifier",
    data: "kd.data.DataModule",
) -> float:
    """Return the search's objective of a network, at the end of its training."""
    metrics = trainer.validate(module, datamodule=data)
    return metrics[found.objective.removeprefix("val_")]


def print_errors(name: str, errors: list[float]) -> None:
    """Print the test errors of a network that was trained with several seeds."""
    each = ", ".join(f"{error:.2f}" for error in errors)
    print(f"Test error of the {name} network: {mean(errors):.2f} % (mean of {each})")


def error_of_default(found: "kd.tuning.Search", seed: int, batch_size: int) -> float:
    """Train and test the default network, in percent."""
    kd.seed_everything(seed)
    module = kd.ImageClassifier(
        kd.DenseNetBC,
        depth=DEPTH,
        growth_rate=GROWTH_RATE,
        learning_rate=0.1,
        lr_schedule="cosine",
        momentum=0.9,
        weight_decay=1e-4,
    )
    data = found.hypermodel.make_data(batch_size=batch_size)
    folder, epochs = found.folder / "default", found.hypermodel.max_epochs
    trainer = kd.Trainer(max_epochs=epochs, default_root_dir=folder, **QUIET)
    trainer.fit(module, datamodule=data)
    return test_error(trainer, module, data)


def test_error(
    trainer: "kd.Trainer", module: "kd.ImageClassifier", data: "kd.data.DataModule"
) -> float:
    """Return the error on the test pictures, in percent."""
    return 100 * (1 - trainer.test(module, datamodule=data)["accuracy"])


# --- several processes ---------------------------------------------------------------


def is_part_of_a_search() -> bool:
    """Return whether this process is one of several that share a search."""
    return "KERASTUNER_TUNER_ID" in os.environ


def run_workers(workers: int) -> None:
    """Start keras-tuner's chief, which proposes, and workers, which train; wait.

    Each runs this file with the same options but `--workers`. When all workers have
    ended the chief has nothing left to do: what was tried is on the disk. Trials of a
    worker that died are taken up by the search that follows, in this process.
    """
    processes = {
        name: subprocess.Popen([sys.executable, *arguments_of_part()], env=environment)
        for name, environment in environments(workers).items()
    }
    chief = processes.pop("chief")
    try:
        while any(process.poll() is None for process in processes.values()):
            if chief.poll():
                sys.exit("error: the process that proposes has ended: see above.")
            time.sleep(0.5)
        for name, process in processes.items():
            if process.returncode:
                print(f"{name} ended with exit code {process.returncode}.")
    finally:
        for process in (*processes.values(), chief):
            process.terminate()
            process.wait()


def arguments_of_part() -> list[str]:
    """Return this command line with one worker."""
    arguments, skipped = [str(Path(__file__).resolve())], False
    for argument in sys.argv[1:]:
        if skipped or argument.startswith("--workers="):
            skipped = False
        elif argument == "--workers":
            skipped = True
        else:
            arguments.append(argument)
    return arguments


def environments(workers: int) -> dict[str, dict[str, str]]:
    """Return the environment of each process, as keras-tuner reads it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(port)}
    names = ["chief", *(f"tuner{number}" for number in range(workers))]
    return {n: os.environ | shared | {"KERASTUNER_TUNER_ID": n} for n in names}


if __name__ == "__main__":
    kd.run_recipe(main, resume=())  # the same command goes on
