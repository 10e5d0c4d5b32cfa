"""Recomputation is exact: loss, gradients and state are those of the plain block."""

import collections
import contextlib
import functools
import gc
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_densenet as kd
from keras_densenet.devices.strategy import make_strategy

FOLDERS = [str(folder) for folder in Path(__file__).parents[:2]]
MODES = [True, "full"]
SHAPES = {1: (6, 64, 5), 2: (6, 8, 8, 5), 3: (6, 4, 4, 4, 5)}
SHAPE = SHAPES[2]
RUNS = {
    "eager": lambda step: step,
    "graph": tf.function,
    "xla": lambda step: tf.function(step, jit_compile=True),
}


@pytest.fixture(
    autouse=True,
    params=[2, *(pytest.param(rank, marks=pytest.mark.slow) for rank in (1, 3))],
    ids=["pictures", "signals", "volumes"],
)
def _of_rank(request, monkeypatch):
    """Let every test be one of signals, and one of volumes, too."""
    monkeypatch.setattr(sys.modules[__name__], "SHAPE", SHAPES[request.param])


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def block(mode, policy="float32", **options):
    keras.utils.set_random_seed(3)
    options = {"dropout_rate": 0.2, "memory_efficient": mode, **options}
    layer = kd.layers.DenseBlock(3, 4, dtype=policy, **options)
    layer.build((None, *SHAPE[1:]))
    return layer


def training_step(layer):
    """Return a function from pictures to loss and gradients, with a curved loss."""
    weights = normal(*layer.compute_output_shape((1, *SHAPE[1:])), seed=1)

    def step(x):
        variables = [v.value for v in layer.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(tf.cast(x, layer.compute_dtype), training=True)
            loss = tf.reduce_mean(tf.nn.softmax(tf.cast(y, tf.float32)) * weights)
            loss *= 2.0**10  # as loss scaling does, for 16 bits
        return loss, tape.gradient(loss, [x, *variables])

    return step


def assert_same(plain, other, steps, run, tolerance=1e-5):
    """Take the steps with both layers, and compare losses, gradients and state."""
    expected_step, step = (run(training_step(layer)) for layer in (plain, other))
    for x in steps:
        (expected_loss, expected), (loss, gradients) = expected_step(x), step(x)
        if tolerance <= 1e-5:
            # A stem that convolves again normalizes by another kernel.
            rounding = 1e-6 if isinstance(other, kd.layers.Stem) else 0
            assert float(loss) == pytest.approx(float(expected_loss), rel=rounding)
        for ours, theirs in zip(gradients, expected, strict=True):
            scale = np.abs(theirs.numpy()).max()
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * scale)
    state = zip(
        plain.non_trainable_variables, other.non_trainable_variables, strict=True
    )
    for expected, ours in state:
        np.testing.assert_array_equal(ours.numpy(), expected.numpy())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "how", ["eager", "graph", pytest.param("xla", marks=pytest.mark.slow)]
)
def test_two_steps_of_a_block_with_dropout(how, mode):
    steps = [tf.constant(normal(*SHAPE, seed=i)) for i in range(2)]
    assert_same(block(False), block(mode), steps, RUNS[how])


def test_without_bottlenecks():
    steps = [tf.constant(normal(*SHAPE))]
    plain, other = (block(mode, bottleneck=False) for mode in (False, "full"))
    assert_same(plain, other, steps, tf.function)


@pytest.mark.parametrize("mode", MODES)
def test_bottlenecks_of_another_width(mode):
    steps = [tf.constant(normal(*SHAPE))]
    plain, other = (block(mode, bn_size=2) for mode in (False, mode))
    assert_same(plain, other, steps, tf.function)


@pytest.mark.parametrize("mode", MODES)
def test_dilated_layers(mode):
    steps = [tf.constant(normal(*SHAPE))]
    plain, other = (block(mode, dilation_rate=2) for mode in (False, mode))
    assert_same(plain, other, steps, tf.function)


@pytest.mark.parametrize("mode", [pytest.param(True, marks=pytest.mark.slow), "full"])
def test_partial_batches_of_one_graph(mode):
    signature = [tf.TensorSpec((None, *SHAPE[1:]))]
    steps = [tf.constant(normal(n, *SHAPE[1:])) for n in (6, 3, 1)]
    assert_same(
        block(False),
        block(mode),
        steps,
        lambda step: tf.function(step, input_signature=signature),
    )


@pytest.mark.parametrize("mode", [pytest.param(True, marks=pytest.mark.slow), "full"])
@pytest.mark.parametrize(
    ("policy", "tolerance"), [("mixed_bfloat16", 2e-2), ("mixed_float16", 2e-3)]
)
def test_sixteen_bits(policy, tolerance, mode):
    steps = [tf.constant(normal(*SHAPE))]
    plain, other = block(False, policy), block(mode, policy)
    assert_same(plain, other, steps, tf.function, tolerance)
    assert {v.dtype for v in other.trainable_variables} == {"float32"}


@pytest.mark.parametrize("mode", MODES)
def test_frozen_batch_norms_and_layers(mode):
    plain, other = block(False), block(mode)
    for layer in (plain, other):
        layer.dense_layers[0].trainable = False
        layer.dense_layers[1].bottleneck_bn.trainable = False
        layer.dense_layers[2].bn.trainable = False
    moving = other.dense_layers[2].bn.moving_mean.numpy()
    assert_same(plain, other, [tf.constant(normal(*SHAPE))], tf.function)
    np.testing.assert_array_equal(other.dense_layers[2].bn.moving_mean, moving)


def transition(mode, policy="float32", **options):
    keras.utils.set_random_seed(3)
    options = {"dropout_rate": 0.2, "memory_efficient": mode, **options}
    layer = kd.layers.Transition(0.75, dtype=policy, **options)
    layer.build((None, *SHAPE[1:]))
    return layer


@pytest.mark.parametrize("how", RUNS)
@pytest.mark.parametrize("rate", [0.0, 0.2])
def test_two_steps_of_a_transition(rate, how):
    steps = [tf.constant(normal(*SHAPE, seed=i)) for i in range(2)]
    plain, other = (transition(mode, dropout_rate=rate) for mode in (False, "full"))
    assert_same(plain, other, steps, RUNS[how])


@pytest.mark.parametrize("how", RUNS)
@pytest.mark.parametrize(
    "options", [{"strides": 1, "dilation_rate": 2}, {"pooling": "max"}]
)
def test_two_steps_of_transitions_that_pool_otherwise(options, how):
    steps = [tf.constant(normal(*SHAPE, seed=i)) for i in range(2)]
    options = {"dropout_rate": 0.2, **options}
    plain, other = (transition(mode, **options) for mode in (False, "full"))
    assert_same(plain, other, steps, RUNS[how])


def test_a_frozen_transition():
    plain, other = (transition(mode) for mode in (False, "full"))
    plain.trainable = other.trainable = False
    assert_same(plain, other, [tf.constant(normal(*SHAPE))], tf.function)


def test_a_transition_in_sixteen_bits():
    steps = [tf.constant(normal(*SHAPE))]
    plain, other = (transition(mode, "mixed_bfloat16") for mode in (False, True))
    assert_same(plain, other, steps, tf.function, 2e-2)
    assert other.conv.kernel.dtype == "float32"


@pytest.mark.parametrize("mode", MODES)
def test_moving_statistics_move_once_a_step(mode):
    layer = block(mode, dropout_rate=0.0)
    x = normal(*SHAPE)
    RUNS["graph"](training_step(layer))(tf.constant(x))
    # From 0 and 1, with momentum 0.9.
    pixels = tuple(range(x.ndim - 1))
    mean, variance = x.mean(pixels), x.var(pixels)
    bn = layer.dense_layers[0].bottleneck_bn
    np.testing.assert_allclose(bn.moving_mean, 0.1 * mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(bn.moving_variance, 0.9 + 0.1 * variance, rtol=1e-4)


def stem(mode, policy="float32", **options):
    keras.utils.set_random_seed(3)
    layer = kd.layers.Stem(7, memory_efficient=mode, dtype=policy, **options)
    layer.build((None, *SHAPE[1:]))
    return layer


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", RUNS)
def test_two_steps_of_a_stem(how, mode):
    # Of the second step's pictures each is a part by itself.
    steps = [tf.constant(normal(n, *SHAPE[1:], seed=n)) for n in (6, 3)]
    assert_same(stem(False), stem(mode), steps, RUNS[how])


def test_fewer_pictures_than_parts_of_a_stem():
    """The gradient cuts a batch into 4 parts: of 1, 2 or 3 pictures some are empty."""
    signature = [tf.TensorSpec((None, *SHAPE[1:]))]
    steps = [tf.constant(normal(n, *SHAPE[1:])) for n in (6, 1, 2, 3, 9)]
    run = functools.partial(tf.function, input_signature=signature)
    assert_same(stem(False), stem("full"), steps, run)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("frozen", [["bn"], ["conv"], ["bn", "conv"]])
def test_a_frozen_stem(frozen, mode):
    plain, other = stem(False), stem(mode)
    for layer in (plain, other):
        for part in frozen:
            getattr(layer, part).trainable = False
    assert_same(plain, other, [tf.constant(normal(*SHAPE))], tf.function)


@pytest.mark.parametrize("mode", MODES)
def test_a_stem_in_sixteen_bits(mode):
    steps = [tf.constant(normal(*SHAPE))]
    plain, other = (stem(mode, "mixed_bfloat16") for mode in (False, mode))
    assert_same(plain, other, steps, tf.function, 2e-2)
    assert other.conv.kernel.dtype == "float32"


@pytest.mark.parametrize("mode", MODES)
def test_moving_statistics_of_a_stem_move_once_a_step(mode):
    layer, x = stem(mode), tf.constant(normal(*SHAPE))
    maps = np.asarray(layer._maps(x))
    RUNS["graph"](training_step(layer))(x)
    # From 0 and 1, with momentum 0.9.
    pixels = tuple(range(maps.ndim - 1))
    mean, variance = maps.mean(pixels), maps.var(pixels)
    np.testing.assert_allclose(layer.bn.moving_mean, 0.1 * mean, rtol=1e-4, atol=1e-6)
    moved = layer.bn.moving_variance
    np.testing.assert_allclose(moved, 0.9 + 0.1 * variance, rtol=1e-4)


def penalty(layer, by, curve):
    """Return a function that takes the second derivative by pictures or weights."""

    def function(x):
        variables = [v.value for v in layer.trainable_variables]
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(curve(layer(x, training=True))) + tf.reduce_sum(
                    x**3
                )
            slope = tf.reduce_sum(inner.gradient(loss, x) ** 2)
        return outer.gradient(slope, x if by == "pictures" else variables)

    return function


@pytest.mark.parametrize(
    "how", ["eager", pytest.param("graph", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("by", ["pictures", "weights"])
@pytest.mark.parametrize("curve", [tf.square, tf.identity])
def test_second_derivatives_are_refused(how, by, curve):
    """This holds also for a linear loss, where only the layers can refuse."""
    for layer in (
        block("full"),
        block(True),
        transition(True),
        stem(True),
        stem("full"),
    ):
        with pytest.raises(NotImplementedError, match="memory_efficient=False"):
            RUNS[how](penalty(layer, by, curve))(tf.constant(normal(*SHAPE)))


@pytest.mark.parametrize("make", ["block", "transition", "stem"])
def test_second_derivatives_in_plain_mode(make):
    """They are compared with differences of the first derivative, in float64."""
    options = {} if make == "stem" else {"dropout_rate": 0.0}
    make = {"block": block, "transition": transition, "stem": stem}[make]
    layer, single = make(False, "float64", **options), make(False, **options)
    single.set_weights(layer.get_weights())
    x, direction = normal(*SHAPE).astype("float64"), normal(*SHAPE, seed=5)

    def slope(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.sin(layer(x, training=True))) + tf.reduce_sum(x**3)
        return tf.reduce_sum(tape.gradient(loss, x) ** 2)

    step = 1e-6
    up, down = (slope(tf.constant(x + s * direction)) for s in (step, -step))
    expected = float(up - down) / (2 * step)
    for of_type, tolerance in ((layer, 1e-5), (single, 1e-3)):
        batch = tf.constant(x.astype(of_type.compute_dtype))
        second = penalty(of_type, "pictures", tf.sin)(batch)
        ours = float(np.sum(second.numpy() * direction))
        assert ours == pytest.approx(expected, rel=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [False, *MODES])
@pytest.mark.parametrize("make", ["block", "stem"])
def test_in_a_branch_and_in_a_loop(make, mode):
    layer = block(mode, dropout_rate=0.0) if make == "block" else stem(mode)
    x = tf.constant(normal(*SHAPE))
    shape = layer.compute_output_shape(SHAPE)

    def gradients(function):
        @tf.function
        def run(x, yes):
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(tf.sin(function(x, yes)))
            return tape.gradient(loss, [x, *(v.value for v in variables)])

        variables = layer.trainable_variables
        return run(x, tf.constant(True))

    def branch(x, yes):
        return tf.cond(yes, lambda: layer(x, training=True), lambda: tf.zeros(shape))

    def loop(x, yes):
        del yes
        y = tf.zeros(shape)
        _, y = tf.while_loop(
            lambda i, y: i < 1,
            lambda i, y: (i + 1, y + layer(x, training=True)),
            (0, y),
        )
        return y

    expected = gradients(lambda x, yes: layer(x, training=True))
    for function in (branch, loop):
        for ours, theirs in zip(gradients(function), expected, strict=True):
            scale = np.abs(theirs.numpy()).max()
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * scale)


def test_a_frozen_synchronized_transition():
    plain, other = (transition(mode, sync_batchnorm=True) for mode in (False, "full"))
    for layer in (plain, other):
        layer.bn.trainable = False
    assert_same(plain, other, [tf.constant(normal(*SHAPE))], tf.function)


# --- what is stored --------------------------------------------------------------


def floats_kept_for_the_gradient(layer):
    """Count the floats of maps that the forward pass makes and the gradient reads."""
    x = tf.zeros(SHAPE)

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        tf.identity(0.0, name="the_gradient_begins")
        return tape.gradient(y, x)

    operations = step.get_concrete_function(x).graph.get_operations()
    names = [operation.name for operation in operations]
    begin = names.index("the_gradient_begins")
    backward = {operation.name for operation in operations[begin:]}
    same = {"Identity", "IdentityN", "StopGradient", "Reshape", "Placeholder"}

    def made_by(tensor):
        while tensor.op.type in same and tensor.op.inputs:
            tensor = tensor.op.inputs[tensor.value_index]
        return tensor

    kept = {
        made_by(tensor).ref()
        for operation in operations[begin:]
        if operation.type not in ("IdentityN", "ZerosLike", "Shape", "Size")
        for tensor in operation.inputs
        if tensor.op.name not in backward
    }
    shapes = [tensor.deref().shape for tensor in kept]
    pixels = np.prod(SHAPE[:-1])
    of_pictures = [s for s in shapes if s.rank and s[0] in (SHAPE[0], pixels)]
    sizes = [shape.num_elements() for shape in of_pictures]
    return sum(size for size in sizes if size >= pixels) / pixels


@pytest.mark.parametrize(
    ("mode", "bn_size", "channels"),
    [
        # The block's output: 5 maps read and 3 layers' 4.
        ("full", 4, 5 + 3 * 4),
        ("full", 2, 5 + 3 * 4),
        # And 16 maps of each bottleneck, or 8.
        (True, 4, 5 + 3 * 4 + 3 * 16),
        (True, 2, 5 + 3 * 4 + 3 * 8),
    ],
)
def test_what_a_block_stores(mode, bn_size, channels):
    """The numbers follow from the design of the modes, in maps of the batch's size."""
    layer = block(mode, dropout_rate=0.0, bn_size=bn_size)
    assert floats_kept_for_the_gradient(layer) == channels


def test_plain_stores_what_grows_with_the_square_of_the_depth():
    # A layer that reads C maps stores the C, concatenated, and again normalized; its
    # bottleneck's 16 twice, too: 2 (5 + 9 + 13) + 3 * 2 * 16, and more.
    layer = block(False, dropout_rate=0.0)
    assert floats_kept_for_the_gradient(layer) >= 2 * (5 + 9 + 13) + 3 * 2 * 16


def test_what_a_transition_stores():
    """It stores what it reads, 5 maps."""
    assert floats_kept_for_the_gradient(transition(True, dropout_rate=0.0)) == 5


def test_what_a_stem_stores():
    """With "full" it stores what it reads, 5 channels, alone."""
    assert floats_kept_for_the_gradient(stem("full")) == 5


@pytest.mark.parametrize("mode", ["all", 1, 1.0, None])
def test_unknown_mode_is_refused(mode):
    words = rf"'full'.*Received: memory_efficient={mode!r}"
    with pytest.raises(ValueError, match=words):
        kd.DenseNetBC(depth=16, memory_efficient=mode)
    assert block(np.True_).memory_efficient is True


def network(mode, **options):
    keras.utils.set_random_seed(5)
    options = {"dropout_rate": 0.2, **options}
    return kd.DenseNetBC(10, 4, input_shape=(8, 8, 3), memory_efficient=mode, **options)


def trained(mode, scope=None, steps=3, **options):
    """Train a network for some steps, and return its losses and all its weights."""
    images = normal(12, 8, 8, 3)
    labels = np.arange(12) % 10
    data = tf.data.Dataset.from_tensors((images, labels)).unbatch().batch(6).repeat()
    with scope() if scope else contextlib.nullcontext():
        model = network(mode, **options.pop("network", {}))
        optimizer = kd.training.TorchSGD(0.05, **options)
        model.compile(optimizer, "sparse_categorical_crossentropy")
    history = model.fit(data, steps_per_epoch=steps, shuffle=False, verbose=0)
    return history.history["loss"], model.get_weights()


def assert_trained_alike(first, second):
    np.testing.assert_allclose(first[0], second[0], rtol=1e-6)
    for a, b in zip(first[1], second[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_two_replicas(mode):
    scope = make_strategy("mirrored", 2).scope  # a process has one, which is cached
    assert_trained_alike(trained(mode, scope), trained(False, scope))


SYNCHRONIZED = """
import sys
import numpy as np
import tensorflow as tf
sys.path[:0] = {folders!r}  # of conftest.py and of this file
import conftest
from test_recomputation import trained

scope = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope
losses, weights = trained({mode!r}, scope, network=dict(sync_batchnorm=True))
np.savez({path!r}, losses, *weights)
"""


@pytest.mark.slow
def test_two_replicas_with_synchronized_batch_norm(tmp_path):
    # TensorFlow's CPU collectives remember the shapes of a process's first program, so
    # that each mode needs a process of its own.
    results = []
    for mode in (False, *MODES):
        path = str(tmp_path / f"{mode}.npz")
        code = SYNCHRONIZED.format(folders=FOLDERS, mode=mode, path=path)
        subprocess.run([sys.executable, "-c", code], check=True)
        with np.load(path) as saved:
            losses, *weights = (saved[f"arr_{i}"] for i in range(len(saved.files)))
        results.append((losses, weights))
    plain, true, full = results
    assert_trained_alike(true, plain)
    assert_trained_alike(full, plain)


UNEQUAL_SHARES = """
import sys
import numpy as np
import tensorflow as tf
sys.path[:0] = {folders!r}  # of conftest.py and of this file
import conftest
from test_recomputation import block, normal, stem

batch = normal(6, 8, 8, 5) + np.arange(6, dtype="float32").reshape(-1, 1, 1, 1)
make, options = {{
    "block": (block, dict(dropout_rate=0.0)),
    "stem": (stem, dict()),
}}[{make!r}]
curve = normal(1, *make(False).compute_output_shape(batch.shape)[1:], seed=1)

def loss_and_gradients(layer, x):
    variables = [v.value for v in layer.trainable_variables]
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.sin(layer(x, training=True)) * curve)
    return loss, tape.gradient(loss, variables)

def one_device():
    layer = make(False, **options)
    loss, gradients = loss_and_gradients(layer, tf.constant(batch))
    return [loss, *gradients, *layer.non_trainable_variables]

def two_devices():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        layer = make({mode!r}, sync_batchnorm=True, **options)
    shares = np.split(batch, [4])
    shares = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(shares[context.replica_id_in_sync_group])
    )

    @tf.function
    def run(shares):
        def replica(x):
            loss, gradients = loss_and_gradients(layer, x)
            context = tf.distribute.get_replica_context()
            return context.all_reduce("SUM", [loss, *gradients])
        return strategy.run(replica, args=(shares,))

    sums = [strategy.experimental_local_results(v)[0] for v in run(shares)]
    return [*sums, *layer.non_trainable_variables]

for ours, theirs in zip(two_devices(), one_device(), strict=True):
    scale = np.abs(theirs.numpy()).max()
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=0, atol=1e-5 * scale)
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", [False, "full"])
@pytest.mark.parametrize("make", ["block", "stem"])
def test_unequal_shares_of_a_batch_with_synchronized_batch_norm(make, mode):
    """Four pictures on one device and two on another are like six on one."""
    code = UNEQUAL_SHARES.format(folders=FOLDERS, make=make, mode=mode)
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_gradient_accumulation():
    options = {"gradient_accumulation_steps": 2, "steps": 4}
    assert_trained_alike(trained("full", **options), trained(False, **options))


def test_weights_go_from_mode_to_mode(tmp_path):
    plain, true, full = (network(mode) for mode in (False, True, "full"))
    images = normal(4, 8, 8, 3)
    full.set_weights(plain.get_weights())
    np.testing.assert_array_equal(full.predict(images), plain.predict(images))
    full.save(tmp_path / "full.keras")
    true.load_weights(tmp_path / "full.keras")
    np.testing.assert_array_equal(true.predict(images), plain.predict(images))
    again = keras.models.load_model(tmp_path / "full.keras")
    assert again.get_layer("dense_block1").memory_efficient == "full"
    np.testing.assert_array_equal(again.predict(images), plain.predict(images))


def operations(model, path):
    """Count the operations of an exported model by their types."""
    model.export(path, verbose=False)
    served = tf.saved_model.load(path).signatures["serving_default"]
    graph = served.graph.as_graph_def()
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    return collections.Counter(node.op for node in nodes)


def test_an_export_has_neither_recomputation_nor_custom_gradients(tmp_path):
    plain = operations(network(False), tmp_path / "plain")
    full = operations(network("full"), tmp_path / "full")
    assert full == plain
    assert "IdentityN" not in full


def test_no_tensor_outlives_its_step():
    layer = block("full")
    step = training_step(layer)
    step(tf.constant(normal(*SHAPE)))
    gc.collect()
    before = sum(isinstance(thing, tf.Tensor) for thing in gc.get_objects())
    for i in range(3):
        step(tf.constant(normal(*SHAPE, seed=i)))
    gc.collect()
    assert sum(isinstance(thing, tf.Tensor) for thing in gc.get_objects()) == before
