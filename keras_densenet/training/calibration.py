"""Decisions instead of scores: `keras_densenet.calibrate`."""

from keras_densenet.decisions import Decisions
from keras_densenet.training.arguments import CkptPath, Data
from keras_densenet.training.image_classifier import Module
from keras_densenet.training.trainer import Trainer


def calibrate(
    module: Module,
    data: Data,
    rule: str = "youden",
    temperature: bool = True,
    *,
    ckpt_path: CkptPath = None,
) -> Decisions:
    """Choose a temperature and a threshold for each label, by the validation pictures.

    See `Trainer.calibrate`, which does the same with a trainer of your own: where the
    strategy or precision matters, or for `ckpt_path="best"`.

    Args:
        module: What was trained.
        data: What it was trained on; its validation pictures decide.
        rule: "youden", "f1", or such as "sensitivity=0.9" or "ppv=0.8".
        temperature: Whether temperatures are chosen, too.
        ckpt_path: A checkpoint's path, which then keeps the decisions; None for the
            module as it is.

    Returns:
        The decisions, which the module's model keeps.
    """
    trainer = Trainer(enable_progress_bar=False, logger=False)
    return trainer.calibrate(
        module, data, ckpt_path, rule=rule, temperature=temperature
    )
