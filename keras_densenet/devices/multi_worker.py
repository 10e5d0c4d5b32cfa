"""What Keras lacks to train on several machines, and what their workers agree on."""

import functools
import json
import zlib
from collections.abc import Callable
from typing import Any, TypeVar, cast

import keras
import tensorflow as tf

from keras_densenet.errors import MisconfigurationError, WorkerLostError

Method = TypeVar("Method", bound=Callable)

# What an operation raises that waits for a worker that is gone. The last three have
# other causes, too: theirs is told by the message.
_UNREACHED = (tf.errors.UnavailableError, tf.errors.DeadlineExceededError)
_LOST = (
    *_UNREACHED,
    tf.errors.AbortedError,
    tf.errors.InternalError,
    tf.errors.CancelledError,
)


def mend_keras(model: keras.Model) -> None:
    """Let Keras 3.15's `fit` and `evaluate` work on several machines.

    The model, not its class, is changed: what is saved is a plain Keras model.
    """
    if hasattr(model, "_mended"):
        return
    model._mended = True
    model.train_step = _with_vector_logs(model.train_step)
    model.test_step = _with_vector_logs(model.test_step)
    model._maybe_symbolic_build = functools.partial(_build, model)


def _with_vector_logs(step: Callable[[Any], dict]) -> Callable[[Any], dict]:
    # Keras takes the mean of each log over its axis 0, which a number does not have.
    @functools.wraps(step)
    def vector_step(data: Any) -> dict:
        return {name: tf.reshape(v, [1]) for name, v in step(data).items()}

    return vector_step


def _build(model: keras.Model, iterator: Any = None, data_batch: Any = None) -> None:
    # Keras takes this worker's batch for a tensor, and it may be one of each of its
    # replicas. What is built needs its shapes and types alone.
    if iterator is not None:
        spec = iterator._distributed_dataset.element_spec
        data_batch = tf.nest.map_structure(_zeros, spec)
    with model.distribute_strategy.scope():
        model._symbolic_build(data_batch=data_batch)


def _zeros(spec: Any) -> tf.Tensor:
    spec = getattr(spec, "_component_specs", (spec,))[0]  # of the first replica
    return tf.zeros([size or 1 for size in spec.shape], spec.dtype)


def sharded_by_data(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Let each worker have its share of every batch, and never of the files.

    By default TensorFlow shares out files where it finds them, and a worker may have
    less than the others, or other pictures than one process would have.
    """
    options = tf.data.Options()
    policy = tf.data.experimental.AutoShardPolicy.DATA
    options.experimental_distribute.auto_shard_policy = policy
    return dataset.with_options(options)


def names_lost_workers(method: Method) -> Method:
    """Let a trainer's method raise `WorkerLostError` where another worker is gone."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except tf.errors.OpError as error:
            line = _of_another(error) if self.hardware.cluster else None
            if line is None:
                raise
            raise WorkerLostError(
                "Another worker of this training is gone, or cannot be reached. Start "
                f"the program again on all workers, with ckpt_path='last'. ({line})"
            ) from None  # the rest is a graph's, and many pages long

    return cast(Method, call)


def _of_another(error: tf.errors.OpError) -> str | None:
    """Return the line that tells of another worker; None if the error is this one's."""
    lines = str(error.message).strip().splitlines()
    telling = [line for line in lines if "aborted by" in line or "/job:" in line]
    if isinstance(error, _LOST) and (telling or isinstance(error, _UNREACHED)):
        return (telling or lines)[0]
    return None


def from_first_worker(strategy: tf.distribute.Strategy, number: int) -> int:
    """Return all workers the first one's number, once all have called this."""

    def mine(context: Any) -> tf.Tensor:
        is_first = context.replica_id_in_sync_group == 0
        return tf.constant(number if is_first else 0, tf.int64)

    values = strategy.experimental_distribute_values_from_function(mine)
    return int(strategy.reduce("SUM", values, axis=None))


def refuse_to_disagree(
    strategy: tf.distribute.Strategy, step: int, data: dict[str, Any]
) -> None:
    """Raise where a worker would train from another place, or on other data.

    Args:
        strategy: Of all workers.
        step: The step that this worker's run goes on from; 0 to begin.
        data: The `state_dict` of this worker's data module.

    Raises:
        MisconfigurationError: On each worker that is not as the first one.
    """
    first_step = from_first_worker(strategy, step)
    if step != first_step:
        raise MisconfigurationError(
            f"This worker would go on after {step} steps, the first one after "
            f"{first_step}: default_root_dir must be a folder that all workers see."
        )
    order = zlib.crc32(json.dumps(data, sort_keys=True).encode())
    if order != from_first_worker(strategy, order):
        raise MisconfigurationError(
            "This worker's data come in another order than the first one's: call "
            "kd.seed_everything(seed), with the same seed on all workers, before the "
            f"data module is made. Received: {data}"
        )
