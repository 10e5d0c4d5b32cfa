"""The devices that a training has, and what depends on them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import tensorflow as tf

from keras_densenet import processor
from keras_densenet.devices.cluster import Cluster, cluster_of
from keras_densenet.devices.multi_worker import from_first_worker, sharded_by_data
from keras_densenet.devices.precision import default_floats, dtype_policy, policy_name
from keras_densenet.devices.shares import share_last_batches
from keras_densenet.devices.strategy import make_strategy


@dataclass(frozen=True, eq=False)
class Devices:
    """Where a model lives: on which devices, in which precision, beside which machines.

    Attributes:
        strategy: The `tf.distribute.Strategy`, or None for one device.
        precision: Lightning's name of it, or Keras's name of a policy.
    """

    strategy: tf.distribute.Strategy | None
    precision: str

    @cached_property
    def cluster(self) -> Cluster | None:
        """The machines that train together, or None for this process alone."""
        return cluster_of(self.strategy)

    @cached_property
    def policy(self) -> str:
        """Keras's name of the precision."""
        return policy_name(self.precision)

    @property
    def replicas(self) -> int:
        """Number of replicas of a model, on all machines."""
        return self.strategy.num_replicas_in_sync if self.strategy else 1

    @property
    def gain_by_bfloat16(self) -> bool:
        """Whether float32 is chosen where "bf16-mixed" trains faster.

        Of GPUs it depends on their kind, and is not said.
        """
        on_cpu = not tf.config.get_visible_devices("GPU")
        in_float32 = self.policy == "float32"
        return on_cpu and in_float32 and processor.multiplies_bfloat16()

    @property
    def rank(self) -> int:
        """Number of this process among the workers; 0 where there is one."""
        return self.cluster.rank if self.cluster else 0

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files and prints."""
        return self.rank == 0

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Let models made inside live on these devices, in this precision."""
        strategy = self.strategy.scope() if self.strategy else nullcontext()
        with strategy, dtype_policy(self.policy):
            yield

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let Keras train and evaluate inside, with numbers of this precision."""
        with default_floats(self.policy):
            yield

    def hold(self, model: keras.Model) -> bool:
        """Return whether a model was made inside `scope`."""
        strategy = self.strategy or tf.distribute.get_strategy()
        return model.distribute_strategy is strategy

    def sharded(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """Return a dataset of which each machine takes its share of every batch."""
        return sharded_by_data(dataset) if self.cluster else dataset

    def shared_out(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """Return a dataset whose last batch leaves no replica without a picture."""
        if self.replicas == 1:
            return dataset
        return self.sharded(share_last_batches(dataset, self.replicas))

    def number_of_first(self, number: int) -> int:
        """Return the first machine's number on each; all of them must call this."""
        if self.cluster is None:
            return number
        return from_first_worker(self.strategy, number)


def make_devices(
    strategy: Any,
    devices: str | int | Sequence[int],
    accelerator: str,
    num_nodes: int,
    precision: str,
) -> Devices:
    """Return the devices that a trainer's flags of the same names ask for.

    Raises:
        MisconfigurationError: An unknown name, or what is not there; see
            `make_strategy` and `policy_name`.
    """
    made = Devices(make_strategy(strategy, devices, accelerator, num_nodes), precision)
    policy_name(precision)  # which refuses an unknown one
    return made
