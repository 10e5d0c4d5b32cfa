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
    coordinates.png     what was chosen, coloured by score
    trial_<n>/          the run of each trial
    finals/, default/   the runs of the finalists and of the default network

Called again, a search that was ended goes on where it was.
"""

import argparse
import os
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from statistics import mean

from keras_densenet import command_line

DATA = ("digits", "cifar10", "cifar100", "svhn")
ALGORITHMS = ("hyperband", "random", "bayesian")
DEPTH, GROWTH_RATE = 22, 12  # of the default network,
BATCH_SIZE = {"digits": 32}  # and its batches, as the other recipes have them; else 64
ON_DIGITS = {  # the rest are those of DenseNetHyperModel
    "depth": (10, 28),
    "growth_rate": (8, 32),
    "bottleneck": [False, True],
    "dropout_rate": 0.0,
    "learning_rate": (0.05, 0.5),
    "batch_size": 32,
    "augmentation": 0.0,
}
ON_PHOTOGRAPHS = {"depth": (16, 58), "growth_rate": (4, 32)}
QUIET = {"enable_progress_bar": False, "enable_model_summary": False}


def main(options: argparse.Namespace) -> None:
    """Search, train the best network and the default one anew, test both."""
    import keras_densenet as kd

    make_data = data_sets(options.data_dir)[options.data]
    on_digits = options.data == "digits"
    algorithm = options.algorithm or ("bayesian" if on_digits else "hyperband")
    if options.workers > 1:
        begun = time.monotonic()
        run_workers(options.workers)
        options.overwrite = False  # they have
        options.max_time = left_of(options.max_time, time.monotonic() - begun)
    found = kd.tuning.search(
        kd.tuning.DenseNetHyperModel(
            make_data,
            max_parameters=default_parameters(make_data)
            if options.max_parameters is None
            else options.max_parameters,
            max_epochs=options.max_epochs,
            **(ON_DIGITS if on_digits else ON_PHOTOGRAPHS),
        ),
        algorithm=algorithm,
        objective="val_loss" if on_digits else "val_accuracy",
        max_trials=options.max_trials,
        max_time=options.max_time,
        directory=options.output_dir,
        project_name=f"{options.data}-{algorithm}",
        seed=options.seed,
        overwrite=options.overwrite,
    )
    if not is_part_of_a_search():
        print(f"All trials: {found.folder / 'trials.csv'}")
        if options.seeds:
            compare(found, options)


def left_of(max_time: str | None, spent: float) -> dict[str, float] | None:
    """Give what is left of the time when so many seconds are spent."""
    from keras_densenet.callbacks.limits import seconds_of

    if max_time is None:
        return None
    return {"seconds": max(0.0, seconds_of(max_time) - spent)}


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # run_workers takes --workers out again
    )
    add = parser.add_argument
    add("--data", choices=DATA, default="digits", help="what it is trained on")
    add("--data-dir", help="where TensorFlow Datasets has it, or is to have it")
    add("--algorithm", choices=ALGORITHMS, help="bayesian on digits, else hyperband")
    add("--max-trials", type=int, default=30, help="not of hyperband")
    add("--max-epochs", type=int, default=12, help="of a network's whole training")
    add("--max-parameters", type=int, help="by default the default network's")
    add("--max-time", help="of the search, as 00:00:10:00: then no trial begins")
    add("--workers", type=int, default=1, help="processes that share the search")
    add("--seed", type=int, default=0, help="of the search and of its trials")
    add("--finalists", type=int, default=3, help="how many are trained anew")
    add("--seeds", type=int, default=3, help="with how many each of them is; or 0")
    add("--output-dir", default="tuning", help="where all of it goes")
    add("--export-dir", help="where to write the best as a SavedModel, if at all")
    add("--overwrite", action="store_true", help="begin anew, not where it ended")
    options = parser.parse_args(arguments)
    for name in ("max_trials", "max_epochs", "workers", "finalists"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be 1 or more")
    if options.seeds < 1 and options.export_dir:
        parser.error("what is exported is trained anew: --seeds must be 1 or more")
    return options


def default_parameters(make_data) -> int:
    """Count those of the default network."""
    import keras_densenet as kd

    facts = make_data(batch_size=1)
    shapes = {"classes": facts.num_classes, "input_shape": facts.input_shape}
    return kd.DenseNetBC(DEPTH, GROWTH_RATE, **shapes).count_params()


def compare(found, options: argparse.Namespace) -> None:
    """Train the finalists anew, choose one by validation, and test it."""
    seeds = range(1, options.seeds + 1)
    finals = []
    for record in found.finalists(options.finalists):
        folder = found.folder / "finals" / f"trial_{record.trial}"
        trained = [
            found.retrain(record, seed=seed, default_root_dir=folder, **QUIET)
            for seed in seeds
        ]
        score = mean([validation_score(found, *run) for run in trained])
        print(f"Trial {record.trial}, trained anew: {found.objective} {score:.4f}")
        finals.append((score, record, trained))
    choose = max if found.highest else min
    _, record, trained = choose(finals, key=lambda final: final[0])
    print(f"Chosen: trial {record.trial}, {record.parameters:,} parameters, ", end="")
    print(record.values)
    print_errors("chosen", [test_error(*run) for run in trained])
    batch_size = BATCH_SIZE.get(options.data, 64)
    errors = [error_of_default(found, seed, batch_size) for seed in seeds]
    print_errors("default", errors)
    trainer, module, data = trained[0]
    trainer.report(module, datamodule=data)
    if options.export_dir:
        trainer.export(module, options.export_dir)


def validation_score(found, trainer, module, data) -> float:
    """Give the search's objective of a network, at the end of its training."""
    metrics = trainer.validate(module, datamodule=data)
    return metrics[found.objective.removeprefix("val_")]


def print_errors(name: str, errors: list[float]) -> None:
    """Print the test errors of a network that was trained with several seeds."""
    each = ", ".join(f"{error:.2f}" for error in errors)
    print(f"Test error of the {name} network: {mean(errors):.2f} % (mean of {each})")


def data_sets(data_dir: str | None) -> dict:
    """Give what makes each data module."""
    import keras_densenet as kd

    return {
        "digits": kd.data.Digits,
        "cifar10": partial(kd.data.CIFAR10, data_dir=data_dir),
        "cifar100": partial(kd.data.CIFAR100, data_dir=data_dir),
        "svhn": partial(kd.data.SVHN, data_dir=data_dir),
    }


def error_of_default(found, seed: int, batch_size: int) -> float:
    """Train and test the default network, in percent."""
    import keras_densenet as kd

    kd.seed_everything(seed)
    module = kd.ImageClassifier(
        kd.DenseNetBC, depth=DEPTH, growth_rate=GROWTH_RATE, lr_schedule="cosine"
    )
    data = found.hypermodel.make_data(batch_size=batch_size)
    folder, epochs = found.folder / "default", found.hypermodel.max_epochs
    trainer = kd.Trainer(max_epochs=epochs, default_root_dir=folder, **QUIET)
    trainer.fit(module, datamodule=data)
    return test_error(trainer, module, data)


def test_error(trainer, module, data) -> float:
    """Give the error on the test pictures, in percent."""
    return 100 * (1 - trainer.test(module, datamodule=data)["accuracy"])


# --- several processes ---------------------------------------------------------------


def is_part_of_a_search() -> bool:
    """Say whether this process is one of several that share a search."""
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
    """Give this command line with one worker."""
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
    """Give the environment of each process, as keras-tuner reads it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(port)}
    names = ["chief", *(f"tuner{number}" for number in range(workers))]
    return {n: os.environ | shared | {"KERASTUNER_TUNER_ID": n} for n in names}


if __name__ == "__main__":
    options = parsed()
    with command_line.no_traceback(resume=()):
        main(options)
