"""Finding a learning rate and a batch size, as PyTorch Lightning's `Tuner` does."""

import copy
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import psutil

from keras_densenet.data import DataModule
from keras_densenet.errors import MisconfigurationError
from keras_densenet.training.compilation import compiled
from keras_densenet.training.image_classifier import ImageClassifier
from keras_densenet.training.screen import Screen
from keras_densenet.training.trainer import Trainer
from keras_densenet.tuner.batch_size_finder import Trials, largest_fitting
from keras_densenet.tuner.lr_finder import (
    LRFinder,
    RangeTest,
    constant_rate,
    learning_rates,
)
from keras_densenet.tuner.misconfiguration import (
    refuse_full_gpus,
    refuse_kinds,
    refuse_no_attribute,
    refuse_rates,
    refuse_replicas,
    refuse_sizes,
    refuse_workers,
)

AVAILABLE = 0.8  # of the machine's memory, by default
_TRIED_FLAGS = (  # those that change what a step does or takes
    "accelerator",
    "devices",
    "precision",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "deterministic",
    "jit_compile",
    "run_eagerly",
    "sync_batchnorm",
)


class Tuner:
    """Finds a learning rate and a batch size for a trainer's training.

    Args:
        trainer: Whose precision, devices and other flags the tries have; it is not
            changed, and its limits, callbacks and logs play no part.

    Examples:
        >>> import keras
        >>> from keras_densenet.data import Digits
        >>> tuner = Tuner(Trainer())
        >>> tuner.lr_find(keras.Sequential(), Digits())
        Traceback (most recent call last):
        ...
        keras_densenet.errors.MisconfigurationError: Each try builds a network of \
its own, and a keras.Model is built and compiled already. Pass ImageClassifier(f), \
where f() makes the network.
    """

    def __init__(self, trainer: Trainer) -> None:
        if not isinstance(trainer, Trainer):
            raise MisconfigurationError(
                "Tuner takes a trainer, kd.Tuner(kd.Trainer(max_epochs=3)); module and "
                f"data come with its methods. Received: {type(trainer).__name__}"
            )
        self.trainer = trainer
        self._screen = Screen(quiet=not trainer.is_global_zero)

    def lr_find(
        self,
        module: ImageClassifier,
        datamodule: DataModule,
        min_lr: float = 1e-8,
        max_lr: float = 1.0,
        num_training: int = 100,
        mode: str = "exponential",
        early_stop_threshold: float | None = 4.0,
        update_attr: bool = True,
    ) -> LRFinder:
        """Train some steps at rising learning rates: the range test.

        A network like the module's is built, with the module's weights if it has some,
        and its optimizer without its schedule. Module, data and trainer are then as
        they were, and so are the random states of Keras, NumPy and Python (not that of
        TensorFlow's operations without a seed); nothing is written.

        Args:
            module: What is to be trained.
            datamodule: What it is to be trained on: `train_batches(0)`.
            min_lr: The first rate, above 0.
            max_lr: The last rate.
            num_training: Number of rates, 14 or more; one for each optimizer step.
            mode: "exponential" or "linear": how the rates rise.
            early_stop_threshold: End where the smoothed loss is above this multiple,
                above 1, of its least; None for all rates.
            update_attr: Whether to set `module.learning_rate` to the suggestion.

        Returns:
            Rates and losses, the suggestion and a plot.

        Raises:
            MisconfigurationError: A `keras.Model`, several workers, or arguments that
                cannot work.
        """
        refuse_kinds("lr_find", module, datamodule)
        refuse_workers(self.trainer)
        refuse_rates(min_lr, max_lr, num_training, mode, early_stop_threshold)
        rates = learning_rates(min_lr, max_lr, num_training, mode)
        batches_per_rate = self.trainer.accumulate_grad_batches
        test = RangeTest(rates, early_stop_threshold, batches_per_rate)
        with _random_states_kept(), _set_up(datamodule):
            _beside_keras_state(lambda: self._run(module, datamodule, test), test)
        finder = LRFinder(test.results)
        if test.stopped and test.results["lr"]:
            self._screen.say(f"The loss diverged at rate {test.results['lr'][-1]:.3g}")
        if update_attr:
            self._update(module, finder.suggestion())
        return finder

    def scale_batch_size(
        self,
        module: ImageClassifier,
        datamodule: DataModule,
        mode: str = "power",
        steps_per_trial: int = 3,
        init_val: int = 2,
        max_trials: int = 25,
        batch_arg_name: str = "batch_size",
        memory_gb: float | None = None,
        max_val: int = 8192,
    ) -> int:
        """Find the largest batch size that trains, and set the data module's to it.

        Each size is tried in a process of its own, which takes some seconds. It does
        not fit where TensorFlow runs out of memory, or the process takes more of the
        machine's than `memory_gb`: a CPU would swap before it fails.

        Args:
            module: What is to be trained.
            datamodule: What it is to be trained on.
            mode: "power" for the largest `init_val` times a power of two, "binsearch"
                to search on between it and the next.
            steps_per_trial: Steps of a try, 1 or more.
            init_val: The first size, 1 or more; where it does not fit, smaller ones.
            max_trials: Number of sizes to try at most.
            batch_arg_name: The data module's attribute that is the batch size.
            memory_gb: Memory that a process may have, libraries in it, in GB of 10^9
                bytes; by default 80 % of what the machine has available now.
            max_val: The largest size to try; nor is any above the number of training
                pictures tried.

        Returns:
            The batch size.

        Raises:
            MisconfigurationError: Nothing fits; several devices; a `keras.Model`; or
                arguments that cannot work.
            Exception: What a try raised, unless its memory ran out.
        """
        refuse_kinds("scale_batch_size", module, datamodule)
        refuse_replicas(self.trainer)
        refuse_full_gpus()
        refuse_sizes(mode, steps_per_trial, init_val, max_trials, memory_gb)
        refuse_no_attribute(datamodule, batch_arg_name)
        highest = _highest(datamodule, batch_arg_name, init_val, max_val)
        task = {
            "flags": {flag: getattr(self.trainer, flag) for flag in _TRIED_FLAGS},
            "module": _unbuilt(module),
            "data": datamodule,
            "batch_arg_name": batch_arg_name,
            "steps": steps_per_trial,
        }
        memory = memory_gb or AVAILABLE * psutil.virtual_memory().available / 1e9
        trials = Trials(task, memory * 1e9, self._screen.say)
        size = largest_fitting(trials.fits, mode, init_val, highest, max_trials)
        if not size:
            raise MisconfigurationError(
                f"No batch size that was tried (at most {max_trials}) fits in "
                f"{memory:.3g} GB, of which TensorFlow alone takes up to 1. Raise "
                "memory_gb, or use a smaller network, memory_efficient='full' or "
                "precision='bf16-mixed'."
            )
        setattr(datamodule, batch_arg_name, size)
        self._screen.say(f"{type(datamodule).__name__}.{batch_arg_name} is now {size}")
        return size

    def _run(self, module: ImageClassifier, data: DataModule, test: RangeTest) -> None:
        # The rate is set before each step.
        flags = replace(self.trainer.flags, steps_per_execution=1)
        trial = copy.copy(module)
        trial.scale_lr_from = None  # the rates are tried as they are
        steps = len(test.rates) * test.batches_per_rate
        model = compiled(
            flags,
            self.trainer.hardware,
            trial,
            data,
            steps,
            adapt=lambda optimizer: constant_rate(optimizer, test.rates[0]),
        )
        with self.trainer.hardware.running():
            model.fit(
                data.train_batches(0),
                steps_per_epoch=steps,
                callbacks=[test],
                shuffle=False,
                verbose=0,
            )

    def _update(self, module: ImageClassifier, rate: float | None) -> None:
        if rate is None:
            self._screen.say(f"learning_rate stays {module.learning_rate}")
            return
        module.learning_rate = rate
        scaled = ""
        if module.scale_lr_from is not None:  # it was found for this very batch
            module.scale_lr_from = None
            scaled = ", for this batch size: scale_lr_from is now None"
        self._screen.say(f"learning_rate is now {rate:.3g}{scaled}")


def _unbuilt(module: ImageClassifier) -> ImageClassifier:
    """Return a copy of a module without its model: no size depends on weights."""
    module = copy.copy(module)
    module.model = None
    return module


def _highest(data: DataModule, batch_arg_name: str, init_val: int, max_val: int) -> int:
    """Return the largest size to try: an epoch must have one batch."""
    by_one = copy.copy(data)
    setattr(by_one, batch_arg_name, 1)
    with _random_states_kept(), _set_up(by_one):
        pictures = int(by_one.train_dataset().cardinality())
    highest = min(max_val, pictures) if pictures > 0 else max_val  # negative: unknown
    if init_val > highest:
        raise MisconfigurationError(
            f"init_val={init_val} is above the largest batch size to try, {highest}: "
            f"max_val={max_val}, and there are {max(pictures, 0) or 'unknown'} "
            "training pictures. Use a smaller init_val."
        )
    return highest


@contextmanager
def _set_up(data: DataModule) -> Iterator[None]:
    """Let the data be read, as for a fit, and then be as they were."""
    state = data.state_dict()
    data.prepare_data()
    data.setup("fit")
    try:
        yield
    finally:
        data.teardown("fit")
        data.load_state_dict(state)


@contextmanager
def _random_states_kept() -> Iterator[None]:
    # NumPy's old generator is the one that `seed_everything` seeds.
    pythons, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(pythons)
        np.random.set_state(numpys)  # noqa: NPY002


def _beside_keras_state(job: Callable[[], None], test: RangeTest) -> None:
    """Do it in a thread: Keras's seeds and counts of layers' names are each thread's.

    So what is built later has the names and the seeds that it would have had.
    """
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(job)
        try:
            future.result()
        except BaseException:  # Ctrl-C comes to the main thread
            test.stopped = True
            raise
