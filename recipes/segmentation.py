r"""Tell the class of each pixel: an FC-DenseNet on pictures with masks.

    python recipes/segmentation.py                               # built in: 7 minutes
    python recipes/segmentation.py --data-dir CamVid --depth 103 \
        --batch-size 5 --crop-size 224 --memory-efficient full
    python recipes/segmentation.py --data-dir lesions --classes skin=0 lesion=255

A folder has `train/`, `val/` and `test/` with the pictures, and `trainannot/`,
`valannot/` and `testannot/` with the masks, as CamVid has in its usual form (Brostow et
al. 2008); or the pictures in `images/` and the masks in `masks/`. Without `--classes`
these are CamVid's eleven, and number 11 is void.

The paper (Jegou et al. 2017, "The One Hundred Layers Tiramisu", Table 3) has on CamVid:

    network            parameters    mean IoU    pixels right
    FC-DenseNet56           1.5 M      58.9 %          88.9 %
    FC-DenseNet67           3.5 M      65.8 %          90.8 %
    FC-DenseNet103          9.4 M      66.9 %          91.5 %

by RMSProp, whose learning rate of 0.001 is 0.995 times as high after each epoch, with a
weight decay of 1e-4, on crops of 224, and then on whole pictures at 1e-4. Here it falls
along a cosine, and training and test are on crops of 224, in the test the center of
256: these numbers are not the paper's. Memory of training FC-DenseNet103 at 224x224, MB
a picture: 1,215; with `--memory-efficient full` 252.

Without a folder it trains an FC-DenseNet of five blocks on digits on photographs:
scikit-learn's hand-written digits on pictures of CIFAR-10, or, where that cannot be
had, on scikit-learn's two photographs. Of their test pictures all background would be
a mean IoU of 0.08, and each digit's box, if one knew it, 0.64.
"""

from pathlib import Path
from typing import Any, Literal

import keras_densenet as kd

CAMVID: tuple[str, ...] = (
    *("sky", "building", "pole", "road", "sidewalk", "tree", "sign", "fence"),
    *("car", "pedestrian", "bicyclist"),
)
CAMVID_VOID = 11


def main(
    data_dir: Path | None = None,
    classes: tuple[str, ...] = (),
    backgrounds: Literal["auto", "cifar10", "photos"] = "auto",
    depth: Literal[56, 67, 103] | None = None,
    blocks: tuple[int, ...] | None = None,
    growth_rate: int | None = None,
    crop_size: int | None = None,
    memory_efficient: bool | Literal["full"] = False,
    learning_rate: float = 0.001,
    batch_size: int | None = None,
    max_epochs: int | None = None,
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
        data_dir: A folder of pictures and masks; without one, digits on photographs.
        classes: Names of the classes, in the order of their numbers in the masks; or
            each with its number, as skin=0 lesion=255. By default CamVid's.
        backgrounds: Of the digits: CIFAR-10's pictures, which TensorFlow Datasets has
            in TFDS_DATA_DIR or downloads; parts of scikit-learn's two photographs; or
            auto for these where CIFAR-10 cannot be had.
        depth: One of the paper's networks; by default 103, or your own blocks.
        blocks: Dense layers in each block, down and up, such as 4 5 7 5 4.
        growth_rate: k, the maps that each layer adds.
        crop_size: Pixels of a picture's side, for training and for evaluation; by
            default 224, of the digits 32.
        memory_efficient: Store less and compute it again, with the same result; "full"
            stores least.
        learning_rate: At the beginning.
        batch_size: Pictures in a step, of all replicas together; by default 5, of the
            digits 16.
        max_epochs: How often all pictures are shown; by default 750, of the digits 12.
        precision: 32-true, bf16-mixed, 16-mixed or 64-true.
        strategy: auto, none, mirrored or multi_worker_mirrored.
        seed: Of the weights, the order of the pictures and their augmentation.
        resume: Go on with the latest run, or from this checkpoint.
        fast_dev_run: Run one batch of everything, or so many, to see that it works.
        output_dir: Where `runs` is written to.
        export_dir: Where to write a SavedModel for TensorFlow Serving to.
    """
    kd.seed_everything(seed)
    options: dict[str, Any] = {"memory_efficient": memory_efficient}
    options |= {"growth_rate": growth_rate} if growth_rate else {}
    if data_dir:
        data = kd.data.MaskFolder(
            data_dir,
            _numbered(classes) or CAMVID,
            batch_size or 5,
            image_size=crop_size or 224,
            void=255 if classes else (CAMVID_VOID, 255),
        )
        options |= {"blocks": blocks} if blocks else {"depth": depth or 103}
    else:
        data = _digits(backgrounds, batch_size or 16)
        options = {"blocks": blocks or (4, 4, 4, 4, 4), "growth_rate": 12} | options
        options |= {"dropout_rate": 0.0}
    module = _by_rmsprop(
        kd.FCDenseNet,
        learning_rate=learning_rate,
        lr_schedule="cosine",
        **options,
    )
    trainer = kd.Trainer(
        max_epochs=max_epochs or (750 if data_dir else 12),
        precision=precision,
        strategy=strategy,
        fast_dev_run=fast_dev_run,
        default_root_dir=output_dir,
    )
    trainer.fit(
        module,
        datamodule=data,
        ckpt_path="last" if resume is True else resume or None,
    )
    best = None if fast_dev_run else "best"
    metrics = trainer.test(module, datamodule=data, ckpt_path=best)
    trainer.report(module, datamodule=data)
    if export_dir:
        trainer.export(module, export_dir)
    print(f"Mean IoU of the test pictures ({data.title}): {metrics['mean_iou']:.3f}")


def _by_rmsprop(network: Any, **options: Any) -> "kd.ImageClassifier":
    """Return an image classifier that is trained by the paper's optimizer."""
    import keras

    class ByRMSProp(kd.ImageClassifier):
        def configure_optimizer(self, total_steps: int) -> keras.optimizers.Optimizer:
            rate, decay = self.schedule(total_steps), self.weight_decay
            return keras.optimizers.RMSprop(rate, weight_decay=decay)

    return ByRMSProp(network, **options)


def _digits(backgrounds: str, batch_size: int) -> "kd.data.DigitScenes":
    """Return digits on pictures of CIFAR-10, or on photographs that are built in."""
    if backgrounds == "photos":
        return kd.data.DigitScenes(batch_size=batch_size)
    data = kd.data.DigitScenes(batch_size=batch_size, backgrounds="cifar10")
    try:
        data.prepare_data()
    except kd.data.DataUnavailableError as error:
        if backgrounds == "cifar10":
            raise
        print(f"{error}\nThe digits are on scikit-learn's two photographs instead.")
        return kd.data.DigitScenes(batch_size=batch_size)
    return data


def _numbered(classes: tuple[str, ...]) -> dict[str, int] | tuple[str, ...]:
    """Return the number of each class where numbers are given, else the names."""
    pairs = [name.rsplit("=", 1) for name in classes]
    if all(len(pair) == 2 for pair in pairs):
        return {name: int(number) for name, number in pairs}
    return classes


if __name__ == "__main__":
    kd.run_recipe(main)
