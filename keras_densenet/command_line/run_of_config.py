"""A config.yaml in a run's folder means that run: its checkpoints, and no other's."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_densenet.checkpoint_file import read_state
from keras_densenet.command_line.stages import Made
from keras_densenet.training.callback_order import the_checkpoint
from keras_densenet.training.resumption import checkpoint_of_run, which
from keras_densenet.training.run_config import CONFIG
from keras_densenet.training.run_folder import is_run


def run_of_config(configs: Sequence[Any] | None) -> Path | None:
    """Return the run's folder that the last of some files of options lies in."""
    files = [Path(os.path.relpath(config)) for config in configs or ()]
    runs = [f.parent for f in files if f.name == CONFIG and is_run(f.parent)]
    return runs[-1] if runs else None


def checkpoint_for(made: Made, run: Path, ckpt_path: str) -> Path:
    """Return a run's last or best checkpoint, and print which one it is.

    Args:
        made: What the command line describes.
        run: The run's folder.
        ckpt_path: "last" or "best".
    """
    own = the_checkpoint(made.trainer.flags.callbacks or ())
    path = checkpoint_of_run(run, ckpt_path, own, print)
    print(which(path, read_state(path)))
    return path
