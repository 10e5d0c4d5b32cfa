"""The gradient of a layer's stage on TensorFlow, which runs the stage a second time.

Below, `d_x` is the gradient of the loss by `x`.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import tensorflow as tf

from keras_densenet.layers import tensorflow_kernels
from keras_densenet.layers.batch_norm import second_run
from keras_densenet.layers.dense_layer import Stage
from keras_densenet.layers.layer_function import LayerFunction
from keras_densenet.layers.shared_moments import Moments, batch_moments
from keras_densenet.tensor import Tensor

Weights: TypeAlias = list[Tensor]

# With as many parts of a batch the gradient needs no more memory than the first run.
_PARTS = 4


def recomputed(
    function: LayerFunction, stage: Stage, x: Tensor, moments: Moments | None
) -> Tensor:
    """Return `stage(x, moments, True)`, and store only `x` and `moments` for it.

    `tf.recompute_grad` does that too, but it begins with a copy of its arguments, and
    `x` is as large as what is to be saved.
    """

    @tf.custom_gradient
    def first_run(
        inputs: list[Tensor], probe: Tensor, recorded: Weights
    ) -> tuple[Tensor, Callable]:
        (x, *moments), weights = not_recorded((inputs, recorded))
        with function.scope(weights) as scope:
            y = stage(x, Moments(*moments) if moments else None, True)
        function.assign(function.new_state(scope))

        def backward(d_y: Tensor) -> tuple[list[Tensor], Weights]:
            with tf.control_dependencies([d_y]):
                inputs = [tf.identity(tensor) for tensor in (x, *moments)]
                delayed = not_before(d_y, weights)
                d_inputs, d_weights = gradients(function, stage, inputs, delayed, d_y)
            # A frozen batch norm does not use the moments, nor each stage all weights.
            d_weights = _zeros_for_none(d_weights, delayed)
            return _zeros_for_none(d_inputs, inputs), d_weights

        return y, first_derivative_only(backward, probe, recorded)

    return first_run([x, *(moments or ())], one_pixel(x), function.weights)


def recomputed_in_parts(
    function: LayerFunction,
    convolve: Callable[[Tensor], Tensor],
    stage: Stage,
    x: Tensor,
    synchronized: bool,
) -> Tensor:
    """Return `stage` of what `convolve` makes of `x`, and store only `x` for it.

    The convolution's maps are by far larger than `x` and than what the stage makes of
    them. So the gradient makes them again for one part of the batch after the other,
    and that twice: only when all parts have passed is it known what the gradients by
    the moments are, which every part has a share in. Between the two only the gradient
    by the maps is stored.

    Args:
        function: The layer.
        convolve: A method of the layer, from `x` to maps.
        stage: A method of the layer, to be called on `(maps, moments, training)`.
        x: The batch.
        synchronized: Whether moments are those of the batches of all replicas.
    """

    @tf.custom_gradient
    def first_run(
        x: Tensor, probe: Tensor, recorded: Weights
    ) -> tuple[Tensor, Callable]:
        x, weights = not_recorded((x, recorded))
        first, *others = parts = parts_of_batch(x, _PARTS)
        with function.scope(weights) as scope:
            maps = convolve(x)
            moments = batch_moments(maps, -1, synchronized)
            outputs = [first.of(stage)(first.pictures(maps), moments, True)]
            with second_run():  # moving statistics move once
                for part in others:
                    with tf.control_dependencies(outputs[-1:]):
                        pictures = part.pictures(maps)
                        outputs.append(part.of(stage)(pictures, moments, True))
        function.assign(function.new_state(scope))
        pixels = tensorflow_kernels.pixels(maps, moments.mean.dtype)
        run = _Run(function, convolve, stage, x, moments, pixels, parts, synchronized)
        backward = functools.partial(_backward, run, weights)
        return tf.concat(outputs, 0), first_derivative_only(backward, probe, recorded)

    return first_run(x, one_pixel(x), function.weights)


class _Run(NamedTuple):
    """What the gradient needs of a stage that ran in parts."""

    function: LayerFunction
    convolve: Callable[[Tensor], Tensor]
    stage: Stage
    x: Tensor
    moments: Moments  # of all the maps
    pixels: Tensor  # N H W of all the maps
    parts: list["Part"]
    synchronized: bool

    def maps(self, part: "Part", weights: Weights) -> Tensor:
        """Convolve a part of the batch again."""
        with self.function.scope(weights):
            return self.convolve(part.pictures(self.x))


def _backward(run: _Run, weights: Weights, d_y: Tensor) -> tuple[Tensor, Weights]:
    """Return the gradients by the batch and by the weights."""
    d_maps, d_moments, d_weights = _through_the_stage(run, weights, d_y)
    through_moments = (*d_moments, run.pixels)
    if run.synchronized:
        through_moments = tensorflow_kernels.total_of_replicas(*through_moments)
    d_x = []
    done, weights = [d_maps[-1]], not_before(d_maps[-1], weights)
    for part, d_part in zip(run.parts, d_maps, strict=True):
        with tf.control_dependencies(done):
            maps = run.maps(part, weights)
            mean = tf.identity(run.moments.mean)
            d_part += tensorflow_kernels.moments_gradient(maps, mean, *through_moments)
            (d_inputs,), d_values = gradients(
                run.function,
                part.of(lambda x, *_: run.convolve(x)),
                [part.pictures(run.x)],
                weights,
                part.cut(d_part),
            )
        done = [d for d in (d_part, *d_values) if d is not None]
        d_x.append(part.cut(d_inputs))
        d_weights.append(d_values)
    return tf.concat(d_x, 0), total(d_weights)


def _through_the_stage(
    run: _Run, weights: Weights, d_y: Tensor
) -> tuple[list[Tensor], tuple[Tensor, Tensor], list[Weights]]:
    """Return the gradients by each part's maps, by the moments, and by the weights."""
    d_maps, d_moments, d_weights = [], [], []
    done, weights = [d_y], not_before(d_y, weights)
    for part in run.parts:
        with tf.control_dependencies(done):
            inputs = [run.maps(part, weights), *map(tf.identity, run.moments)]
            d_part = part(d_y)
        stage = part.of(run.stage)
        d_inputs, d_values = gradients(run.function, stage, inputs, weights, d_part)
        done = [d for d in (*d_inputs, *d_values) if d is not None]
        # A frozen batch norm does not use the moments.
        first, *rest = _zeros_for_none(d_inputs, inputs)
        d_maps.append(first)
        d_moments.append(rest)
        d_weights.append(d_values)
    d_mean, d_variance = total(d_moments)
    return d_maps, (d_mean, d_variance), d_weights


def _zeros_for_none(
    found: Sequence[Tensor | None], tensors: Sequence[Tensor]
) -> list[Tensor]:
    """Return the gradients by tensors, zeros for those that are not used."""
    pairs = zip(found, tensors, strict=True)
    return [tf.zeros_like(t) if d is None else d for d, t in pairs]


# --- what every second run needs --------------------------------------------------


def not_recorded(tensors: Tensor) -> Tensor:
    """Cut the tensors off from outer tapes, which would store all that follows."""
    return tf.nest.map_structure(tf.stop_gradient, tensors)


def one_pixel(x: Tensor) -> Tensor:
    """Return one pixel of a batch: small, but a derivative by the batch goes by it."""
    rest = len(x.shape) - 1
    return tf.slice(x, [0] * (rest + 1), [tf.minimum(tf.shape(x)[0], 1), *[1] * rest])


def first_derivative_only(
    backward: Callable[[Tensor], tuple], probe: Tensor, recorded: list
) -> Callable[[Tensor], tuple]:
    """Make a gradient function of `backward` whose own derivative is an error.

    `backward` computes with tensors that are cut off from the block's input and from
    its weights, so that a second derivative would be wrong without a word. The gradient
    therefore takes `probe`, a pixel of the input, and the weights as arguments: a
    second derivative by either comes by here, and meets `_refuse`.
    """

    @tf.custom_gradient
    def first_derivative(
        d_output: Tensor, probe: Tensor, recorded: list
    ) -> tuple[tuple, Callable]:
        del probe, recorded
        with second_run():
            return backward(d_output), _refuse

    def gradient(d_output: Tensor) -> tuple:
        d_inputs, d_weights = first_derivative(d_output, probe, recorded)
        return d_inputs, None, d_weights

    return gradient


def _refuse(*_: Tensor) -> None:
    raise NotImplementedError(
        "A layer that recomputes has no second derivative. Build the model with "
        "memory_efficient=False, copy the weights with set_weights, and take the "
        "second derivative of that model."
    )


def gradients(
    layer: LayerFunction,
    stage: Stage,
    inputs: list[Tensor],
    weights: Weights,
    d_output: Tensor,
) -> tuple[list[Tensor], Weights]:
    """Run a stage, and take the gradients by its inputs and its weights.

    The inputs are `[x]` or `[x, mean, variance]`.
    """
    with tf.GradientTape() as tape:
        tape.watch([inputs, weights])
        with layer.scope(weights):
            x, *moments = inputs
            output = stage(x, Moments(*moments) if moments else None, True)
    return tape.gradient(output, (inputs, weights), d_output)


@dataclass(frozen=True)
class Part:
    """A part of a batch, to be taken of a tensor by a call."""

    begin: int | Tensor
    size: int | Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return the part of a whole batch."""
        return _pictures(x, self.begin, self.size)

    def pictures(self, x: Tensor) -> Tensor:
        """Return the part of a whole batch, or one picture if it is empty.

        TensorFlow's convolution and pooling on CPUs fail on an empty batch.
        """
        return _pictures(x, self.begin, tf.maximum(self.size, 1))

    def cut(self, y: Tensor) -> Tensor:
        """Return of what was made of the `pictures` that of the part."""
        return _pictures(y, 0, self.size)

    def of(self, stage: Stage) -> Stage:
        """Return a stage that takes the `pictures`, and returns what is the part's."""
        return lambda *inputs: self.cut(stage(*inputs))


def parts_of_batch(x: Tensor, number: int) -> list[Part]:
    """Cut a batch into so many parts of about equal size, or a part for each picture.

    Where a batch whose size is not known before has fewer pictures, some parts are
    empty, but never the last one.
    """
    known = x.shape[0]
    number = min(number, known or number)
    size = known or tf.shape(x)[0]
    ends = [size * i // number for i in range(number + 1)]
    return [Part(begin, end - begin) for begin, end in itertools.pairwise(ends)]


def _pictures(x: Tensor, begin: int | Tensor, size: int | Tensor) -> Tensor:
    rest = len(x.shape) - 1
    part = tf.slice(x, tf.stack([begin, *[0] * rest]), tf.stack([size, *[-1] * rest]))
    return tf.ensure_shape(part, [None, *x.shape[1:]])


def total(gradients: Iterable[Iterable[Tensor | None]]) -> list[Tensor]:
    """Add up lists of gradients, in which None stands for zero."""
    sums = []
    for same in zip(*gradients, strict=True):
        first, *more = [d for d in same if d is not None]
        sums.append(tf.add_n([first, *more]) if more else first)
    return sums


def not_before(first: Tensor, tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return the tensors unchanged, but computed from `first`, and so after it.

    XLA heeds no control dependency. Without this it finds that a second run repeats the
    first one, and stores the first one's maps.
    """
    rank = len(first.shape)
    element = tf.reshape(tf.slice(first, [0] * rank, [1] * rank), [])
    zero = tf.math.is_nan(element)  # False; with a NaN the gradient is worthless anyway
    return [tensor + tf.cast(zero, tensor.dtype) for tensor in tensors]
