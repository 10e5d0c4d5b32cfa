import keras
import numpy as np
import pytest
import torch_steps

import keras_densenet as kd
from keras_densenet.training import TorchSGD, step_schedule

GRADIENTS = [0.5, -1.0, 2.0]


@pytest.fixture(params=["TensorFlow's kernel", "any backend"])
def path(request, monkeypatch):
    """Both ways of taking a step: the second one is that of JAX and PyTorch."""
    if request.param == "any backend":
        monkeypatch.setattr(keras.backend, "backend", lambda: "another")


def trained(optimizer, w=3.0):
    variable = keras.Variable([w])
    values = []
    for gradient in GRADIENTS:
        optimizer.apply([keras.ops.array([gradient])], [variable])
        values.append(float(variable[0]))
    return values


@pytest.mark.usefixtures("path")
def test_three_steps_by_hand():
    # wd 0.1, momentum 0.5, rate 0.1, w = 3:
    # 1: g = 0.5 + 0.3 = 0.8;             v = 0.8;           step 0.8 + 0.4 = 1.2
    #    w = 2.88
    # 2: g = -1 + 0.288 = -0.712;         v = 0.4 - 0.712 = -0.312
    #    step -0.712 - 0.156 = -0.868;    w = 2.9668
    # 3: g = 2 + 0.29668 = 2.29668;       v = -0.156 + 2.29668 = 2.14068
    #    step 2.29668 + 1.07034 = 3.36702; w = 2.630098
    values = trained(TorchSGD(0.1, 0.5, weight_decay=0.1))
    assert values == pytest.approx([2.88, 2.9668, 2.630098], rel=1e-6)


@pytest.mark.usefixtures("path")
def test_three_steps_without_nesterov_by_hand():
    # As above, but the step is v: 0.8, then with w = 2.92 g = -0.708 and v = -0.308,
    # then with w = 2.9508 g = 2.29508 and v = 2.14108.
    values = trained(TorchSGD(0.1, 0.5, nesterov=False, weight_decay=0.1))
    assert values == pytest.approx([2.92, 2.9508, 2.736692], rel=1e-6)


@pytest.mark.usefixtures("path")
def test_a_drop_of_the_rate_acts_at_once():
    # v = 1, then 1.5, then 1.75; rates 1, 1, 0: with the rate inside the velocity, as
    # Keras has it, the third step would still move.
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1], [1.0, 0.0])
    optimizer = TorchSGD(schedule, 0.5, nesterov=False, weight_decay=0.0)
    variable = keras.Variable([0.0])
    values = []
    for _ in range(3):
        optimizer.apply([keras.ops.array([1.0])], [variable])
        values.append(float(variable[0]))
    assert values == pytest.approx([-1.0, -2.5, -2.5])


@pytest.mark.usefixtures("path")
def test_a_layers_own_rate_by_hand():
    # rate 0.1, of this layer a tenth; momentum 0.5, w = 3:
    # v = 0.5, -0.75, 1.625; steps 0.75, -1.375, 2.8125, each times 0.01
    optimizer = TorchSGD(0.1, 0.5, weight_decay=0.0, layer_rates={"stem": 0.1})
    with keras.name_scope("stem"):
        variable = keras.Variable([3.0], name="kernel")
    values = []
    for gradient in GRADIENTS:
        optimizer.apply([keras.ops.array([gradient])], [variable])
        values.append(float(variable[0]))
    assert values == pytest.approx([2.9925, 3.00625, 2.978125], rel=1e-6)


def test_it_is_torchs_own():
    # torch 2.13.0: SGD([weight], 0.1, momentum=0.9, weight_decay=1e-4, nesterov=True)
    expected = [2.9049429893493652, 3.054363489151001, 2.7188100814819336]
    assert trained(TorchSGD()) == pytest.approx(expected, rel=1e-6)


def _losses_of_twenty_steps():
    model = kd.DenseNetBC(torch_steps.DEPTH, torch_steps.GROWTH_RATE)
    shapes = [tuple(weight.shape) for weight in model.trainable_weights]
    for weight, value in zip(
        model.trainable_weights, torch_steps.drawn(shapes), strict=True
    ):
        weight.assign(value)
    schedule = step_schedule(
        torch_steps.RATE, torch_steps.STEPS, (0.5,), torch_steps.FACTOR
    )
    optimizer = TorchSGD(
        schedule, torch_steps.MOMENTUM, weight_decay=torch_steps.WEIGHT_DECAY
    )
    model.compile(optimizer, "sparse_categorical_crossentropy")
    losses = []
    for images, labels in torch_steps.batches():
        losses.append(float(model.train_on_batch(images, labels)))
        model.reset_metrics()
    return losses


def test_twenty_steps_of_a_network_are_torchs_own():
    """BN, loss, Nesterov, weight decay and a drop of the rate after ten steps."""
    expected = [  # python tests/helpers/torch_steps.py, torch 2.14.1
        2.75649923,
        2.24717069,
        2.09998003,
        1.94066257,
        1.77559646,
        1.64355949,
        1.48849676,
        1.46278008,
        2.06474987,
        1.3971154,
        1.40552635,
        1.54404516,
        1.18194912,
        1.27465027,
        1.13671411,
        1.55531036,
        1.26137068,
        1.15192464,
        1.31517003,
        1.45877924,
    ]
    keras.config.set_floatx("float64")
    try:
        losses = _losses_of_twenty_steps()
    finally:
        keras.config.set_floatx("float32")
    assert losses == pytest.approx(expected, rel=1e-8)


def test_it_is_made_again_from_its_config():
    optimizer = TorchSGD(step_schedule(0.1, 100), 0.8, False, 1e-3)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()
    assert (again.momentum, again.nesterov) == (0.8, False)
    assert (again.coupled_weight_decay, again.weight_decay) == (1e-3, None)


def test_rates_of_the_papers_schedules():
    rates = [round(float(step_schedule(0.1, 8)(step)), 6) for step in range(8)]
    assert rates == [0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    imagenet = step_schedule(0.1, 9, milestones=(1 / 3, 2 / 3))
    rates = [round(float(imagenet(step)), 6) for step in range(9)]
    assert rates == [0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.001, 0.001, 0.001]


def test_weight_decay_is_on_all_trainable_weights():
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3), keras.layers.BatchNormalization()]
    )
    optimizer = TorchSGD(1.0, 0.0, weight_decay=0.5)
    before = [np.array(w) for w in model.trainable_weights]
    zeros = [keras.ops.zeros(w.shape) for w in model.trainable_weights]
    optimizer.apply(zeros, model.trainable_weights)
    for now, then in zip(model.trainable_weights, before, strict=True):
        np.testing.assert_allclose(now, 0.5 * then, rtol=1e-6)
