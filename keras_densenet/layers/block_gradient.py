"""The gradient of a whole dense block on TensorFlow, with little stored for it.

`tf.recompute_grad` around each layer is exact too. But a layer that reads all the maps
before it gives each of them a gradient, and TensorFlow adds those up when it has them
all: memory grows with the square of the depth again. Here the gradient of a block's
maps is one buffer, from the last layer to the first: each layer takes what is its own
from the end, and adds what it passes on to the rest.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import tensorflow as tf

from keras_densenet.layers import tensorflow_kernels
from keras_densenet.layers.batch_norm import second_run
from keras_densenet.layers.shared_moments import (
    Moments,
    batch_moments,
    concatenate_moments,
)

if TYPE_CHECKING:
    from keras_densenet.layers.dense_layer import Stage
    from keras_densenet.layers.recomputation import LayerFunction

# Up to here a layer with all the batch needs less than the last ones with half of it.
_WIDE = 0.6


class _Run(NamedTuple):
    """What the gradient needs of the block's run."""

    layers: Sequence["LayerFunction"]
    weights: list[list]
    x: Any  # the block's output
    moments: list[tuple[Moments, Moments]]  # of what each layer reads and makes
    bottlenecks: list[list]  # one a layer where they are kept, else none
    synchronized: bool


def dense_block(
    layers: Sequence["LayerFunction"],
    x: Any,
    keep_bottlenecks: bool,
    synchronized: bool,
) -> Any:
    """Run the layers in training on `x`, `(N, H, W, C)`; give `(N, H, W, C + L k)`."""

    def moments_of(maps: Any) -> Moments:
        return batch_moments(maps, -1, synchronized)

    @tf.custom_gradient
    def block(x: Any, a_pixel: Any, given: list[list]) -> Any:
        x, weights = _not_recorded((x, given))
        moments, bottlenecks = [], []
        read = moments_of(x)
        for layer, values in zip(layers, weights, strict=True):
            with layer.scope(values) as scope:
                *inner, new = _outputs(layer, x, read)
            layer.assign(layer.new_state(scope))
            bottlenecks.append(inner if keep_bottlenecks else [])
            x = tf.concat([x, new], -1)  # (N, H, W, C + k)
            moments.append((read, moments_of(new)))
            read = concatenate_moments(*moments[-1])
        run = _Run(layers, weights, x, moments, bottlenecks, synchronized)
        backward = functools.partial(_backward, run)
        return x, _first_derivative_only(backward, a_pixel, given)

    return block(x, _a_pixel(x), [layer.weights for layer in layers])


def recomputed(
    function: "LayerFunction", stage: "Stage", x: Any, moments: Moments | None
) -> Any:
    """Give `stage(x, moments, True)`, of which only `x` and `moments` are stored.

    `tf.recompute_grad` does that too, but first it copies what it is given, and `x` is
    as large as what is to be saved.
    """

    @tf.custom_gradient
    def first_run(inputs: list, a_pixel: Any, given: list) -> Any:
        (x, *moments), weights = _not_recorded((inputs, given))
        with function.scope(weights) as scope:
            y = stage(x, Moments(*moments) if moments else None, True)
        function.assign(function.new_state(scope))

        def backward(d_y: Any) -> tuple[list, list]:
            with tf.control_dependencies([d_y]):
                inputs = [tf.identity(tensor) for tensor in (x, *moments)]
                again = _after(d_y, weights)
                d_inputs, d_weights = _gradients(function, stage, inputs, again, d_y)
            # A frozen batch norm does not use the moments.
            pairs = zip(d_inputs, inputs, strict=True)
            d_inputs = [tf.zeros_like(t) if d is None else d for d, t in pairs]
            return d_inputs, d_weights

        return y, _first_derivative_only(backward, a_pixel, given)

    return first_run([x, *(moments or ())], _a_pixel(x), function.weights)


def _not_recorded(tensors: Any) -> Any:
    """Give the tensors, of which an outer tape shall not record, and keep, the use."""
    return tf.nest.map_structure(tf.stop_gradient, tensors)


def _outputs(layer: "LayerFunction", x: Any, moments: Moments | None) -> list:
    outputs = []
    for stage in layer.layer.stages:
        x, moments = stage(x, moments, True), None
        outputs.append(x)
    return outputs


def _a_pixel(x: Any) -> Any:
    """Give a pixel of a batch, which a second derivative by the batch must pass."""
    return tf.slice(x, [0] * 4, [tf.minimum(tf.shape(x)[0], 1), 1, 1, 1])


def _first_derivative_only(
    backward: Callable[[Any], tuple], a_pixel: Any, given: list
) -> Callable[[Any], tuple]:
    """Make a gradient of `backward` that refuses to be differentiated by anything.

    What `backward` computes with is cut off from `given` and from the input that has
    `a_pixel`, so that a second derivative would be wrong, not missing. Here it finds
    `_refuse`.
    """

    @tf.custom_gradient
    def first_derivative(d_output: Any, a_pixel: Any, given: list) -> Any:
        del a_pixel, given
        with second_run():
            return backward(d_output), _refuse

    def gradient(d_output: Any) -> tuple:
        d_inputs, d_weights = first_derivative(d_output, a_pixel, given)
        return d_inputs, None, d_weights

    return gradient


def _refuse(*_: Any) -> None:
    raise NotImplementedError(
        "A layer that recomputes has no second derivative. Build the model "
        "with memory_efficient=False (the weights are the same: set_weights) and take "
        "the second derivative of that one."
    )


def _backward(run: _Run, d_x: Any) -> tuple[Any, list]:
    """Give the gradients by the block's input and weights, from the last layer on."""
    x, all_maps = run.x, run.x.shape[-1]
    weights = _in_this_graph(run.weights)
    d_moments = [tf.zeros([all_maps], v.dtype) for v in run.moments[0][0]]
    parts = _parts(d_x, run.layers[0], run.bottlenecks[0])
    d_parts = [part(d_x) for part in parts]
    d_weights = []
    for layer, values, (read, made), kept in reversed(
        list(zip(run.layers, weights, run.moments, run.bottlenecks, strict=True))
    ):
        widths = [x.shape[-1] - layer.layer.growth_rate, layer.layer.growth_rate]
        if len(parts) > 1 and widths[0] < _WIDE * all_maps:
            parts, d_parts = [tf.identity], [tf.concat(d_parts, 0)]
        d_parts, d_new = _split(d_parts, widths)
        # What is computed again must not be there before it is needed.
        with tf.control_dependencies(d_parts):
            x, new = tf.split(x, widths, -1)
            kept = [tf.identity(z) for z in kept]
        d_moments, d_made = _split(d_moments, widths)
        d_new = tf.concat(d_new, 0) if len(parts) > 1 else d_new[0]
        d_new += _by_moments(run, new, made, d_made)
        d_inputs, d_values = _layer_gradient(
            layer, x, Moments(*_after(d_new, read)), kept, values, d_new, parts
        )
        d_parts = [d + more[0] for d, more in zip(d_parts, d_inputs, strict=True)]
        d_moments = _total([d_moments, *(more[1:] for more in d_inputs)])
        d_weights.append(d_values)
    d_x = tf.concat(d_parts, 0) if len(parts) > 1 else d_parts[0]
    return d_x + _by_moments(run, x, run.moments[0][0], d_moments), d_weights[::-1]


def _layer_gradient(
    layer: "LayerFunction",
    x: Any,
    moments: Moments,
    kept: list,
    weights: list,
    d_new: Any,
    parts: list[Callable[[Any], Any]],
) -> tuple[list[list], list]:
    """Run a layer again, and give its gradients.

    Of the first stage each picture is on its own, with the moments given: it can be run
    on one part of the batch after the other.

    Returns:
        The gradients by `[x, mean, variance]` for each part, and by the weights.
    """
    d_weights = []
    first, *second = layer.layer.stages
    if second:
        if kept:
            (z,) = kept
        else:
            with layer.scope(weights):
                z = first(x, moments, True)  # (N, H, W, 4k)
        (d_new,), d_second = _gradients(layer, second[0], [z], weights, d_new)
        d_weights.append(d_second)
    d_inputs: list[list] = []
    done = [d_new]
    for part in parts:
        with tf.control_dependencies(done):  # one part after the other
            inputs = [part(x), *moments]
            d_part = part(d_new)
        d_first, d_values = _gradients(layer, first, inputs, weights, d_part)
        d_inputs.append(d_first)
        d_weights.append(d_values)
        done = [d for d in (*d_first, *d_values) if d is not None]
    return d_inputs, _total(d_weights)


def _gradients(
    layer: "LayerFunction", stage: "Stage", inputs: list, weights: list, d_output: Any
) -> tuple[list, list]:
    """Run a stage; give gradients by `(x)` or `(x, mean, variance)` and by weights."""
    with tf.GradientTape() as tape:
        tape.watch([inputs, weights])
        with layer.scope(weights):
            x, *moments = inputs
            output = stage(x, Moments(*moments) if moments else None, True)
    return tape.gradient(output, (inputs, weights), d_output)


def _by_moments(run: _Run, maps: Any, moments: Iterable, d_moments: Iterable) -> Any:
    """Give the gradient that reaches maps by way of their moments."""
    kernels = tensorflow_kernels
    by_moments = (
        kernels.synchronized_moments_gradient
        if run.synchronized
        else kernels.moments_gradient
    )
    mean, _ = moments
    return by_moments(maps, mean, *d_moments)


def _in_this_graph(weights: list[list]) -> list[list]:
    """Give tensors of this graph, which is another one for a branch or a loop's body.

    A tape finds no way from what it records to a tensor of an outer graph that was used
    before the tape began.
    """
    if tf.executing_eagerly():
        return weights
    here = tf.compat.v1.get_default_graph()
    return tf.nest.map_structure(
        lambda w: w if w.graph is here else tf.identity(w), weights
    )


def _split(tensors: Iterable, widths: list[int]) -> tuple[list, list]:
    """Split each on its last axis; give the first pieces and the second ones."""
    pairs = [tf.split(tensor, widths, -1) for tensor in tensors]
    return [first for first, _ in pairs], [second for _, second in pairs]


def _parts(x: Any, layer: "LayerFunction", kept: list) -> list[Callable[[Any], Any]]:
    """Give functions to the halves of a batch, where one after the other saves memory.

    It does where little is kept: the peak is then the block's maps, their gradient, and
    what a layer computes again, all of them of the same size in the last layers.
    """
    if kept or len(layer.layer.stages) == 1:
        return [tf.identity]
    half = (x.shape[0] or tf.shape(x)[0]) // 2
    begins = [0, 0, 0, 0], [half, 0, 0, 0]
    sizes = [half, -1, -1, -1], [-1, -1, -1, -1]
    return [
        functools.partial(_pictures, begin=tf.stack(begin), size=tf.stack(size))
        for begin, size in zip(begins, sizes, strict=True)
    ]


def _pictures(x: Any, begin: Any, size: Any) -> Any:
    part = tf.slice(x, begin, size)
    return tf.ensure_shape(part, [None, *x.shape[1:]])


def _total(gradients: Iterable[Iterable]) -> list:
    """Add up lists of gradients, in which None stands for zero."""
    sums = []
    for same in zip(*gradients, strict=True):
        first, *more = [d for d in same if d is not None]
        sums.append(tf.add_n([first, *more]) if more else first)
    return sums


def _after(first: Any, tensors: Iterable) -> list:
    """Give the tensors unchanged, in a way that needs `first`.

    XLA heeds no control dependency. Without this it finds that a second run repeats the
    first one, and stores the first one's maps.
    """
    element = tf.reshape(tf.slice(first, [0] * 4, [1] * 4), [])
    zero = tf.math.is_nan(element)  # or all is lost
    return [tensor + tf.cast(zero, tensor.dtype) for tensor in tensors]
