"""A config.yaml in a run's folder means that run: its checkpoints, and no other's."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keras_densenet.checkpoint_file import read_state
from keras_densenet.command_line.stages import Made
from keras_densenet.training.callback_order import the_checkpoint
from keras_densenet.training.resumption import checkpoint_of_run, which
from keras_densenet.training.run_config import CONFIG
from keras_densenet.training.run_folder import is_run


class RunOfConfig(NamedTuple):
    """The run that a config.yaml lies in.

    Attributes:
        folder: Its folder.
    """

    folder: Path

    def checkpoint(self, ckpt_path: str, made: Made) -> Path:
        """Return the run's last or best checkpoint, and print which one it is.

        Args:
            ckpt_path: "last" or "best".
            made: What the command line describes.
        """
        own = the_checkpoint(made.trainer.flags.callbacks or ())
        path = checkpoint_of_run(self.folder, ckpt_path, own, print)
        print(which(path, read_state(path)))
        return path


def run_of_config(configs: Sequence[Any] | None) -> RunOfConfig | None:
    """Return the run that the last of some files of options lies in; None for none."""
    files = [Path(os.path.relpath(config)) for config in configs or ()]
    runs = [f.parent for f in files if f.name == CONFIG and is_run(f.parent)]
    return RunOfConfig(runs[-1]) if runs else None
