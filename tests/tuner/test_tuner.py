import random
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_densenet as kd
from keras_densenet.training import MisconfigurationError
from keras_densenet.tuner.batch_size_finder import largest_fitting
from keras_densenet.tuner.batch_size_trial import _refuse_another_size
from keras_densenet.tuner.lr_finder import LRFinder, constant_rate
from keras_densenet.tuner.misconfiguration import refuse_full_gpus


class Targets(kd.data.DataModule):
    """Two batches in turn: the input is 1, the target 9 and then 11."""

    num_classes = 1
    input_shape = (1,)
    class_names = ("number",)
    mean, std = (0.0,), (1.0,)

    def __init__(self, batch_size=2):
        self.batch_size = batch_size
        self.seed = 7
        self.stages = []

    def setup(self, stage):
        self.stages.append(stage)
        self.seed = random.random() + np.random.random()  # noqa: NPY002

    def teardown(self, stage):
        self.stages.append(f"no {stage}")

    def state_dict(self):
        return {"seed": self.seed}

    def load_state_dict(self, state):
        self.seed = state["seed"]

    def train_dataset(self):
        targets = np.repeat([[[9.0]], [[11.0]]], self.batch_size, axis=1)
        pairs = np.ones_like(targets), targets
        return tf.data.Dataset.from_tensor_slices(pairs)

    def test_dataset(self):
        raise AssertionError("nobody tests")

    predict_dataset = val_dataset = test_dataset


def one_weight(input_shape):
    inputs = keras.Input(input_shape)
    dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    return keras.Model(inputs, keras.layers.Dropout(0.0)(dense(inputs)))


class Parabola(kd.ImageClassifier):
    """The loss is (w - target)^2: its second derivative is 2 everywhere."""

    def configure_optimizer(self, total_steps):
        schedule = keras.optimizers.schedules.CosineDecay(0.1, total_steps)
        return keras.optimizers.SGD(schedule)

    def configure_loss(self):
        return keras.losses.MeanSquaredError()

    def configure_metrics(self):
        return []


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# --- lr_find --------------------------------------------------------------------------


def by_hand(rates):
    """Take steps of gradient descent from w = 0, and smooth the losses."""
    w, average, losses = 0.0, 0.0, []
    for step, rate in enumerate(rates):
        error = w - (9.0, 11.0)[step % 2]
        average = 0.98 * average + 0.02 * error**2
        losses.append(average / (1 - 0.98 ** (step + 1)))
        w -= rate * 2 * error
    return losses


@pytest.mark.parametrize("mode", ["exponential", "linear"])
def test_the_range_test_of_a_parabola_is_that_by_hand(mode):
    # None of these flags may matter.
    trainer = kd.Trainer(steps_per_execution=4, limit_train_batches=1, fast_dev_run=1)
    module = Parabola(one_weight)
    last = {"exponential": 1e2, "linear": 10.0}[mode]
    finder = kd.Tuner(trainer).lr_find(
        module, Targets(), 1e-4, last, 50, mode, update_attr=False
    )
    rates, losses = finder.results["lr"], finder.results["loss"]
    if mode == "exponential":  # 49 steps span six decades
        expected = [1e-4 * 10 ** (6 * step / 49) for step in range(50)]
    else:
        expected = [1e-4 + (10.0 - 1e-4) * step / 49 for step in range(50)]
    assert rates == pytest.approx(expected[: len(rates)])
    np.testing.assert_allclose(losses, by_hand(rates), rtol=1e-3)
    # It falls, and ends at the first loss above 4 times the least.
    assert len(rates) < 50
    assert min(losses) < 0.9 * losses[0]
    assert losses[-1] > 4 * min(losses)
    assert all(loss <= 4 * min(losses[: i + 1]) for i, loss in enumerate(losses[:-1]))
    # Gradient descent diverges above 2 / 2 = 1.
    assert rates[-1] > 1.0


def test_the_suggestion_is_below_where_it_diverges(capsys):
    module = Parabola(one_weight)
    finder = kd.Tuner(kd.Trainer()).lr_find(module, Targets(), 1e-6, 1e2)
    assert 1e-4 < module.learning_rate < 1.0
    assert module.learning_rate == finder.suggestion()
    assert f"learning_rate is now {module.learning_rate:.3g}" in capsys.readouterr().out


def test_without_a_threshold_it_goes_on_to_the_last_rate():
    module = Parabola(one_weight, learning_rate=0.5)
    finder = kd.Tuner(kd.Trainer()).lr_find(
        *(module, Targets(), 0.1, 2.0, 14),
        early_stop_threshold=None,
        update_attr=False,
    )
    assert finder.results["lr"][-1] == 2.0
    assert module.learning_rate == 0.5


def test_a_rate_is_tried_on_all_batches_of_a_step():
    trainer = kd.Trainer(accumulate_grad_batches=2)
    finder = kd.Tuner(trainer).lr_find(
        Parabola(one_weight), Targets(), 0.01, 0.04, 14, "linear", update_attr=False
    )
    # w = 0: (81 + 121) / 2. The mean gradient is -20, so w = 0.2: (8.8^2 + 10.8^2) / 2.
    second = (0.98 * 101 + 97.04) / 1.98
    assert finder.results["loss"][:2] == pytest.approx([101, second], rel=1e-4)
    assert len(finder.results["lr"]) == 14


@pytest.mark.parametrize("trained", [False, True])
def test_module_trainer_and_data_are_as_they_were(trained, tmp_path):
    module, data, trainer = Parabola(one_weight), Targets(), kd.Trainer()
    if trained:
        module.model = one_weight((1,))
        module.model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
        module.model.fit(data.train_dataset(), shuffle=False, verbose=0)
    of_module, of_trainer = dict(vars(module)), dict(vars(trainer))
    values = _values(module.model)
    kd.Tuner(trainer).lr_find(module, data, 1e-4, 1.0, 14, update_attr=False)
    assert vars(module) == of_module
    assert vars(trainer) == of_trainer
    np.testing.assert_equal(_values(module.model), values)
    assert (trainer.log_dir, trainer.checkpoint_callback) == (None, None)
    assert trainer.global_step == 0
    assert data.seed == 7
    assert data.stages == ["fit", "no fit"]
    assert not list(tmp_path.iterdir())


def _values(model):
    if model is None:
        return None
    variables = [*model.weights, *model.optimizer.variables]
    return [variable.numpy() for variable in variables]


@pytest.mark.slow
@pytest.mark.parametrize("used_before", [False, True])
def test_what_is_random_later_is_what_it_would_have_been(used_before):
    def later(tuned):
        keras.utils.clear_session()
        kd.seed_everything(3)
        if used_before:
            keras.random.uniform(())
            keras.layers.Dense(1)
        module, data = Parabola(one_weight), Targets()
        if tuned:
            tuner = kd.Tuner(kd.Trainer())
            tuner.lr_find(module, data, 1e-4, 1.0, 14, update_attr=False)
        return (
            keras.layers.Dense(1).name,
            float(keras.random.uniform(())),
            random.random(),
            np.random.random(),  # noqa: NPY002
        )

    assert later(tuned=True) == later(tuned=False)


def test_it_begins_with_the_weights_that_the_module_has():
    module = Parabola(one_weight)
    module.model = one_weight((1,))
    module.model.set_weights([np.array([[8.0]], "float32")])
    finder = kd.Tuner(kd.Trainer()).lr_find(
        module, Targets(), 1e-4, 1e-3, 14, update_attr=False
    )
    assert finder.results["loss"][0] == pytest.approx(1.0)  # (8 - 9)^2


def test_it_works_on_replicas():
    trainer = kd.Trainer(strategy="mirrored", devices=2)
    finder = kd.Tuner(trainer).lr_find(
        Parabola(one_weight), Targets(), 0.01, 0.02, 14, update_attr=False
    )
    expected = by_hand(finder.results["lr"])
    np.testing.assert_allclose(finder.results["loss"], expected, rtol=1e-3)


@pytest.mark.slow
def test_the_rate_that_is_found_is_for_the_batch_that_it_was_found_with():
    data = kd.data.Digits(batch_size=256)
    module = kd.ImageClassifier(kd.DenseNetBC, depth=10, growth_rate=4)
    module.scale_lr_from = 64
    tuner = kd.Tuner(kd.Trainer(enable_progress_bar=False))
    finder = tuner.lr_find(module, data, 1e-3, 1.0, 20)
    assert finder.results["lr"][0] == pytest.approx(1e-3)
    assert module.learning_rate == finder.suggestion()
    module.data = data
    rate = module.configure_optimizer(100)._learning_rate(0)
    assert float(rate) == pytest.approx(finder.suggestion())


def test_a_loss_that_is_no_number_ends_it():
    class NoNumber(Parabola):
        def configure_loss(self):
            return lambda y, prediction: prediction * np.nan

    module = NoNumber(one_weight, learning_rate=0.5)
    with pytest.warns(UserWarning, match="0 of 0 points"):
        finder = kd.Tuner(kd.Trainer()).lr_find(module, Targets())
    assert finder.results == {"lr": [], "loss": []}
    assert module.learning_rate == 0.5


CURVE = LRFinder({"lr": [1e-4, 1e-3, 1e-2, 1e-1, 1.0], "loss": [5, 4.9, 4, 1, 3]})


@pytest.mark.parametrize(
    ("skip_begin", "skip_end", "expected"),
    [  # Three points a decade apart: the slope is half of right minus left.
        (0, 0, 1e-2),  # (4 - 5) / 2 = -0.5, (1 - 4.9) / 2 = -1.95, (3 - 4) / 2 = -0.5
        (0, 1, 1e-2),  # -0.5, -1.95
        (0, 2, 1e-3),  # -0.5
        (1, 0, 1e-2),  # -1.95, -0.5
        (2, 0, 1e-1),  # -0.5
    ],
)
def test_the_suggestion_is_where_the_loss_falls_most(skip_begin, skip_end, expected):
    assert CURVE.suggestion(skip_begin, skip_end) == expected


def test_the_slope_is_against_the_logarithm():
    # -2.5 and -4 a decade; against the rate itself -5 / 0.099 and -8 / 0.99.
    finder = LRFinder({"lr": [1e-3, 1e-2, 1e-1, 1.0], "loss": [10, 9, 5, 1]})
    assert finder.suggestion(0, 0) == 1e-1


def test_the_noise_of_two_batches_is_not_suggested():
    """Of 20 points it fits lines to five: (-2 a - b + d + 2 e) / 10 is their slope."""
    losses = [5.0] * 20
    losses[3], losses[5] = 5.5, 4.5  # neighbours: -0.5 at 4; five points: -0.1
    losses[12:] = [4.9, 4.7, 4.3, 3.9, 3.7, 3.6, 3.6, 3.6]
    # at 13, 14, 15: (-10 - 4.9 + 4.3 + 7.8) / 10 = -0.28, -0.32, -0.28
    finder = LRFinder({"lr": [2.0**n for n in range(20)], "loss": losses})
    assert finder.suggestion(0, 0) == 2.0**14


@pytest.mark.parametrize(
    ("losses", "skip_begin", "reason"),
    [
        ([5, 4, 3, 2], 10, "0 of 4 points are left after skip_begin=10 and skip_end=1"),
        ([5, 4, 3, 2], 1, "2 of 4 points are left"),
        ([1, 1, 2, 1], 0, "falls nowhere from 1 to 3"),
    ],
)
def test_no_suggestion_says_why(losses, skip_begin, reason):
    finder = LRFinder({"lr": [1.0, 2.0, 3.0, 4.0], "loss": losses})
    with pytest.warns(UserWarning, match=reason):
        assert finder.suggestion(skip_begin) is None
    assert len(finder.plot().axes[0].lines) == 1


def test_the_plot_marks_the_suggestion(tmp_path):
    rates = [10.0**power for power in range(-15, -1)]
    losses = [5.0] * 10 + [5.0, 4.9, 2.0, 9.0]  # ten to skip, three, one to skip
    finder = LRFinder({"lr": rates, "loss": losses})
    axis = finder.plot(tmp_path / "lr.png").axes[0]
    curve, mark = axis.lines
    assert axis.get_xscale() == "log"
    np.testing.assert_equal(curve.get_xydata(), list(zip(rates, losses, strict=True)))
    np.testing.assert_equal(mark.get_xydata(), [(1e-4, 4.9)])
    assert axis.get_legend().get_texts()[0].get_text() == "suggestion: 0.0001"
    assert (tmp_path / "lr.png").stat().st_size > 0
    assert len(finder.plot(suggest=False).axes[0].lines) == 1
    # It falls by 3, from 5 to 2: a tenth of that below, half of it above.
    assert axis.get_ylim() == pytest.approx((1.7, 6.5))


def test_the_plot_shows_the_fall_where_the_first_batch_was_easier():
    losses = [1.0, *[5.0] * 9, 5.0, 4.9, 2.0, 99.0]
    finder = LRFinder({"lr": [2.0**n for n in range(14)], "loss": losses})
    assert finder.plot().axes[0].get_ylim() == pytest.approx((0.6, 7.0))  # 1 to 5


def test_an_optimizer_keeps_all_but_its_schedule():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    scaled = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(schedule, beta_1=0.5, clipnorm=2.0), initial_scale=8.0
    )
    constant = constant_rate(scaled, 0.25)
    constant.learning_rate = 0.5
    assert float(constant.learning_rate) == 0.5
    inner = constant.inner_optimizer
    assert (inner.beta_1, inner.clipnorm, constant.initial_scale) == (0.5, 2.0, 8.0)
    assert float(constant_rate("adam", 0.25).learning_rate) == 0.25
    assert constant_rate(kd.training.TorchSGD(schedule, 0.7), 0.25).momentum == 0.7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_lr": 1.0}, "min_lr=1.0, max_lr=1.0"),
        ({"min_lr": 0.0}, "above 0"),
        ({"num_training": 13}, "num_training must be 14 or more"),
        ({"mode": "log"}, "'exponential' or 'linear'"),
        ({"early_stop_threshold": 1.0}, "above 1"),
        ({"module": keras.Sequential()}, "Pass ImageClassifier"),
    ],
)
def test_a_range_test_that_cannot_work_is_refused(arguments, message):
    given = {"module": Parabola(one_weight), "datamodule": Targets()} | arguments
    with pytest.raises(MisconfigurationError, match=message):
        kd.Tuner(kd.Trainer()).lr_find(**given)


def test_several_workers_are_refused():
    trainer = kd.Trainer()
    trainer.flags = replace(trainer.flags, num_nodes=2)
    with pytest.raises(MisconfigurationError, match="several workers"):
        kd.Tuner(trainer).lr_find(Parabola(one_weight), Targets())


# --- scale_batch_size -----------------------------------------------------------------

DOUBLED = [2, 4, 8, 16, 32, 64, 128]


@pytest.mark.parametrize(
    ("limit", "mode", "init_val", "highest", "max_trials", "tried", "expected"),
    [
        (100, "power", 2, 8192, 25, DOUBLED, 64),
        (100, "binsearch", 2, 8192, 25, [*DOUBLED, 96, 112, 104, 100, 102, 101], 100),
        (100, "power", 2, 8192, 3, [2, 4, 8], 8),
        (100, "binsearch", 2, 8192, 8, [*DOUBLED, 96], 96),
        (100, "power", 2, 50, 25, [2, 4, 8, 16, 32], 32),
        (100, "binsearch", 2, 50, 25, [2, 4, 8, 16, 32, 50], 50),
        (5, "power", 32, 8192, 25, [32, 16, 8, 4], 4),
        (5, "binsearch", 32, 8192, 25, [32, 16, 8, 4, 6, 5], 5),
        (0, "power", 4, 8192, 25, [4, 2, 1], 0),
        (0, "binsearch", 4, 8192, 25, [4, 2, 1], 0),
    ],
)
def test_the_search(limit, mode, init_val, highest, max_trials, tried, expected):
    sizes = []

    def fits(size):
        sizes.append(size)
        return size <= limit

    assert largest_fitting(fits, mode, init_val, highest, max_trials) == expected
    assert sizes == tried


@pytest.mark.slow
def test_a_batch_size_that_fits_is_set(tmp_path, capsys):
    def linear(classes, input_shape):  # as in a notebook: nobody else can import it
        flat = [keras.Input(input_shape), keras.layers.Flatten()]
        return keras.Sequential([*flat, keras.layers.Dense(classes, "softmax")])

    module, data = kd.ImageClassifier(linear), kd.data.Digits(batch_size=32)
    tuner, state = kd.Tuner(kd.Trainer(precision="bf16-mixed")), random.getstate()
    assert tuner.scale_batch_size(module, data, init_val=4, max_val=7) == 4
    assert data.batch_size == 4
    assert module.model is None
    assert random.getstate() == state
    out = capsys.readouterr().out
    assert "Batch size 4 fits: " in out
    assert "Digits.batch_size is now 4" in out
    assert not list(tmp_path.iterdir())


def test_a_process_above_the_memory_is_ended(capsys):
    # TensorFlow alone takes more than 50 MB.
    data = kd.data.Digits(batch_size=32)
    module = kd.ImageClassifier(kd.DenseNetBC, depth=10)
    with pytest.raises(MisconfigurationError, match=r"fits in 0\.05 GB"):
        kd.Tuner(kd.Trainer()).scale_batch_size(module, data, memory_gb=0.05)
    assert data.batch_size == 32
    out = capsys.readouterr().out
    for size in (2, 1):
        assert f"Batch size {size} does not fit: more than 50 MB" in out


class BrokenError(ValueError):
    pass


def broken(input_shape):
    raise BrokenError("a layer is missing")


@pytest.mark.slow
def test_an_error_of_the_network_is_not_too_large_a_batch():
    data = kd.data.Digits(batch_size=32)
    with pytest.raises(BrokenError, match="a layer is missing") as raised:
        kd.Tuner(kd.Trainer()).scale_batch_size(kd.ImageClassifier(broken), data)
    assert str(raised.value) == "a layer is missing"
    assert "trial of batch size 2" in raised.value.__notes__[0]
    assert "in broken" in raised.value.__notes__[0]
    assert data.batch_size == 32


def test_data_that_do_not_heed_the_batch_size_are_refused():
    batches = Targets(batch_size=2).train_dataset()
    _refuse_another_size(batches, "batch_size", 2)
    with pytest.raises(MisconfigurationError, match="the first training batch has 2"):
        _refuse_another_size(batches, "batch_size", 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "linear"}, "'power' or 'binsearch'"),
        ({"steps_per_trial": 0}, "steps_per_trial must be 1 or more"),
        ({"init_val": 0}, "init_val must be 1 or more"),
        ({"init_val": 1258}, "above the largest batch size to try, 1257"),
        ({"init_val": 8, "max_val": 4}, "above the largest batch size to try, 4"),
        ({"max_trials": 0}, "max_trials must be 1 or more"),
        ({"memory_gb": 0.0}, "memory_gb must be above 0"),
        ({"batch_arg_name": "batch"}, "Digits has no attribute batch"),
        ({"module": keras.Sequential()}, "Pass ImageClassifier"),
    ],
)
def test_a_search_that_cannot_work_is_refused(arguments, message):
    module = kd.ImageClassifier(kd.DenseNetBC, depth=10)
    given = {"module": module, "datamodule": kd.data.Digits()} | arguments
    with pytest.raises(MisconfigurationError, match=message):
        kd.Tuner(kd.Trainer()).scale_batch_size(**given)


def test_a_gpu_that_this_process_takes_whole_is_refused(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    grows = tf.config.experimental
    monkeypatch.setattr(grows, "get_memory_growth", lambda gpu: False)
    with pytest.raises(MisconfigurationError, match="TF_FORCE_GPU_ALLOW_GROWTH"):
        refuse_full_gpus()
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    refuse_full_gpus()
    monkeypatch.delenv("TF_FORCE_GPU_ALLOW_GROWTH")
    monkeypatch.setattr(grows, "get_memory_growth", lambda gpu: True)
    refuse_full_gpus()


def test_several_devices_are_refused():
    trainer = kd.Trainer(strategy="mirrored", devices=2)
    with pytest.raises(MisconfigurationError, match=r"Trainer\(devices=1\)"):
        kd.Tuner(trainer).scale_batch_size(Parabola(one_weight), Targets())


def test_what_cannot_be_sent_to_a_process_is_refused():
    data = kd.data.Digits()
    data.pictures = tf.data.Dataset.range(3)
    with pytest.raises(MisconfigurationError, match=r"in setup\(\)"):
        kd.Tuner(kd.Trainer()).scale_batch_size(
            kd.ImageClassifier(kd.DenseNetBC, depth=10), data, max_val=2
        )
