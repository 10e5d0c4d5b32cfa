"""Searching: proposals, budgets, and what is kept when a search is killed."""

import csv
import functools
import json
import random
import re
import shutil
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest

import keras_densenet as kd
from keras_densenet.training import MisconfigurationError
from keras_densenet.tuning import DenseNetHyperModel, Record, pareto_front
from keras_densenet.tuning.oracles import BayesianOracle
from keras_densenet.tuning.progress import Progress
from keras_densenet.tuning.results import plot_coordinates
from keras_densenet.tuning.search import _place, _planned, _records

SMALL = {  # networks that train in seconds
    "depth": [10, 16],
    "growth_rate": (4, 12),
    "augmentation": 0.0,
    "batch_size": [32, 64],
    "max_epochs": 2,
}
FEW = {"limit_train_batches": 1, "limit_val_batches": 1, "verbose": False}


def space(**options):
    return DenseNetHyperModel(kd.data.Digits, **SMALL | options)


def searched(tmp_path, hypermodel, **options):
    defaults = {"algorithm": "random", "max_trials": 3, "directory": tmp_path}
    return kd.tuning.search(hypermodel, **defaults | FEW | options)


@pytest.fixture(scope="module")
def one_trial(tmp_path_factory):
    """Return a search of one trial, for all that only looks at its records."""
    return searched(tmp_path_factory.mktemp("search"), space(), max_trials=1)


@pytest.fixture
def built(monkeypatch):
    """Record the parameters of each network that is built with weights."""
    sizes = []
    configure_model = kd.ImageClassifier.configure_model

    def counted(self, *args, **kwargs):
        model = configure_model(self, *args, **kwargs)
        sizes.append(model.count_params())
        return model

    monkeypatch.setattr(kd.ImageClassifier, "configure_model", counted)
    return sizes


# --- the space ---------------------------------------------------------------------


def test_numbers_fix_lists_choose_tuples_are_ranges():
    hypermodel = DenseNetHyperModel(
        kd.data.Digits,
        depth=(16, 34),
        growth_rate=12,
        bottleneck=True,
        compression=[0.5, 1.0],
        learning_rate=(0.01, 1.0),
        batch_size=(20, 130),
    )
    hp = keras_tuner.HyperParameters()
    hypermodel.declare_hyperparameters(hp)
    by_name = {p.name: p for p in hp.space}
    assert by_name["depth"].values == [16, 22, 28, 34]
    assert by_name["batch_size"].values == [32, 64, 128]
    assert by_name["compression"].values == [0.5, 1.0]
    assert by_name["growth_rate"].value == 12
    assert by_name["bottleneck"].value is True
    # The middle of a logarithmic range is the geometric mean.
    assert by_name["learning_rate"].prob_to_value(0.5) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"depth": (17, 21)}, "no valid depth in .17, 21."),
        ({"depth": (16, 22, 28)}, "depth must be a number, a list .*, or a tuple"),
        ({"depth": [10, 13]}, r"depth must be 6 n \+ 4, .* bottleneck=.*Received: 13"),
        ({"depth": 12, "bottleneck": False}, r"depth must be 3 n \+ 4"),
        ({"depth": []}, "depth must be"),
        ({"growth_rate": (16, 8)}, "growth_rate must be"),
        ({"growth_rate": 8.5}, "growth_rate must be"),
        ({"bottleneck": (True, False)}, "bottleneck must be"),
        ({"dropout_rate": 1.0}, "dropout_rate must be .* below 1"),
        ({"compression": (0.0, 0.5)}, "compression must be"),
        ({"weight_decay": (0, 1e-3)}, "weight_decay must be .* a range above 0"),
        ({"learning_rate": "fast"}, "learning_rate must be"),
        ({"augmentation": float("nan")}, "augmentation must be"),
        ({"max_parameters": 0}, "max_parameters must be above 0"),
        ({"max_memory": "8 GB"}, "max_memory must be above 0"),
        ({"max_epochs": 0}, "max_epochs must be 1 or more"),
        ({"memory_efficient": "x"}, "memory_efficient must be"),
        ({"lr_schedule": "x"}, "lr_schedule is"),
        ({"max_parameters": 1000}, "smallest network is over the budget"),
    ],
)
def test_what_cannot_be_searched_is_refused(options, why):
    with pytest.raises(ValueError, match=why):
        DenseNetHyperModel(kd.data.Digits, **options)


def test_the_smallest_network_is_that_without_bottlenecks():
    # L = 10, k = 12, theta = 0.4, 10 classes. The stem makes 16 maps, 3 x 9 x 16; two
    # layers a block, 9 C k + 4 C on C maps; transitions C theta C + 4 C. With
    # bottlenecks it has 20,602.
    options = {"depth": [22, 10], "growth_rate": 12, "compression": 0.4}
    DenseNetHyperModel(kd.data.Digits, **options, max_parameters=17_386)
    with pytest.raises(ValueError, match=r"17,386 parameters of 17,385\."):
        DenseNetHyperModel(kd.data.Digits, **options, max_parameters=17_385)


def test_ranges_may_be_written_in_whole_numbers():
    hypermodel = DenseNetHyperModel(
        kd.data.Digits, dropout_rate=(0, 0.3), growth_rate=(8.0, 16.0), depth=(16.0, 28)
    )
    hp = keras_tuner.HyperParameters()
    hypermodel.declare_hyperparameters(hp)
    assert [p.name for p in hp.space if isinstance(p.default, float)][:1]
    assert hp.get("growth_rate") == 8
    assert isinstance(hp.get("growth_rate"), int)
    assert hp.get("dropout_rate") == 0.0


def test_memory_is_counted_in_float32_whatever_the_policy():
    hypermodel = space()
    least = {"depth": 10, "growth_rate": 4, "bottleneck": True, "compression": 0.5}
    least |= {"dropout_rate": 0.0, "batch_size": 32}
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = hypermodel.costs(least).training_peak(False)
    finally:
        keras.config.set_dtype_policy("float32")
    plain = kd.DenseNetBC(10, 4)
    assert mixed == kd.analysis.profile(plain, 32).training_peak(False)


@pytest.mark.parametrize("bottleneck", [True, False])
def test_costs_are_those_of_the_network_that_is_built(bottleneck):
    values = {
        "depth": 16,
        "growth_rate": 8,
        "bottleneck": bottleneck,
        "compression": 0.7,
        "dropout_rate": 0.1,
        "batch_size": 32,
    }
    costs = space().costs(values)
    del values["batch_size"]
    there = kd.analysis.profile(kd.DenseNet(**values), 32)
    assert costs.parameters == there.parameters
    assert costs.multiply_adds == there.multiply_adds
    assert costs.training_peak(False) == there.training_peak(False)


def test_a_candidate_is_counted_without_a_weight(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a weight was made")

    monkeypatch.setattr(keras.Variable, "_initialize", refuse)
    monkeypatch.setattr(keras.Variable, "_initialize_with_initializer", refuse)
    values = dict.fromkeys(("dropout_rate", "augmentation"), 0.0) | {
        "depth": 190,
        "growth_rate": 40,
        "bottleneck": True,
        "compression": 0.5,
        "batch_size": 64,
    }
    # 25.6 M trainable ones (Table 2 of the paper), and moving statistics.
    assert space().costs(values).trainable_parameters == 25_624_430


# --- the budget --------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["random", "bayesian", "hyperband"])
def test_what_is_over_the_budget_is_never_built(tmp_path, built, algorithm):
    hypermodel = space(max_parameters=12_000)
    found = searched(tmp_path, hypermodel, algorithm=algorithm, max_trials=5)
    assert len(built) == len(found.records)
    assert max(built) <= 12_000
    assert {r.parameters for r in found.records} == set(built)
    assert all(record.status == "COMPLETED" for record in found.records)


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({"max_multiply_adds": 5e6}, "multiply-adds of 5,000,000"),
        ({"max_memory": 40e6}, "bytes in training of 40,000,000"),
    ],
)
def test_other_budgets(limit, words):
    large = {
        "depth": 16,
        "growth_rate": 12,
        "bottleneck": False,
        "compression": 1.0,
        "dropout_rate": 0.0,
        "batch_size": 64,
    }
    assert words in space(**limit).over_budget(large)
    small = large | {"depth": 10, "growth_rate": 4, "compression": 0.4}
    assert space(**limit).over_budget(small | {"batch_size": 32}) == ""


@pytest.mark.slow
def test_the_optimum_outside_of_the_budget_gives_the_best_inside():
    """A score that grows with x is best at the limit of the budget, 0.5."""
    hp = keras_tuner.HyperParameters()
    hp.Float("x", 0, 1)
    oracle = BayesianOracle(
        keras_tuner.Objective("score", "max"),
        max_trials=20,
        num_initial_points=4,
        hyperparameters=hp,
        seed=3,
        beta=0.1,
    )
    oracle.fits = lambda values: values["x"] <= 0.5
    oracle._save_trial = oracle.save = lambda *_: None
    oracle.verbose = 0
    proposed = []
    for _ in range(12):
        trial = oracle.create_trial("tuner0")
        x = trial.hyperparameters.values["x"]
        proposed.append(x)
        oracle.update_trial(trial.trial_id, {"score": x})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    assert max(proposed) <= 0.5
    assert min(proposed[-4:]) > 0.48  # chance alone: one in 390,000


# --- trials ------------------------------------------------------------------------


@pytest.mark.slow
def test_rungs_are_one_training(tmp_path):
    """Weights and optimizer go on: two epochs in rungs of one are two epochs."""
    hypermodel = space(depth=10, growth_rate=4, bottleneck=True)
    flags = {"limit_train_batches": 3, "deterministic": True}
    found = searched(tmp_path, hypermodel, algorithm="hyperband", factor=2, **flags)
    second = [r for r in found.records if r.begun_by]
    assert second
    for record in second:
        kd.seed_everything(0)
        trainer = kd.Trainer(
            max_epochs=2,
            default_root_dir=tmp_path / "whole",
            limit_val_batches=1,
            enable_progress_bar=False,
            enable_model_summary=False,
            **flags,
        )
        module = hypermodel.module(record.values)
        trainer.fit(module, hypermodel.data(record.values))
        folder = found.folder / f"trial_{record.trial - 1:04}"
        (last,) = folder.glob("runs/*/*/checkpoints/last.keras")
        rungs = keras.saving.load_model(last)
        for ours, whole in zip(
            rungs.get_weights(), module.model.get_weights(), strict=True
        ):
            np.testing.assert_array_equal(ours, whole)
        assert int(rungs.optimizer.iterations) == 6


@pytest.mark.slow
def test_a_trial_that_fails_is_named_and_survived(tmp_path):
    class Failing(DenseNetHyperModel):
        def module(self, values):
            if values["batch_size"] == 64:
                raise MemoryError("no room for 64 pictures")
            return super().module(values)

    hypermodel = Failing(kd.data.Digits, **SMALL)
    found = searched(tmp_path, hypermodel, max_trials=5, seed=2)
    failed = [r for r in found.records if r.status == "FAILED"]
    assert 0 < len(failed) < 5
    assert all("no room for 64 pictures" in record.message for record in failed)
    assert all(record.values["batch_size"] == 64 for record in failed)
    assert found.best.values["batch_size"] == 32
    with (found.folder / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == [r.status for r in found.records]


def test_too_many_failures_end_it(tmp_path):
    class Failing(DenseNetHyperModel):
        def data(self, values):
            if "tuner/trial_id" in values or self.asked:
                raise MemoryError("never")
            self.asked = True  # the search itself asks first, to prepare the data
            return super().data(values)

        asked = False

    hypermodel = Failing(kd.data.Digits, **SMALL)
    with pytest.raises(RuntimeError, match="consecutive failures"):
        searched(tmp_path, hypermodel, max_consecutive_failed_trials=2)


def test_a_mistake_of_the_user_ends_it_at_once(tmp_path):
    of_another = keras_tuner.Objective("val_f1", "max")
    with pytest.raises(ValueError, match="none of the metrics"):
        searched(tmp_path, space(), objective=of_another)
    with pytest.raises(ValueError, match="algorithm must be one of"):
        searched(tmp_path, space(), algorithm="grid")
    with pytest.raises(MisconfigurationError, match="max_time must be"):
        searched(tmp_path, space(), max_time="10 minutes")


@pytest.mark.slow
def test_no_trial_begins_after_its_time(tmp_path, built):
    found = searched(tmp_path, space(), max_trials=50, max_time={"seconds": 3})
    assert 1 <= len(built) < 10
    assert len(found.records) == len(built)


@pytest.mark.slow
def test_two_replicas(tmp_path):
    found = searched(tmp_path, space(), max_trials=1, devices=2, strategy="mirrored")
    assert found.best.status == "COMPLETED"


@pytest.mark.slow
def test_the_best_is_trained_anew(tmp_path):
    found = searched(tmp_path, space(), max_trials=2)
    trainer, module, data = found.retrain(max_epochs=1, limit_train_batches=1)
    assert module.model.count_params() == found.best.parameters
    assert data.batch_size == found.best.values["batch_size"]
    assert (found.folder / "best") in trainer.log_dir.parents
    assert (found.folder / "front.png").stat().st_size > 5_000
    assert (found.folder / "coordinates.png").stat().st_size > 5_000


@pytest.mark.slow
def test_keras_tuners_own_tuners_take_it(tmp_path, built):
    tuner = keras_tuner.RandomSearch(
        space(max_parameters=12_000),
        objective="val_accuracy",
        max_trials=4,
        seed=1,
        directory=tmp_path,
        max_consecutive_failed_trials=4,
    )
    tuner.search(epochs=1, verbose=0)
    status = [trial.status for trial in tuner.oracle.trials.values()]
    assert set(status) == {"COMPLETED", "FAILED"}
    assert max(built) <= 12_000


# --- a search that goes on ---------------------------------------------------------


def times_of(found):
    return {p: p.stat().st_mtime_ns for p in found.folder.glob("trial_*/trial.json")}


@pytest.mark.slow
def test_a_search_that_is_over_runs_nothing_again(tmp_path, built):
    before = times_of(searched(tmp_path, space()))
    count = len(built)
    assert times_of(searched(tmp_path, space())) == before
    more = searched(tmp_path, space(), max_trials=4)
    assert len(built) == count + 1
    assert len(more.records) == 4


@pytest.mark.slow
def test_killed_after_a_trials_end_was_written(tmp_path, built):
    """keras-tuner notes that it has ended when the next one begins."""
    found = searched(tmp_path, space())
    oracle = found.folder / "oracle.json"
    state = json.loads(oracle.read_text())
    state["ongoing_trials"] = {"tuner0": "1"}
    state["end_order"].remove("1")
    oracle.write_text(json.dumps(state))
    before, count = times_of(found), len(built)
    assert times_of(searched(tmp_path, space())) == before
    assert len(built) == count


@pytest.mark.slow
def test_killed_between_a_trials_file_and_the_oracles(tmp_path, built):
    """The trial is drawn again, under its number."""
    found = searched(tmp_path, space())
    oracle, trial = found.folder / "oracle.json", found.folder / "trial_2/trial.json"
    state = json.loads(oracle.read_text())
    for name in ("start_order", "end_order"):
        state[name].remove("2")
    state["seed_state"] -= len(state["hyperparameters"]["space"])
    state["tried_so_far"].remove(state["id_to_hash"].pop("2"))
    state["ongoing_trials"] = {}
    oracle.write_text(json.dumps(state))
    trial.write_text(trial.read_text().replace("COMPLETED", "RUNNING"))
    count = len(built)
    again = searched(tmp_path, space())
    assert len(built) == count + 1
    assert [r.status for r in again.records] == ["COMPLETED"] * 3


@pytest.mark.slow
def test_another_search_is_refused_in_its_folder(tmp_path):
    searched(tmp_path, space(), max_trials=1)
    with pytest.raises(ValueError, match="max_epochs was 2 and is 3"):
        searched(tmp_path, space(max_epochs=3))
    anew = searched(tmp_path, space(max_epochs=3), max_trials=1, overwrite=True)
    assert len(anew.records) == 1


def statuses(folder):
    trials = folder.glob("trial_*/trial.json")
    return {path: json.loads(path.read_text())["status"] for path in trials}


@pytest.mark.slow
def test_killed_at_random_moments_no_trial_is_lost_or_run_twice(tmp_path):
    script = textwrap.dedent(
        f"""
        import keras_densenet as kd
        hypermodel = kd.tuning.DenseNetHyperModel(kd.data.Digits, **{SMALL})
        kd.tuning.search(hypermodel, algorithm="random", max_trials=8, seed=1,
            directory={str(tmp_path)!r}, limit_train_batches=4, limit_val_batches=1)
        """
    )
    folder, kills, begun = tmp_path / "densenet", 0, []
    draw = random.Random(4)
    for attempt in range(60):
        done = {p: p.read_text() for p, s in statuses(folder).items() if s != "RUNNING"}
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", script], stdout=subprocess.PIPE, text=True
        )
        try:
            # On a busy machine it takes longer until a trial has begun.
            wait = draw.uniform(6, 16) * 1.03**attempt
            said, _ = process.communicate(timeout=wait)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
            kills += 1
        begun += re.findall(r"^Trial (\d+) of 8:", said, re.MULTILINE)
        assert {path: path.read_text() for path in done} == done
        if process.returncode == 0:
            break
    assert process.returncode == 0
    assert kills >= 3
    assert list(statuses(folder).values()) == ["COMPLETED"] * 8
    # At most one trial begins again after each kill: the one that was running.
    assert len(begun) <= 8 + kills


@pytest.mark.slow
def test_two_workers_share_a_search(tmp_path):
    recipe = Path(__file__).parents[2] / "recipes" / "tune.py"
    options = "--workers 2 --algorithm random --max-trials 4 --max-epochs 1 --seeds 0"
    done = subprocess.run(
        [sys.executable, recipe, *options.split(), "--output-dir", tmp_path],
        capture_output=True,
        text=True,
        timeout=900,
        check=True,
    )
    begun = re.findall(r"^(\w+): Trial (\d+) of 4:", done.stdout, re.MULTILINE)
    assert sorted(number for _, number in begun) == ["1", "2", "3", "4"]
    assert {worker for worker, _ in begun} == {"tuner0", "tuner1"}
    folder = tmp_path / "digits-random"
    assert list(statuses(folder).values()) == ["COMPLETED"] * 4
    with (folder / "trials.csv").open(newline="") as file:
        chosen = [tuple(row.values())[8:] for row in csv.DictReader(file)]
    assert len(set(chosen)) == 4


# --- results -----------------------------------------------------------------------


def record(trial, parameters, score):
    return Record(trial, "COMPLETED", score, 1, 1.0, None, parameters, 1, {}, "")


def test_the_pareto_front_by_hand():
    records = [
        record(1, 100, 0.5),
        record(2, 50, 0.6),  # smaller and better than the first
        record(3, 200, 0.6),  # no better than the second
        record(4, 300, 0.9),
        record(5, 300, 0.8),
        record(6, 10, None),
    ]
    assert [r.trial for r in pareto_front(records)] == [2, 4]
    assert [r.trial for r in pareto_front(records, highest=False)] == [2, 1]


def test_how_much_hyperband_will_train():
    """By Li et al.'s Algorithm 1 with R = 9, eta = 3, in keras-tuner's numbers.

    Three brackets: 9 at 1 epoch, 3 up to 3, 1 up to 9; 5 at 3, 2 up to 9; 3 at 9.
    """
    from keras_densenet.tuning.oracles import HalvingOracle

    oracle = HalvingOracle("val_accuracy", max_epochs=9, factor=3)
    trials, epochs = _planned(oracle, 9)
    sizes = [[9, 3, 1], [5, 2], [3]]
    assert trials == sum(map(sum, sizes))
    assert epochs == (9 * 1 + 3 * 2 + 1 * 6) + (5 * 3 + 2 * 6) + 3 * 9


def test_the_time_that_is_left(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = Progress(trials=2, epochs=10, done=2, quiet=True)
    callback = progress.epochs()
    for _ in range(2):
        now[0] += 30
        callback.on_epoch_end(0, {})
    assert progress.left() == "about 0:03:00 left"  # 6 epochs of half a minute


# --- errors before any trial, and other searches in the same folder -----------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_trials": 0}, "max_trials must be 1 or more"),
        ({"max_trials": None}, "max_trials must be 1 or more"),
        ({"precison": "bf16-mixed"}, "precison is no option"),
        ({"max_epochs": 3}, "max_epochs is no option"),
        ({"precision": "foo"}, "precision must be one of"),
        ({"objective": "val_error"}, "keras_tuner.Objective"),
        ({"objective": "val_acuracy"}, "keras_tuner.Objective"),
        ({"max_time": 600}, "DD:HH:MM:SS"),
        ({"algorithm": "grid"}, "algorithm must be one of"),
    ],
)
def test_options_are_refused_before_any_trial(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        searched(tmp_path, space(), **options)
    assert not list(tmp_path.glob("*/trial_*"))


def test_a_file_is_no_folder_of_searches(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        searched(tmp_path / "file", space())


def test_nothing_validated_is_said(tmp_path):
    with pytest.raises(keras_tuner.errors.FatalValueError, match="has no value"):
        searched(tmp_path, space(), limit_val_batches=0)


def test_another_search_is_not_gone_on_with(one_trial):
    folder = one_trial.folder.parent
    others = [
        ({}, {"seed": 1}),
        ({}, {"precision": "bf16-mixed"}),
        ({"lr_schedule": "step"}, {}),
        ({"memory_efficient": True}, {}),
    ]
    for of_space, of_search in others:
        with pytest.raises(ValueError, match="another search"):
            searched(folder, space(**of_space), max_trials=1, **of_search)
    partly = functools.partial(kd.data.Digits, mean=(1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match=r"data was Digits and is Digits.mean="):
        searched(folder, DenseNetHyperModel(partly, **SMALL), max_trials=1)


def test_damage_is_named_with_its_folder(one_trial):
    for name in ("search.json", "oracle.json", "trial_0/trial.json"):
        path = one_trial.folder / name
        whole = path.read_text()
        path.write_text(whole[:20])
        with pytest.raises(ValueError, match="damaged or gone"):
            searched(one_trial.folder.parent, space(), max_trials=1)
        path.write_text(whole)


def test_trials_are_in_the_order_of_their_numbers(tmp_path, one_trial):
    folder = shutil.copytree(one_trial.folder, tmp_path / "search")
    first = json.loads((folder / "trial_0" / "trial.json").read_text())
    # keras-tuner pads numbers to the width of the last one, which may grow.
    for name in ("1", "02", "10"):
        (folder / f"trial_{name}").mkdir()
        state = json.dumps(first | {"trial_id": name})
        (folder / f"trial_{name}" / "trial.json").write_text(state)
    assert [record.trial for record in _records(folder, space())] == [1, 2, 3, 11]


def test_finalists_are_the_best_candidates_each_once(one_trial):
    first = one_trial.records[0]
    scores = [0.5, 0.9, 0.9, 0.7, None]
    values = [{"depth": n} for n in (1, 2, 2, 3, 4)]
    records = [
        first._replace(trial=number, score=score, values=value)
        for number, (score, value) in enumerate(zip(scores, values, strict=True), 1)
    ]
    found = replace(one_trial, records=records)
    assert [record.trial for record in found.finalists(2)] == [2, 4]
    assert [record.trial for record in found.finalists(9)] == [2, 4, 1]
    low = replace(found, highest=False)
    assert [record.trial for record in low.finalists(2)] == [1, 4]


def test_best_of_earlier_processes_is_known(capsys):
    progress = Progress(2, 10, 5, scores=[(0.9, 1)])
    trial = keras_tuner.engine.trial.Trial(
        keras_tuner.HyperParameters(), trial_id="1", status="COMPLETED"
    )
    trial.score = 0.8
    progress._started = time.monotonic()
    progress.end(trial, keras_tuner.Objective("val_accuracy", "max"))
    assert "best 0.9000 (trial 1); the last one" in capsys.readouterr().out


def test_places_are_shares_of_the_range():
    # keras-tuner's value_to_prob takes 0.5 for 0.4: 0.1 // 0.1 is 0 in binary.
    hp = keras_tuner.HyperParameters()
    hp.Float("theta", 0.4, 1.0, step=0.1)
    (theta,) = hp.space
    places = [_place(theta, value) for value in (0.4, 0.5, 1.0)]
    assert places == pytest.approx([0, 1 / 6, 1])


def test_the_best_of_losses_is_light_and_on_top(one_trial):
    records = [
        one_trial.records[0]._replace(trial=number, score=score)
        for number, score in enumerate((0.1, 0.9, 0.5), 1)
    ]
    places = [{"depth": 0.1}, {"depth": 0.2}, {"depth": 0.3}]
    figure = plot_coordinates(records, places, "val_loss", highest=False)
    lines = [line for line in figure.axes[0].lines if len(line.get_ydata()) == 1]
    assert [float(line.get_ydata()[0]) for line in lines] == [0.2, 0.3, 0.1]
    assert sum(lines[-1].get_color()[:3]) > sum(lines[0].get_color()[:3])


def test_no_worker_starts_workers():
    recipe = Path(__file__).parents[2] / "recipes" / "tune.py"
    answer = subprocess.run(
        [sys.executable, recipe, "--work", "2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 2
    assert "Unrecognized options: --work" in answer.stderr
