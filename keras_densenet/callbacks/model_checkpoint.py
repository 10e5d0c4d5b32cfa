"""Checkpoints of a training: the last, the one before it, and the best."""

import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import keras

from keras_densenet.callbacks.checkpoint_names import check_filename, formatted
from keras_densenet.callbacks.run import Run
from keras_densenet.checkpoint_file import (
    BEFORE_LAST,
    LAST,
    is_whole,
    latest_whole,
    read_state,
    remove_unfinished,
    write_checkpoint,
    write_file,
)
from keras_densenet.errors import MisconfigurationError


class ModelCheckpoint(keras.callbacks.Callback):
    """Keep the last model, and the best ones, with weights, optimizer and run.

    After an epoch, and after every so many steps:

        last.keras becomes before-last.keras, the model last.keras
        after an epoch, if the monitored metric is among the k best so far:
            epoch=012-val_accuracy=0.9431.keras is added, the (k + 1)th removed

    A file is written beside, checked and renamed, so that at any moment the last whole
    one is there. A save that fails, as on a full disk, is told of, and training goes
    on; the next one is tried again. Of several workers the first one writes.

    Args:
        dirpath: Folder of the checkpoints; None for the run's `checkpoints/`, which it
            then is once the run has begun.
        monitor: Metric in Keras's logs that says which epoch is best; in place of the
            default "val_auroc" where pictures have several labels, and "val_mean_iou"
            where they have masks.
        mode: "max" or "min": which of its values is best; "auto" for "min" where the
            metric's name ends with loss or error, else "max".
        save_top_k: How many best ones to keep; 0 for none, -1 for all.
        save_last: Whether to keep the last one, which a run that ended early goes on
            from; without it only Ctrl-C and SIGTERM save one.
        every_n_epochs: Epochs from one save to the next.
        every_n_train_steps: Steps from one save to the next within an epoch; None for
            saves after epochs alone.
        filename: Name of the best ones, without ending, such as
            "{epoch}-{val_accuracy:.3f}": of `epoch`, from 1 as in Keras, `step` and the
            metrics in the logs, one that is missing in an epoch as nan. Where a name
            comes again, "-v1" is added, "-v2" and so on. None for the one above.
        auto_insert_metric_name: Whether to write each one's name before it, as in
            "epoch=3-val_accuracy=0.943".

    A trainer may have several, each with best ones of its own. One of them keeps the
    last checkpoint: the first with `every_n_train_steps`, else the first with
    `save_last`. `ckpt_path="best"` is the best of the first.

    Attributes:
        last_model_path: Path of the last checkpoint, "" before there is one.
        best_model_path: Path of the best, "" without the metric.
        best_model_score: The metric's value there, or None.
        best_k_models: Path and score of each of the best.
    """

    DEFAULT_MONITOR = "val_accuracy"
    # Instead, where pictures have several labels, or masks.
    MONITORS_OF_OTHERS = ("val_auroc", "val_mean_iou")

    def __init__(
        self,
        dirpath: str | os.PathLike | None = None,
        monitor: str = DEFAULT_MONITOR,
        mode: str = "auto",
        *,
        save_top_k: int = 1,
        save_last: bool = True,
        every_n_epochs: int = 1,
        every_n_train_steps: int | None = None,
        filename: str | None = None,
        auto_insert_metric_name: bool = True,
    ) -> None:
        super().__init__()
        check_filename(filename)
        _check_checkpointing(mode, save_top_k, every_n_epochs, every_n_train_steps)
        _check_last(save_last, save_top_k, every_n_train_steps)
        self._dirpath = Path(dirpath) if dirpath else None
        self._folder: Path | None = None  # the run's
        self.monitor = monitor
        self.mode = mode
        self.save_top_k = save_top_k
        self.save_last = save_last
        self.every_n_epochs = every_n_epochs
        self.every_n_train_steps = every_n_train_steps
        self.filename = filename
        self.auto_insert_metric_name = auto_insert_metric_name
        self.last_model_path = ""
        self.best_k_models: dict[str, float] = {}
        self._others: list[ModelCheckpoint] = []  # of the trainer
        self._is_led = False  # saved by the one that keeps the last checkpoint
        self._run: Run | None = None
        self._failure: OSError | None = None
        self._saved_step = 0
        self._writes = True

    def attach(self, run: Run, folder: Path, writes: bool = True) -> None:
        """Save this run with the model, in `folder` if there is no `dirpath`.

        The trainer calls it. Without a run a checkpoint has what `model.save` writes.
        Where another worker writes the files, this one only takes part in reading
        what all have of the run.
        """
        self._run = run
        self._writes = writes
        self._folder = folder

    def lead(self, others: Sequence["ModelCheckpoint"]) -> None:
        """Save for these, too, and keep the last checkpoint of all.

        The trainer calls it. The last checkpoint is written after the best ones of all,
        so that it knows them.
        """
        together = [self, *others]
        for checkpoint in together:
            checkpoint._is_led = checkpoint is not self
            checkpoint._others = [c for c in together if c is not checkpoint]

    @property
    def dirpath(self) -> Path | None:
        """Folder of the checkpoints."""
        return self._dirpath or self._folder

    @property
    def own_dirpath(self) -> Path | None:
        """Folder that was given for the checkpoints, or None for the run's."""
        return self._dirpath

    @property
    def best_model_path(self) -> str:
        """Path of the best checkpoint, or ""."""
        return next(iter(self.best_k_models), "")

    @property
    def best_model_score(self) -> float | None:
        """The monitored metric of the best checkpoint, or None."""
        return next(iter(self.best_k_models.values()), None)

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Forget the checkpoints of a training before."""
        self.last_model_path, self.best_k_models = self._last_there(), {}
        self._failure = None
        self._saved_step = self._run.step if self._run else 0
        if self._writes and self.dirpath:
            remove_unfinished(self.dirpath)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Save within the epoch, if that is asked for."""
        n, run = self.every_n_train_steps, self._run
        if n and run and run.is_within_epoch and run.step // n > self._saved_step // n:
            self.save()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Save the model of this epoch."""
        if self._is_led:
            return
        for other in self._others:
            other._save_epoch(epoch, logs or {}, last=False)
        self._save_epoch(epoch, logs or {}, last=self.save_last)

    def _save_epoch(self, epoch: int, logs: dict, last: bool) -> None:
        if (epoch + 1) % self.every_n_epochs:
            return
        others = [name for name in self.MONITORS_OF_OTHERS if name in logs]
        if self.DEFAULT_MONITOR not in logs and others:
            self._take_monitor(others[0])
        score = logs.get(self.monitor)
        name = None
        before = self.best_k_models
        if score is not None and math.isfinite(score):
            name = self._name(epoch, logs)
            self.best_k_models = self._best({**before, self._path(name): float(score)})
            if self._path(name) not in self.best_k_models:
                name = None
        if (last or name) and not self.save(name, last=last):
            self.best_k_models = before
            return
        if not self._writes:
            return
        for path in before.keys() - self.best_k_models.keys():
            Path(path).unlink(missing_ok=True)

    def _take_monitor(self, monitor: str) -> None:
        """Let another metric say what is best, unless one was asked for."""
        if self.monitor == self.DEFAULT_MONITOR:
            self.monitor = monitor

    def _name(self, epoch: int, logs: dict) -> str:
        """Return a file's name that none of the best ones has."""
        metric = self.monitor.replace("/", "-")
        stem = f"epoch={epoch + 1:03d}-{metric}={logs[self.monitor]:.4f}"
        if self.filename is not None:
            step = self._run.step if self._run else 0
            values = {**logs, "epoch": epoch + 1, "step": step}
            stem = formatted(self.filename, values, self.auto_insert_metric_name)
        taken = {path for c in (self, *self._others) for path in c.best_k_models}
        name, version = f"{stem}.keras", 0
        while self._path(name) in taken:
            version += 1
            name = f"{stem}-v{version}.keras"
        return name

    def on_train_end(self, logs: dict | None = None) -> None:
        """Raise what hindered the last save."""
        if self._failure:
            raise self._failure

    def save(self, copy: str | None = None, last: bool = True) -> bool:
        """Save the model as the last one, and say whether that went well.

        Args:
            copy: Name of another file to save it as.
            last: Whether to save it as the last one, too.
        """
        folder = self._checked_folder()
        # All workers together add up the metrics. And all count this step as saved,
        # though one's disk is full: they save at the same steps, or wait forever.
        state = self._run.state() if self._run else None
        self._saved_step = self._run.step if self._run else 0
        if not self._writes:
            if last:
                for checkpoint in (self, *self._others):
                    checkpoint.last_model_path = str(folder / LAST)
            return True
        try:
            if last:
                path = write_checkpoint(folder, self.model, state, copy)
                for checkpoint in (self, *self._others):
                    checkpoint.last_model_path = str(path)
            elif copy:
                write_file(folder / copy, self.model, state)
        except OSError as error:
            good, _ = latest_whole(folder)
            self._failure = OSError(
                f"The model could not be saved in {folder}: {error}. "
                f"The last good checkpoint is {good or 'none'}. Is there space left?"
            )
            warnings.warn(str(self._failure), stacklevel=2)
            return False
        self._failure = None
        return True

    def state_dict(self) -> dict:
        """Return the names and scores of the best, best first."""
        best = {Path(path).name: score for path, score in self.best_k_models.items()}
        return {"monitor": self.monitor, "best_k_models": best}

    def load_state_dict(self, state: dict) -> None:
        """Take back the best that are still there, if they are by the same metric."""
        if state.get("monitor") in self.MONITORS_OF_OTHERS:
            self._take_monitor(state["monitor"])
        if state.get("monitor") != self.monitor:
            return
        best = {self._path(name): s for name, s in state["best_k_models"].items()}
        there = {path: score for path, score in best.items() if Path(path).exists()}
        self.best_k_models = self._best(there)

    def _last_there(self) -> str:
        """Return the last checkpoint of the run that goes on here, or ""."""
        there = [self.dirpath / n for n in (LAST, BEFORE_LAST)] if self.dirpath else []
        return next((str(path) for path in there if path.exists()), "")

    def _best(self, scores: dict[str, float]) -> dict[str, float]:
        """Return the k best, best first; of equal ones the earlier is better."""
        is_least = self.monitor.endswith(("loss", "error"))
        mode = {"auto": "min" if is_least else "max"}.get(self.mode, self.mode)
        sign = -1 if mode == "max" else 1
        ranked = sorted(scores.items(), key=lambda item: sign * item[1])
        return dict(ranked if self.save_top_k < 0 else ranked[: self.save_top_k])

    def _path(self, name: str) -> str:
        return str(self._checked_folder() / name)

    def _checked_folder(self) -> Path:
        if self.dirpath is None:
            raise MisconfigurationError(
                "Without a Trainer, ModelCheckpoint does not know which folder to "
                "write to: give ModelCheckpoint(dirpath=...)."
            )
        return self.dirpath


def refuse_other_owner(folder: Path | None, run: str, source: Path | None) -> None:
    """Refuse a folder that has the checkpoints of another run.

    Args:
        folder: Where a run is to save.
        run: Its number.
        source: The checkpoint that it goes on from, or None.

    Raises:
        MisconfigurationError: There are others' checkpoints.
    """
    if folder is None or not folder.is_dir():
        return
    lasts = [folder / name for name in (LAST, BEFORE_LAST)]
    if source and source.resolve() in [path.resolve() for path in lasts]:
        return
    for path in sorted(folder.glob("*.keras")):
        state = read_state(path) if is_whole(path) else None
        if state and state.origin.get("run") != run:
            raise MisconfigurationError(
                f"{folder} has the checkpoints of another run, such as {path.name}, "
                "which this one would write over. Give ModelCheckpoint another dirpath "
                "(without one each run has a folder of its own), or go on with that "
                f"run: ckpt_path={str(folder / LAST)!r}."
            )


def _check_checkpointing(
    mode: str, save_top_k: int, every_n_epochs: int, every_n_train_steps: int | None
) -> None:
    if mode not in ("auto", "max", "min"):
        raise MisconfigurationError(
            f"mode must be 'auto', 'max' or 'min'. Received: {mode!r}"
        )
    if save_top_k < -1:
        raise MisconfigurationError(
            "save_top_k must be -1 (all), 0 (none) or the number of best checkpoints "
            f"to keep. Received: save_top_k={save_top_k}"
        )
    steps_are_wrong = every_n_train_steps is not None and every_n_train_steps < 1
    if every_n_epochs < 1 or steps_are_wrong:
        raise MisconfigurationError(
            "every_n_epochs and every_n_train_steps must be 1 or more. Received: "
            f"every_n_epochs={every_n_epochs}, "
            f"every_n_train_steps={every_n_train_steps}"
        )


def _check_last(
    save_last: bool, save_top_k: int, every_n_train_steps: int | None
) -> None:
    if save_last:
        return
    if not save_top_k:
        raise MisconfigurationError(
            "save_last=False and save_top_k=0 save nothing: use "
            "Trainer(enable_checkpointing=False) for that."
        )
    if every_n_train_steps:
        raise MisconfigurationError(
            f"every_n_train_steps={every_n_train_steps} saves the last checkpoint, and "
            "save_last=False keeps none: choose one of the two."
        )
