"""What `wheel_smoke.py` runs where the wheel is installed, in an empty folder.

It trains a tiny network on the digits, tests, reports, exports, verifies, predicts,
saves and loads weights, and asks the command line. It fails where a file of the package
or one of its dependencies is missing. It is a process of its own, to which Python shows
no file of the repository.
"""

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy as np

import keras_densenet as kd

CHANCE = 0.1  # of ten digits; of 360 pictures with a standard deviation of 0.016


def main() -> None:
    """Try the installed package."""
    assert Path(kd.__file__).is_relative_to(sys.prefix), kd.__file__
    assert not list(Path().iterdir()), "the working folder is not empty"
    import_everything()
    trainer, module, data = trained()
    looked_at(trainer, module, data)
    exported(trainer, module)
    weights_go_out_and_in(module)
    command_line()
    print("The wheel works.")


def import_everything() -> None:
    """Import each module, and each name that is loaded when it is first used."""
    for found in pkgutil.walk_packages(kd.__path__, "keras_densenet."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    for room in (kd, kd.training, kd.export, kd.cross_validation):
        for name in room.__all__:
            assert getattr(room, name) is not None, name


def trained() -> tuple[kd.Trainer, kd.ImageClassifier, kd.data.Digits]:
    """Train on the digits that come with scikit-learn, for some seconds."""
    kd.seed_everything(0)
    data = kd.data.Digits(batch_size=32)
    module = kd.ImageClassifier(kd.DenseNetBC, depth=10, growth_rate=4)
    trainer = kd.Trainer(max_epochs=3)
    trainer.fit(module, datamodule=data)
    accuracy = trainer.test(module, datamodule=data)["accuracy"]
    assert accuracy > 2 * CHANCE, accuracy
    return trainer, module, data


def looked_at(
    trainer: kd.Trainer, module: kd.ImageClassifier, data: kd.data.Digits
) -> None:
    """Predict, and write the report, whose page is a file of the package."""
    probabilities = trainer.predict(module, datamodule=data)
    assert probabilities.shape == (360, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    page = trainer.report(module, datamodule=data)
    assert "</html>" in page.read_text(encoding="utf-8")
    written = {path.name for path in Path(trainer.log_dir).iterdir()}
    assert {"config.yaml", "metrics.csv", "curves.png", "train"} <= written, written


def exported(trainer: kd.Trainer, module: kd.ImageClassifier) -> None:
    """Export, and check the version in a process of its own."""
    version = trainer.export(module, "served/digits")
    assert version == Path("served/digits/1")
    assert "holds" in python("-m", "keras_densenet.export", "verify", str(version))


def weights_go_out_and_in(module: kd.ImageClassifier) -> None:
    """Save weights for PyTorch and for Keras, and load them into another network."""
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    expected = module.model.predict(images, verbose=0)
    module.model.save("whole.keras")
    kd.weights.save(module.model, "densenet.pth")
    for source in ("whole.keras", "densenet.pth"):
        network = kd.DenseNetBC(10, 4)
        assert not np.allclose(network.predict(images, verbose=0), expected)
        kd.weights.load(network, source)
        found = network.predict(images, verbose=0)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def command_line() -> None:
    """Ask for the versions, for the options of a stage, and what a file is."""
    versions = python("-m", "keras_densenet", "--version")
    assert versions.startswith(f"keras_densenet {kd.__version__} (Keras 3."), versions
    assert "--trainer.max_epochs" in python("-m", "keras_densenet", "fit", "--help")
    described = python("-m", "keras_densenet.weights", "describe", "densenet.pth")
    assert "growth_rate=4" in described, described


def python(*arguments: str) -> str:
    """Run Python without the user's folders, and return what it prints."""
    command = [sys.executable, "-I", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
