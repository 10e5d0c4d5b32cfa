"""Networks in little memory: what is cheap is computed again, exactly.

A dense block that stores all it computes for its gradient needs memory that grows with
the square of its depth: each of L layers stores the concatenation of all maps before
it, normalized (Pleiss et al. 2017, "Memory-Efficient Implementation of DenseNets",
arXiv 1707.06990). Here the block stores its maps once, k a layer, and the gradient
computes the rest again, layer by layer, from the last to the first. Transitions and the
stem for ImageNet are computed again by the same means.

It is exact. A layer's second run reads the values that the variables had in the first,
seeds of dropout among them, so it makes the same maps; and moving statistics are those
of the first run, updated once.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from keras_densenet.layers.dense_layer import DenseLayer, Stage
from keras_densenet.layers.layer_function import LayerFunction
from keras_densenet.layers.shared_moments import (
    Moments,
    batch_moments,
    concatenate_moments,
)
from keras_densenet.tensor import Tensor

if keras.backend.backend() == "tensorflow":
    from keras_densenet.layers import block_gradient, stage_gradient


def checked_mode(memory_efficient: bool | str) -> bool | str:
    """Return the mode, a NumPy boolean as Python's.

    Raises:
        ValueError: It is neither False, True nor "full".
    """
    if isinstance(memory_efficient, bool | np.bool_):
        return bool(memory_efficient)
    if memory_efficient != "full":
        raise ValueError(
            "memory_efficient must be False (store everything), True (recompute "
            "concatenation, normalization and ReLU) or 'full' (recompute whole dense "
            f"layers, and the stem). Choose one of them. Received: memory_efficient="
            f"{memory_efficient!r}."
        )
    return memory_efficient


def recomputed_block(
    layers: Sequence[DenseLayer],
    x: Tensor,
    mode: bool | str,
    axis: int,
    synchronized: bool = False,
) -> Tensor:
    """Run dense layers in training as a dense block does, in little memory.

    Args:
        layers: The block's dense layers, built.
        x: Feature maps, of signals, pictures or volumes: a tensor of rank 3 to 5.
        mode: True to store what each layer's convolutions make; `"full"` to store only
            the k new maps of each layer.
        axis: The channel axis.
        synchronized: Whether moments are those of the batches of all replicas.

    Returns:
        `x` and the layers' new maps, concatenated. On TensorFlow a second derivative
        of them raises `NotImplementedError`.
    """
    keep_bottlenecks = mode is True
    if keras.backend.backend() == "tensorflow":
        functions = [LayerFunction(layer) for layer in layers]
        return block_gradient.dense_block(functions, x, keep_bottlenecks, synchronized)
    return layer_by_layer(layers, x, keep_bottlenecks, axis)


def recomputed_stage(
    layer: keras.Layer, stage: Stage, x: Tensor, axis: int, synchronized: bool = False
) -> Tensor:
    """Run one stage of a layer in training, and store only `x` for its gradient.

    Args:
        layer: The layer, built.
        stage: A method of the layer, to be called on `(x, moments, training)`.
        x: Feature maps, of signals, pictures or volumes: a tensor of rank 3 to 5.
        axis: The channel axis.
        synchronized: Whether moments are those of the batches of all replicas.

    Returns:
        What the stage makes of `x`.
    """
    # Replicas agree on their moments in the first run only.
    moments = batch_moments(x, axis, True) if synchronized else None
    if keras.backend.backend() == "tensorflow":
        return stage_gradient.recomputed(LayerFunction(layer), stage, x, moments)
    return rerun(layer, lambda x: stage(x, None, True), x)


def recomputed_convolution(
    layer: keras.Layer,
    convolve: Callable[[Tensor], Tensor],
    stage: Stage,
    x: Tensor,
    synchronized: bool = False,
) -> Tensor:
    """Run a convolution and the stage after it in training, and store only `x`.

    Args:
        layer: The layer, built.
        convolve: A method of the layer, from `x` to feature maps.
        stage: A method of the layer, to be called on `(maps, moments, training)`.
        x: Pictures, signals or volumes: a tensor of rank 3 to 5.
        synchronized: Whether moments are those of the batches of all replicas.

    Returns:
        What the stage makes of the maps.
    """
    if keras.backend.backend() == "tensorflow":
        function = LayerFunction(layer)
        return stage_gradient.recomputed_in_parts(
            function, convolve, stage, x, synchronized
        )
    return rerun(layer, lambda x: stage(convolve(x), None, True), x)


def rerun(
    layer: keras.Layer, run: Callable[..., Tensor], *inputs: Tensor | Moments
) -> Tensor:
    """Return `run(*inputs)`, for which the backend stores only the inputs.

    Args:
        layer: The layer whose variables `run` reads, and may update; built.
        run: A function from tensors, or structures of them, to one tensor.
        *inputs: What it is called with.
    """
    function = LayerFunction(layer)

    def stateless(
        weights: list[Tensor], *inputs: Tensor | Moments
    ) -> tuple[Tensor, list[Tensor]]:
        with function.scope(weights) as scope:
            output = run(*inputs)
        return output, function.new_state(scope)

    # tf.recompute_grad, jax.checkpoint or torch.utils.checkpoint
    output, state = keras.remat(stateless)(function.weights, *inputs)
    function.assign(state)
    return output


def layer_by_layer(
    layers: Sequence[DenseLayer],
    x: Tensor,
    keep_bottlenecks: bool,
    axis: int,
) -> Tensor:
    """Let the backend run each layer, or its first stage, a second time.

    This is `recomputed_block` on JAX and PyTorch. The benchmarks measure
    `block_gradient` against it on TensorFlow.
    """
    features, moments = [x], batch_moments(x, axis)
    for layer in layers:
        rerun_stages = 1 if keep_bottlenecks else len(layer.stages)
        first, rest = layer.stages[:rerun_stages], layer.stages[rerun_stages:]

        def run(moments: Moments, *features: Tensor, stages: tuple = first) -> Tensor:
            return _run_stages(stages, ops.concatenate(features, axis), moments)

        new = _run_stages(rest, rerun(layer, run, moments, *features), None)
        features.append(new)  # (N, H, W, k)
        moments = concatenate_moments(moments, batch_moments(new, axis))
    return ops.concatenate(features, axis)


def _run_stages(
    stages: tuple[Stage, ...], x: Tensor, moments: Moments | None
) -> Tensor:
    for stage in stages:
        x, moments = stage(x, moments, True), None  # the next stage reads new maps
    return x
