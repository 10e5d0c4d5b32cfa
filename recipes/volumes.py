r"""Classify volumes: a three-dimensional DenseNet-BC on files laid out as MedMNIST3D.

    python recipes/volumes.py                                  # built in: 8 minutes
    python recipes/volumes.py --data organmnist3d.npz
    python recipes/volumes.py --data mine_64.npz --memory-efficient full
    python recipes/volumes.py --data organmnist3d.npz --network DenseNet121 \
        --weights imagenet

A file has `train_images` `(N, D, H, W)`, `train_labels` `(N, 1)`, and those of `val_`
and `test_`: as https://medmnist.com offers them (Yang et al. 2023, whose paper has
the accuracies of others). Pictures and signals of that layout are taken as well: the
network has the dimensions of the data.

The rank of the input is all that makes a network one of volumes. In the third dimension
each map is as many times larger as the volume is deep, and memory is what ends first:
`--memory-efficient full` stores the k new maps of each layer alone. Of a volume of
64x64x64 in float32, in MB, by `keras_densenet.analysis.profile`:

    network                              False    True   "full"
    DenseNetBC, blocks 4 4 4, k = 12      1367     624      394
    DenseNetBC, L = 100, k = 12           8107    2108     1190
    DenseNet121                            147      73       56

SGD with batches of 32, the learning rate falls from 0.1 to 0 along a cosine; a voxel's
shift augments, and nothing is mirrored unless `--mirror` names axes: the file does
not say which of a volume's sides are left and right. `--weights` are those of a network
for pictures, made those of one for volumes by I3D's rule (Carreira and Zisserman 2017),
and the learning rate begins at 0.01 then.

Without a file it trains on 1,797 volumes that are built in: scikit-learn's hand-written
digits in relief, seen from three sides.
"""

from pathlib import Path
from typing import Any, Literal

import keras_densenet as kd


def main(
    data: Path | None = None,
    network: Literal["DenseNetBC", "DenseNet121"] = "DenseNetBC",
    blocks: tuple[int, ...] | None = None,
    growth_rate: int | None = None,
    weights: str | None = None,
    inflate: bool = True,
    memory_efficient: bool | Literal["full"] = False,
    mirror: tuple[int, ...] = (),
    shift: int = 1,
    batch_size: int = 32,
    max_epochs: int = 10,
    precision: str = "32-true",
    strategy: str = "auto",
    seed: int = 0,
    resume: bool | Path = False,
    fast_dev_run: bool | int = False,
    output_dir: Path = Path(),
    export_dir: Path | None = None,
) -> None:
    """Train, test the epoch that validates best, report and, if asked to, export.

    Args:
        data: A file laid out as MedMNIST's; without one, the digits in relief.
        network: A network of your own blocks, or of those for ImageNet.
        blocks: Dense layers in each block of a DenseNet-BC; by default 4 4 4.
        growth_rate: k, the maps that each layer of it adds; by default 12.
        weights: To begin with: "imagenet" for a DenseNet121, or a file.
        inflate: Whether these are of a network for pictures, and are made those of one
            for volumes; say --no-inflate where they are of volumes already.
        memory_efficient: Store less and compute it again, with the same result; "full"
            stores least.
        mirror: The axes along which volumes are mirrored: of D, H, W 0, 1 and 2.
        shift: By how many voxels they are shifted at most.
        batch_size: Volumes in a step, of all replicas together.
        max_epochs: How often all volumes are shown.
        precision: 32-true, bf16-mixed, 16-mixed or 64-true.
        strategy: auto, none, mirrored or multi_worker_mirrored.
        seed: Of the weights, the order of the volumes and their augmentation.
        resume: Go on with the latest run, or from this checkpoint.
        fast_dev_run: Run one batch of everything, or so many, to see that it works.
        output_dir: Where `runs` is written to.
        export_dir: Where to write a SavedModel for TensorFlow Serving to.
    """
    kd.seed_everything(seed)
    augmented: dict[str, Any] = {"augment": True, "mirror": mirror, "shift": shift}
    volumes: kd.data.ArrayDataModule = (
        kd.data.Arrays.from_npz(data, batch_size, **augmented)
        if data
        else kd.data.DigitVolumes(batch_size, **augmented)
    )
    options: dict[str, Any] = {"memory_efficient": memory_efficient}
    if network == "DenseNetBC":
        options |= {"blocks": (4, 4, 4), "growth_rate": 12}
    given = {"blocks": blocks, "growth_rate": growth_rate}
    options |= {name: value for name, value in given.items() if value is not None}
    module: kd.ImageClassifier = (
        kd.FineTuning(
            getattr(kd, network),
            weights=weights,
            inflate=inflate and len(volumes.input_shape) == 4,
            learning_rate=0.01,
            **options,
        )
        if weights
        else kd.ImageClassifier(
            getattr(kd, network), learning_rate=0.1, lr_schedule="cosine", **options
        )
    )
    trainer = kd.Trainer(
        max_epochs=max_epochs,
        precision=precision,
        strategy=strategy,
        fast_dev_run=fast_dev_run,
        default_root_dir=output_dir,
    )
    trainer.fit(
        module,
        datamodule=volumes,
        ckpt_path="last" if resume is True else resume or None,
    )
    best = None if fast_dev_run else "best"
    metrics = trainer.test(module, datamodule=volumes, ckpt_path=best)
    trainer.report(module, datamodule=volumes)
    if export_dir:
        trainer.export(module, export_dir)
    name = "accuracy" if "accuracy" in metrics else "auroc"
    print(f"{name} of the test set: {metrics[name]:.3f}")


if __name__ == "__main__":
    kd.run_recipe(main)
