"""One of several workers that train together; started by test_multi_worker.py.

    TF_CONFIG=... python tests/helpers/one_worker.py FOLDER [NETWORK ...] [--resume]
        [--end-at STEP [--number SIGNAL]]

Writes what it saw of each network to FOLDER/NETWORK/worker-RANK.json, and the weights
that it has in the end beside it.
"""

import argparse
import functools
import json
import signal
from pathlib import Path

import numpy as np
from crash import SignalAt
from linear_network import linear

import keras_densenet as kd
from keras_densenet.callbacks import ModelCheckpoint
from keras_densenet.training import MisconfigurationError

STRATEGY = "multi_worker_mirrored"
# In float32 a sum of two halves is not that of the whole, and twelve steps of a network
# with batch norms make 1e-4 of it, on two replicas of one process, too.
PRECISIONS = {
    "synchronized": "64-true",
    "densenet": "64-true",
    "clipped": "64-true",
    "scaled": "16-mixed",
}
FLAGS = {"clipped": {"gradient_clip_val": 0.1, "accumulate_grad_batches": 3}}


def clipped(classes, input_shape):
    """Build the same, whose gradients are accumulated and clipped."""
    return linear(classes, input_shape)


def scaled(classes, input_shape):
    """Build the same, with a scaled loss, whose gradients may overflow."""
    return linear(classes, input_shape)


def densenet(classes, input_shape, sync_batchnorm=False):
    """Build a small DenseNet-BC."""
    return kd.DenseNetBC(
        10,
        4,
        classes=classes,
        input_shape=input_shape,
        sync_batchnorm=sync_batchnorm,
    )


def synchronized(classes, input_shape):
    """Build a small DenseNet-BC whose batch norms see the batch of all workers."""
    return densenet(classes, input_shape, sync_batchnorm=True)


def train(folder, network, strategy=STRATEGY, *, resume=False, end_at=None, **flags):
    """Train a network for three epochs of four steps.

    Returns:
        The trainer, the model and the facts.
    """
    kd.seed_everything(1, deterministic=True)
    trainer = kd.Trainer(
        3,
        strategy=strategy,
        limit_train_batches=4,
        precision=PRECISIONS.get(network, "32-true"),
        default_root_dir=folder,
        callbacks=[
            ModelCheckpoint(every_n_train_steps=5),
            *([SignalAt(*end_at)] if end_at else []),
        ],
        enable_model_summary=False,
        **FLAGS.get(network, {}),
        **flags,
    )
    data = kd.data.Digits(batch_size=100)  # 180 to validate on, in two unequal batches
    module = kd.ImageClassifier(globals()[network], learning_rate=0.02, milestones=())
    history = trainer.fit(module, data, ckpt_path="last" if resume else None).history
    facts = {
        "history": {k: v for k, v in history.items() if k != "images_per_second"},
        "test": trainer.test(module, data),
        "devices": trainer.num_devices,
        "rank": trainer.global_rank,
        "log_dir": str(trainer.log_dir),
        "last": trainer.checkpoint_callback.last_model_path,
        "best": trainer.checkpoint_callback.best_model_path,
    }
    return trainer, module.model, facts


def refused(act):
    """Return the error text of a call that is refused, or "" if it is not."""
    try:
        act()
    except MisconfigurationError as error:
        return str(error)
    return ""


def refused_flags():
    """Return the error texts of the flags that several workers cannot have."""
    flags = {
        "jit_compile": True,
        "max_time": "00:01:00:00",
        "run_eagerly": True,
    }
    return {
        name: refused(functools.partial(kd.Trainer, 1, strategy=STRATEGY, **{name: v}))
        for name, v in flags.items()
    }


def main():
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("networks", nargs="*", default=["linear"])
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--end-at", type=int)
    parser.add_argument("--number", type=int, default=signal.SIGKILL)
    given = parser.parse_args()
    end_at = (given.end_at, given.number) if given.end_at else None
    for network in given.networks:
        folder = given.folder / network
        trainer, model, facts = train(
            folder, network, resume=given.resume, end_at=end_at
        )
        if network == "linear":
            facts["served"] = str(trainer.export(model, folder / "served"))
            facts["flags"] = refused_flags()
            facts["predict"] = refused(
                functools.partial(trainer.predict, model, kd.data.Digits())
            )
            facts["report"] = trainer.report(model)
        name = f"worker-{trainer.global_rank}"
        (folder / f"{name}.json").write_text(json.dumps(facts))
        np.savez(folder / f"{name}.npz", *model.get_weights())


if __name__ == "__main__":
    main()
