"""Dense blocks in little memory: what is cheap is computed again, exactly.

A dense block that stores all it computes for its gradient needs memory that grows with
the square of its depth: each of L layers stores the concatenation of all maps before
it, normalised (Pleiss et al. 2017, "Memory-Efficient Implementation of DenseNets",
arXiv 1707.06990). Here the block stores its maps once, k a layer, and the gradient
computes the rest again, layer by layer, from the last to the first.

It is exact. A layer's second run reads the values that the variables had in the first,
seeds of dropout among them, so it makes the same maps; and moving statistics are those
of the first run, updated once.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_densenet.layers.dense_layer import DenseLayer, Stage
from keras_densenet.layers.shared_moments import (
    Moments,
    batch_moments,
    concatenate_moments,
)

if keras.backend.backend() == "tensorflow":
    from keras_densenet.layers import block_gradient


def checked_mode(memory_efficient: bool | str) -> bool | str:
    """Give the mode back, refusing with a `ValueError` what is none."""
    if isinstance(memory_efficient, bool | np.bool_):
        return bool(memory_efficient)
    if memory_efficient != "full":
        raise ValueError(
            "memory_efficient must be False (store everything), True (recompute "
            "concatenation, normalisation and ReLU) or 'full' (recompute whole dense "
            f"layers). Received: memory_efficient={memory_efficient!r}"
        )
    return memory_efficient


def recomputed_block(
    layers: Sequence[DenseLayer],
    x: Any,
    mode: bool | str,
    axis: int,
    synchronized: bool = False,
) -> Any:
    """Run dense layers in training as a dense block does, in little memory.

    Args:
        layers: The block's dense layers, built.
        x: Feature maps, a tensor of rank 4.
        mode: True to store what each layer's convolutions make; `"full"` to store the
            k new maps of each layer alone.
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
    layer: keras.Layer, stage: Stage, x: Any, axis: int, synchronized: bool = False
) -> Any:
    """Give what a stage of a layer makes of `x` in training, and store `x` alone.

    Arguments are those of `recomputed_block`, but for the stage: a method of the layer,
    to be called on `(x, moments, training)`.
    """
    # Replicas agree once, and not again in the second run.
    moments = batch_moments(x, axis, True) if synchronized else None
    if keras.backend.backend() == "tensorflow":
        return block_gradient.recomputed(LayerFunction(layer), stage, x, moments)
    return rerun(layer, lambda x: stage(x, None, True), x)


def rerun(layer: keras.Layer, run: Callable[..., Any], *inputs: Any) -> Any:
    """Give `run(*inputs)`, of which the backend stores only the inputs.

    Args:
        layer: The layer of which `run` reads, and may update, variables; built.
        run: A function of tensors, or of structures of them, to one tensor.
        *inputs: What it is called with.
    """
    function = LayerFunction(layer)

    def stateless(weights: list, *inputs: Any) -> tuple[Any, list]:
        with function.scope(weights) as scope:
            output = run(*inputs)
        return output, function.new_state(scope)

    # tf.recompute_grad, jax.checkpoint or torch.utils.checkpoint
    output, state = keras.remat(stateless)(function.weights, *inputs)
    function.assign(state)
    return output


class LayerFunction:
    """What a layer computes as a function of its variables' values, without effects.

    Attributes:
        layer: The layer, to be called in a `scope`.
        weights: The values of its trainable variables.
    """

    def __init__(self, layer: keras.Layer) -> None:
        self.layer = layer
        self._variables = layer.trainable_variables
        self._state = layer.non_trainable_variables
        # Copies: variables change after the first run, on PyTorch in place.
        self.weights = [ops.copy(v) for v in self._variables]
        self._state_values = [ops.copy(v) for v in self._state]

    def scope(self, weights: Iterable) -> keras.StatelessScope:
        """Make a scope in which the layer reads these weights and the first state."""
        variables = [*self._variables, *self._state]
        values = [*weights, *self._state_values]
        return keras.StatelessScope(list(zip(variables, values, strict=True)))

    def new_state(self, scope: keras.StatelessScope) -> list:
        """Give what a run in the scope would have made of the state."""
        return [scope.get_current_value(v) for v in self._state]

    def assign(self, state: Iterable) -> None:
        """Set what a run has changed: moving statistics and seeds of dropout."""
        for variable, old, new in zip(
            self._state, self._state_values, state, strict=True
        ):
            if new is not old:  # as the weights of a frozen layer are not
                variable.assign(new)


def layer_by_layer(
    layers: Sequence[DenseLayer],
    x: Any,
    keep_bottlenecks: bool,
    axis: int,
) -> Any:
    """Let the backend run each layer, or its first stage, a second time.

    As `recomputed_block` for JAX and PyTorch; also what `block_gradient` is measured
    against.
    """
    features, moments = [x], batch_moments(x, axis)
    for layer in layers:
        again = 1 if keep_bottlenecks else len(layer.stages)
        first, rest = layer.stages[:again], layer.stages[again:]

        def run(moments: Moments, *features: Any, stages: tuple = first) -> Any:
            return _called(stages, ops.concatenate(features, axis), moments)

        new = _called(rest, rerun(layer, run, moments, *features), None)
        features.append(new)  # (N, H, W, k)
        moments = concatenate_moments(moments, batch_moments(new, axis))
    return ops.concatenate(features, axis)


def _called(stages: tuple, x: Any, moments: Moments | None) -> Any:
    for stage in stages:
        x, moments = stage(x, moments, True), None
    return x
