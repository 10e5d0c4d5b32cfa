r"""Read chest films: DenseNet-121 on NIH's ChestX-ray14, several findings a film.

    python recipes/chest_xray.py --data-dir nih                 # weights for ImageNet
    python recipes/chest_xray.py --data-dir nih --weights xrv.pt --channels 1
    python recipes/chest_xray.py --data-dir nih --split patients --image-size 320
    python recipes/chest_xray.py --data mosaics                 # built in: 4 minutes

The folder has what https://nihcc.app.box.com/v/ChestXray-NIHCC offers (Wang et al.
2017; 112,120 films of 30,805 patients): `Data_Entry_2017*.csv`, `test_list.txt` and the
films, in folders of any names. `--split official` tests on the list's 25,596 films;
`--split patients` on 20 % of the patients. 10 % of the others are validated on. No
patient is in two parts.

The network ends in a sigmoid for each of 14 findings, "No Finding" being none of them.
The loss is binary cross-entropy. SGD, batches of 32, the learning rate falls from 0.01
to 0 along a cosine. Films are not mirrored: a chest has a left side. The epoch of the
highest mean AUROC on the validation films is tested. These also choose a temperature
and a threshold for each finding, by `--rule`; report and export decide by them.

AUROCs that were published, none of them of this package. Wang et al. and Rajpurkar et
al. (CheXNet, 2017) trained and tested on splits of their own; torchxrayvision's
`densenet121-res224-all`, of seven data sets, was tested on 20 % of these films:

    finding              Wang   CheXNet  torchxrayvision
    Atelectasis          0.716  0.809    0.76
    Cardiomegaly         0.807  0.925    0.88
    Consolidation        0.708  0.790    0.77
    Edema                0.835  0.888    0.85
    Effusion             0.784  0.864    0.85
    Emphysema            0.815  0.937    0.73
    Fibrosis             0.769  0.805    0.72
    Hernia               0.767  0.916    0.91
    Infiltration         0.609  0.735    0.68
    Mass                 0.706  0.868    0.80
    Nodule               0.671  0.780    0.69
    Pleural_Thickening   0.708  0.806    0.74
    Pneumonia            0.633  0.768    0.71
    Pneumothorax         0.806  0.889    0.75
    mean                 0.738  0.841    0.774

On the official split a DenseNet-121 at 320 pixels is published with a mean of 0.81.

`--data mosaics` goes the same way with what is built in: real hand-written digits, up
to four in a picture, by a DenseNet-BC (L = 22, k = 12) from random weights.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import keras_densenet as kd

WHAT_TO_GET = (
    "{} is no folder with Data_Entry_2017*.csv, test_list.txt and the films, which "
    "https://nihcc.app.box.com/v/ChestXray-NIHCC offers (42 GB): name theirs with "
    "--data-dir, or try all this on what is built in, with --data mosaics."
)


def main(
    data: Literal["nih", "mosaics"] = "nih",
    data_dir: Path = Path("nih"),
    split: Literal["official", "patients"] = "official",
    image_size: int = 224,
    channels: Literal[1, 3] = 3,
    weights: str = "imagenet",
    frozen: str | None = None,
    balanced: bool = False,
    memory_efficient: bool | Literal["full"] = False,
    batch_size: int = 32,
    max_epochs: int = 6,
    rule: str = "youden",
    precision: str = "32-true",
    strategy: str = "auto",
    seed: int = 0,
    resume: bool | Path = False,
    fast_dev_run: bool | int = False,
    output_dir: Path = Path(),
    export_dir: Path | None = None,
) -> None:
    """Train, test the best epoch, say how well each finding is told, and report.

    Args:
        data: Films, or the mosaics of digits that are built in.
        data_dir: The folder of the films and of their table.
        split: Which films are tested on: NIH's list, or 20 % of the patients.
        image_size: Height and width of what the network sees, in pixels.
        channels: 1 for gray films as they are, 3 for weights of color pictures.
        weights: "imagenet" downloads those of keras.applications; or any file of a
            DenseNet-121, such as torchxrayvision's or CheXNet's.
        frozen: The last layer that stays as it is, such as dense_block2; or backbone.
        balanced: Let a film with a finding weigh as much as all films without it.
        memory_efficient: Store less and compute it again, with the same result; "full"
            stores least.
        batch_size: Pictures in a step, of all replicas together.
        max_epochs: How often all pictures are shown.
        rule: What thresholds are chosen by: youden, f1, sensitivity=0.9, ppv=0.8, ...
        precision: 32-true, bf16-mixed, 16-mixed or 64-true.
        strategy: auto, none, mirrored or multi_worker_mirrored.
        seed: Of the weights, the order of the pictures and their augmentation.
        resume: Go on with the latest run, or from this checkpoint.
        fast_dev_run: Run one batch of everything, or so many, to see that it works.
        output_dir: Where `runs` is written to.
        export_dir: Where to write a SavedModel for TensorFlow Serving to.
    """
    kd.seed_everything(seed)
    positive_weight: Any = "balanced" if balanced else 1.0
    if data == "mosaics":
        pictures: Any = kd.data.DigitMosaics(batch_size)
        module = kd.ImageClassifier(
            kd.DenseNetBC,
            depth=22,
            growth_rate=12,
            learning_rate=0.1,
            lr_schedule="cosine",
            positive_weight=positive_weight,
            memory_efficient=memory_efficient,
        )
    else:
        known = kd.weights.preprocessing(weights, channels=channels)
        pictures = films(data_dir, split, batch_size, image_size, channels, known)
        module = kd.FineTuning(
            kd.DenseNet121,
            weights=weights,
            frozen=frozen,
            learning_rate=0.01,
            positive_weight=positive_weight,
            memory_efficient=memory_efficient,
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
        datamodule=pictures,
        ckpt_path="last" if resume is True else resume or None,
    )
    best = None if fast_dev_run else "best"
    metrics = trainer.test(module, datamodule=pictures, ckpt_path=best)
    decisions = trainer.calibrate(module, pictures, best, rule=rule)
    say_how_well(trainer, module, pictures, decisions.thresholds)
    trainer.report(module, datamodule=pictures)
    if export_dir:
        trainer.export(module, export_dir)
    print(f"Mean AUROC of the test pictures: {metrics['auroc']:.3f}")


def films(
    folder: Path,
    split: str,
    batch_size: int,
    image_size: int,
    channels: int,
    known: "kd.weights.Preprocessing | None",
) -> "kd.data.ImageTable":
    """Return NIH's films, with no patient in two parts."""
    tables = sorted(folder.glob("Data_Entry_2017*.csv*"))
    if not tables:
        raise ValueError(WHAT_TO_GET.format(folder))
    official = {"test": folder / "test_list.txt"}
    return kd.data.ImageTable(
        tables[0],
        batch_size,
        image_size,
        images=folder,
        file="Image Index",
        labels="Finding Labels",
        separator="|",
        none="No Finding",
        group="Patient ID",
        split=official if split == "official" else None,
        test_fraction=0.0 if split == "official" else 0.2,
        channels=channels,
        fit="squash",  # films are nearly squares, and their edges count
        mirror=False,
        mean=known.mean if known else None,
        std=known.std if known else None,
    )


def say_how_well(
    trainer: "kd.Trainer", module: Any, data: Any, thresholds: Sequence[float]
) -> None:
    """Print how well each label is told from its absence."""
    import numpy as np
    from rich.table import Table

    answers = trainer.predict(module, datamodule=data)
    data.setup("test")
    labels = np.concatenate([labels for _, labels in data.test_dataset()])
    members = data.members("test")
    patients = members.groups if members else None
    many = len(answers)  # of a dry run fewer than there are labels
    told = kd.analysis.LabelPredictions(
        labels[:many],
        answers,
        data.class_names,
        thresholds,
        patients[:many] if patients is not None else None,
    )
    table = Table(title="Test pictures, with intervals of 95 %")
    for name in ("label", "have it", "AUROC", "", "sensitivity", "specificity"):
        table.add_column(name)
    for score in told.label_scores():
        area, low, high = score.area
        interval = "" if np.isnan(low) else f"{low:.3f} to {high:.3f}"
        row = (f"{score.prevalence:.1%}", f"{area:.3f}", interval)
        shares = (f"{score.sensitivity:.3f}", f"{score.specificity:.3f}")
        table.add_row(score.name, *row, *shares)
    table.add_row("mean", "", f"{told.mean_area:.3f}")
    trainer.console.print(table)


if __name__ == "__main__":
    kd.run_recipe(main)
