"""Gradients of several replicas are added up before an optimizer looks at them.

Keras clips the gradients of each replica, and looks for overflows in those of the first
one, before it adds them up: a bound is then up to as many times as large as there are
replicas. And it accumulates inside of a condition in which a strategy cannot update.
Here the sum comes first, once, and all else is done to the sum: what is then computed
is what one replica computes of the same global batch.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_densenet.devices.precision import unscaled


def reduce_first(model: keras.Model) -> None:
    """Let a model's optimizer clip, accumulate and unscale the sum of all gradients.

    The optimizer, not its class, is changed: what is saved is a plain Keras optimizer.
    One that does none of these is left as it is: Keras does the same for it.

    Args:
        model: Made and compiled under a `tf.distribute.Strategy`.
    """
    optimizer = model.optimizer
    is_changed = "apply" in vars(optimizer)  # for a fit before
    if is_changed or not _needs_the_sum(optimizer):
        return
    optimizer.apply = functools.partial(_apply_to_sum, optimizer.apply)
    inner = unscaled(optimizer)
    inner._all_reduce_sum_gradients = list  # they are added up already
    if _has_conditions(inner):
        inner._backend_apply_gradients = functools.partial(_apply_sum, inner)
    model.train_function = None  # of a fit before: it calls what is replaced here


def _needs_the_sum(optimizer: keras.optimizers.Optimizer) -> bool:
    """Return whether an optimizer does what Keras gets wrong on several replicas."""
    inner = unscaled(optimizer)
    bounds = (inner.clipnorm, inner.global_clipnorm, inner.clipvalue)
    return inner is not optimizer or any(bounds) or _has_conditions(inner)


def _has_conditions(optimizer: keras.optimizers.Optimizer) -> bool:
    return bool(
        optimizer.gradient_accumulation_steps
        or (optimizer.use_ema and optimizer.ema_overwrite_frequency)
    )


def _apply_to_sum(
    apply: Callable, grads: Sequence, trainable_variables: Sequence | None = None
) -> None:
    """Call an optimizer's `apply` with the sums over all replicas."""
    context = tf.distribute.get_replica_context()
    if context is not None:  # else they are no replica's
        present = [gradient for gradient in grads if gradient is not None]
        sums = iter(context.all_reduce(tf.distribute.ReduceOp.SUM, present))
        grads = [None if gradient is None else next(sums) for gradient in grads]
    apply(grads, trainable_variables)


# What follows is Keras's `_backend_apply_gradients`. Its conditions are begun outside
# of the replicas, which are entered again within the branches: a strategy cannot update
# a variable in a condition that a replica has begun.


def _apply_sum(
    optimizer: keras.optimizers.Optimizer, grads: list, variables: list
) -> None:
    """Accumulate or step, and then keep the moving averages of the weights.

    Args:
        optimizer: Whose.
        grads: Sums over all replicas.
        variables: What they are the gradients of.
    """
    if optimizer.gradient_accumulation_steps:
        _accumulate_or_step(optimizer, grads, variables)
    else:
        _step(optimizer, grads, variables)
    if optimizer.use_ema:
        _average(optimizer)


def _accumulate_or_step(
    optimizer: keras.optimizers.Optimizer, grads: list, variables: list
) -> None:
    n = optimizer.gradient_accumulation_steps
    accumulators = [
        optimizer._accumulated_gradients[optimizer._get_variable_index(variable)]
        for variable in variables
    ]

    def accumulate(grads: list) -> None:
        for accumulator, gradient in zip(accumulators, grads, strict=True):
            accumulator.assign(accumulator + gradient)

    def step(grads: list) -> None:
        means = [(g + a) / n for g, a in zip(grads, accumulators, strict=True)]
        _step(optimizer, means, variables)
        optimizer._backend_reset_gradient_accumulators()

    def on_all(strategy: tf.distribute.Strategy, grads: list) -> None:
        def on_each(act: Callable[[list], None]) -> Callable[[], Any]:
            replicas = strategy.extended
            return lambda: replicas.call_for_each_replica(act, args=(grads,))

        is_nth = (optimizer._iterations + 1) % n == 0
        keras.ops.cond(is_nth, on_each(step), on_each(accumulate))

    tf.distribute.get_replica_context().merge_call(on_all, args=(list(grads),))


def _step(optimizer: keras.optimizers.Optimizer, grads: list, variables: list) -> None:
    grads = optimizer._clip_gradients(grads)
    optimizer._apply_weight_decay(variables)
    optimizer._backend_update_step(grads, variables, optimizer.learning_rate)


def _average(optimizer: keras.optimizers.Optimizer) -> None:
    """Move the averages of the weights, and at times let them be the weights."""
    weights, every = optimizer._trainable_variables, optimizer.ema_overwrite_frequency
    optimizer._update_model_variables_moving_average(weights)
    if not every:
        return

    def on_all(strategy: tf.distribute.Strategy) -> None:
        keras.ops.cond(
            (optimizer.iterations + 1) % every == 0,
            lambda: optimizer._overwrite_model_variables_with_average_value(weights),
            lambda: None,
        )

    tf.distribute.get_replica_context().merge_call(on_all)
