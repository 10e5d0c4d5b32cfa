"""The gradient of a whole dense block on TensorFlow, with little stored for it.

`tf.recompute_grad` around each layer is exact too. But a layer that reads all the maps
before it gives each of them a gradient, and TensorFlow adds those up when it has them
all: memory grows with the square of the depth again. Here the gradient of a block's
maps is one buffer, from the last layer to the first: each layer takes what is its own
from the end, and adds what it passes on to the rest.

Below, `d_x` is the gradient of the loss by `x`.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import tensorflow as tf

from keras_densenet.layers import tensorflow_kernels
from keras_densenet.layers.layer_function import LayerFunction
from keras_densenet.layers.shared_moments import (
    Moments,
    batch_moments,
    concatenate_moments,
)
from keras_densenet.layers.stage_gradient import (
    Weights,
    first_derivative_only,
    gradients,
    not_before,
    not_recorded,
    one_pixel,
    parts_of_batch,
    total,
)
from keras_densenet.tensor import Tensor

# A layer that reads at most this share of the block's maps needs less memory on the
# whole batch than the block's last layers need on half of it.
_WIDE = 0.6


class _Run(NamedTuple):
    """What the gradient needs of the block's run."""

    layers: Sequence[LayerFunction]
    weights: list[Weights]
    x: Tensor  # the block's output
    moments: list[tuple[Moments, Moments]]  # of what each layer reads and makes
    bottlenecks: list[list[Tensor]]  # one a layer where they are kept, else none
    synchronized: bool


def dense_block(
    layers: Sequence[LayerFunction],
    x: Tensor,
    keep_bottlenecks: bool,
    synchronized: bool,
) -> Tensor:
    """Run the layers in training: `x` is `(N, H, W, C)`, the result has L k more maps.

    Args:
        layers: The block's dense layers.
        x: The block's input.
        keep_bottlenecks: Whether to store each layer's bottleneck maps, too, so that
            the gradient need not compute them again.
        synchronized: Whether moments are those of the batches of all replicas.
    """

    def moments_of(maps: Tensor) -> Moments:
        return batch_moments(maps, -1, synchronized)

    @tf.custom_gradient
    def block(
        x: Tensor, probe: Tensor, recorded: list[Weights]
    ) -> tuple[Tensor, Callable]:
        x, weights = not_recorded((x, recorded))
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
        return x, first_derivative_only(backward, probe, recorded)

    return block(x, one_pixel(x), [layer.weights for layer in layers])


def _outputs(layer: LayerFunction, x: Tensor, moments: Moments | None) -> list[Tensor]:
    outputs = []
    for stage in layer.layer.stages:
        x, moments = stage(x, moments, True), None  # the next stage reads new maps
        outputs.append(x)
    return outputs


def _backward(run: _Run, d_x: Tensor) -> tuple[Tensor, list[Weights]]:
    """Return the gradients by the block's input and weights, from the last layer on."""
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
        # Nothing must be computed again, and take memory, before it is needed.
        with tf.control_dependencies(d_parts):
            x, new = tf.split(x, widths, -1)
            kept = [tf.identity(z) for z in kept]
        d_moments, d_made = _split(d_moments, widths)
        d_new = tf.concat(d_new, 0) if len(parts) > 1 else d_new[0]
        d_new += _through_moments(run, new, made, d_made)
        d_inputs, d_values = _layer_gradient(
            layer, x, Moments(*not_before(d_new, read)), kept, values, d_new, parts
        )
        d_parts = [d + more[0] for d, more in zip(d_parts, d_inputs, strict=True)]
        d_moments = total([d_moments, *(more[1:] for more in d_inputs)])
        d_weights.append(d_values)
    d_x = tf.concat(d_parts, 0) if len(parts) > 1 else d_parts[0]
    return d_x + _through_moments(run, x, run.moments[0][0], d_moments), d_weights[::-1]


def _layer_gradient(
    layer: LayerFunction,
    x: Tensor,
    moments: Moments,
    kept: list[Tensor],
    weights: Weights,
    d_new: Tensor,
    parts: Sequence[Callable[[Tensor], Tensor]],
) -> tuple[list[list[Tensor]], Weights]:
    """Run a layer again, and take its gradients.

    The first stage gets its moments from outside, so that no picture depends on the
    others there: it can run on one part of the batch after the other.

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
                z = first(x, moments, True)  # (N, H, W, bn_size k)
        (d_new,), d_second = gradients(layer, second[0], [z], weights, d_new)
        d_weights.append(d_second)
    d_inputs: list[list[Tensor]] = []
    done = [d_new]
    for part in parts:
        with tf.control_dependencies(done):  # one part after the other
            inputs = [part(x), *moments]
            d_part = part(d_new)
        d_first, d_values = gradients(layer, first, inputs, weights, d_part)
        d_inputs.append(d_first)
        d_weights.append(d_values)
        done = [d for d in (*d_first, *d_values) if d is not None]
    return d_inputs, total(d_weights)


def _through_moments(
    run: _Run, maps: Tensor, moments: Moments, d_moments: Iterable[Tensor]
) -> Tensor:
    """Return the part of the gradient by maps that comes through their moments."""
    kernels = tensorflow_kernels
    gradient = (
        kernels.synchronized_moments_gradient
        if run.synchronized
        else kernels.moments_gradient
    )
    return gradient(maps, moments.mean, *d_moments)


def _in_this_graph(weights: list[Weights]) -> list[Weights]:
    """Return the weights as tensors of the graph that is being built.

    The gradient of a branch or of a loop's body is built in another graph than the
    first run. A tape finds no way from what it records to a tensor of an outer graph
    that was used before the tape began.
    """
    if tf.executing_eagerly():
        return weights
    here = tf.compat.v1.get_default_graph()
    return tf.nest.map_structure(
        lambda w: w if w.graph is here else tf.identity(w), weights
    )


def _split(
    tensors: Iterable[Tensor], widths: list[int]
) -> tuple[list[Tensor], list[Tensor]]:
    """Split each tensor on its last axis into a first and a second piece."""
    pairs = [tf.split(tensor, widths, -1) for tensor in tensors]
    return [first for first, _ in pairs], [second for _, second in pairs]


def _parts(
    x: Tensor, layer: LayerFunction, kept: list[Tensor]
) -> list[Callable[[Tensor], Tensor]]:
    """Return functions that cut a batch into the parts which are run one by one.

    They are the two halves where that saves memory, and else the whole. It saves memory
    where little is kept: the peak is then the block's maps, their gradient, and what a
    layer computes again, all of the same size in the last layers.
    """
    if kept or len(layer.layer.stages) == 1:
        return [tf.identity]
    return [*parts_of_batch(x, 2)]
