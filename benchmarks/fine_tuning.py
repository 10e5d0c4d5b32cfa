"""What weights from elsewhere are worth: fine-tuning against training from scratch.

    python benchmarks/fine_tuning.py --data-dir tfds

A DenseNet-BC (L = 22, k = 12) is trained on eight of CIFAR-10's classes. Pictures of
the two others, cats and dogs, make a folder: 400 cats and 200 dogs to train on, 100 and
50 more to validate on, and all 2,000 test pictures to test on. Then
`recipes/finetune.py` trains on that folder, showing cats as often as dogs, with those
weights and without, with the same seeds. The test error of each way is printed, and all
runs are kept.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import mean

import numpy as np
from PIL import Image

import keras_densenet as kd
from keras_densenet.data.arrays import Split

RECIPE = Path(__file__).parent.parent / "recipes" / "finetune.py"
NEW = {"cat": 3, "dog": 5}  # CIFAR-10's numbers
MANY = {"cat": {"train": 400, "val": 100}, "dog": {"train": 200, "val": 50}}
NETWORK = {"depth": 22, "growth_rate": 12}
WAYS = {
    "fine-tuned": (),
    "classifier alone": ("--frozen", "backbone"),
    "from scratch": ("--from-scratch",),
    "from scratch, 5 times the epochs": ("--from-scratch", "--max-epochs", "100"),
}
TEST_ERROR = re.compile(r"^Test error: ([\d.]+) %$", re.M)


class OtherClasses(kd.data.CIFAR10):
    """CIFAR-10 without cats and dogs, the classes of the folder."""

    num_classes = 10 - len(NEW)
    old = tuple(number for number in range(10) if number not in NEW.values())
    class_names = tuple(kd.data.CIFAR10.class_names[number] for number in old)

    def load_splits(self, stage: str) -> dict[str, Split]:
        """Read the pictures of the eight classes, and number the classes anew."""
        numbers = np.full(10, -1)
        numbers[list(self.old)] = range(len(self.old))
        return {
            name: Split(
                np.asarray(split.images)[numbers[split.labels] >= 0],
                numbers[split.labels][numbers[split.labels] >= 0],
            )
            for name, split in super().load_splits(stage).items()
        }


def main() -> None:
    """Make the folder and the weights, train in each way, and print the test errors."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", help="where TensorFlow Datasets has CIFAR-10")
    parser.add_argument("--output-dir", type=Path, default=Path("fine_tuning"))
    parser.add_argument("--max-epochs", type=int, default=10, help="on eight classes")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--fast-dev-run", action="store_true", help="train for a batch, as a trial"
    )
    options = parser.parse_args()
    pictures, weights = options.output_dir / "pictures", options.output_dir / "eight"
    if not pictures.is_dir():
        write_folder(pictures, options.data_dir)
    found = sorted(weights.glob("runs/*/*/checkpoints/last.keras"))
    if not found:
        found = [train_on_others(weights, options)]
    for name, arguments in WAYS.items():
        errors = [
            fine_tuned(pictures, found[-1], seed, arguments, options)
            for seed in range(1, options.seeds + 1)
        ]
        each = ", ".join(f"{error:.2f}" for error in errors)
        print(f"{name}: {mean(errors):.2f} % test error (mean of {each})", flush=True)


def write_folder(root: Path, data_dir: str | None) -> None:
    """Write the pictures of cats and dogs into folders, as `ImageFolder` reads them."""
    data = kd.data.CIFAR10(data_dir=data_dir)
    data.prepare_data()
    train, test = data.load_splits("fit")["train"], data.load_splits("test")["test"]
    for name, number in NEW.items():
        of_class = np.asarray(train.images)[np.asarray(train.labels) == number]
        first = 0
        for split, many in MANY[name].items():
            write_pictures(root / split / name, of_class[first : first + many])
            first += many
        of_test = np.asarray(test.images)[np.asarray(test.labels) == number]
        write_pictures(root / "test" / name, of_test)


def write_pictures(folder: Path, pictures: np.ndarray) -> None:
    """Write pictures as PNGs into a new folder."""
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{number:04}.png")


def train_on_others(folder: Path, options: argparse.Namespace) -> Path:
    """Train on the eight classes, and return the last checkpoint."""
    kd.seed_everything(0)
    module = kd.ImageClassifier(kd.DenseNetBC, lr_schedule="cosine", **NETWORK)
    data = OtherClasses(data_dir=options.data_dir)
    trainer = kd.Trainer(
        max_epochs=options.max_epochs,
        default_root_dir=folder,
        limit_train_batches=1 if options.fast_dev_run else 1.0,
    )
    trainer.fit(module, datamodule=data)
    metrics: Mapping[str, float] = trainer.test(module, datamodule=data)
    print(f"Eight classes: {100 * (1 - metrics['accuracy']):.2f} % test error")
    return Path(trainer.checkpoint_callback.last_model_path)


def fine_tuned(
    pictures: Path,
    weights: Path,
    seed: int,
    arguments: tuple,
    options: argparse.Namespace,
) -> float:
    """Run the recipe, and return its test error in percent."""
    command = [sys.executable, RECIPE, "--data-dir", pictures, "--image-size", 32]
    command += ["--network", "DenseNetBC", "--weights", weights, "--seed", seed]
    command += ["--output-dir", options.output_dir, "--balanced"]
    command += ["--fast-dev-run"] * options.fast_dev_run
    for name, value in NETWORK.items():
        command += [f"--{name}", value]
    done = subprocess.run(
        [*map(str, command), *arguments], capture_output=True, text=True, check=False
    )
    found = TEST_ERROR.search(done.stdout)
    if not found:
        sys.exit(f"{done.stdout}\n{done.stderr}")
    return float(found[1])


if __name__ == "__main__":
    main()
