"""One trial of a batch size: `python -m ...batch_size_trial FOLDER BATCH_SIZE`.

It reads its task from the folder and writes its answer there; see `Trials`.
"""

import sys
import traceback
from pathlib import Path
from typing import Any

import cloudpickle
import tensorflow as tf

from keras_densenet.callbacks.monitors import gpu_peak_bytes
from keras_densenet.errors import MisconfigurationError
from keras_densenet.training.compilation import compiled
from keras_densenet.training.trainer import Trainer
from keras_densenet.tuner.batch_size_finder import ANSWER, TASK, Answer


def main(folder: str, batch_size: str) -> None:
    """Try, and write the answer."""
    path = Path(folder)
    answer = _answer(path / TASK, int(batch_size))
    (path / ANSWER).write_bytes(cloudpickle.dumps(answer))


def _answer(task: Path, batch_size: int) -> Answer:
    try:
        _train(batch_size, **cloudpickle.loads(task.read_bytes()))
    except (tf.errors.ResourceExhaustedError, MemoryError):
        return Answer(fits=False)
    except Exception as error:
        return Answer(fits=False, error=_sendable(error, batch_size))
    return Answer(fits=True, gpu_bytes=gpu_peak_bytes())


def _train(
    batch_size: int,
    *,
    flags: dict[str, Any],
    module: Any,
    data: Any,
    batch_arg_name: str,
    steps: int,
) -> None:
    """Train some steps as `Trainer.fit` does, and keep nothing."""
    setattr(data, batch_arg_name, batch_size)
    trainer = Trainer(**flags)
    data.prepare_data()
    data.setup("fit")
    batches = data.train_batches(0)
    _refuse_another_size(batches, batch_arg_name, batch_size)
    model = compiled(trainer.flags, trainer.hardware, module, data, steps)
    model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)


def _refuse_another_size(
    batches: tf.data.Dataset, batch_arg_name: str, batch_size: int
) -> None:
    """Refuse data that do not heed the attribute: every size would fit."""
    first = tf.nest.flatten(next(iter(batches)))[0].shape[0]
    if first != batch_size:
        raise MisconfigurationError(
            f"{batch_arg_name}={batch_size} was set, and the first training batch has "
            f"{first} pictures: train_batches must heed the data module's "
            f"{batch_arg_name}."
        )


def _sendable(error: Exception, batch_size: int) -> Exception:
    """Return the error, or its text where it cannot go to another process."""
    try:
        cloudpickle.loads(cloudpickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}").with_traceback(
            error.__traceback__
        )
    text = "".join(traceback.format_exception(error))
    error.add_note(f"Raised in the trial of batch size {batch_size}:\n{text}")
    return error


if __name__ == "__main__":
    main(*sys.argv[1:])
