"""Every recipe, run as a user runs it, in its smallest form."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import keras_densenet as kd

ROOT = Path(__file__).parents[2]
RECIPES = [path.name for path in sorted((ROOT / "recipes").glob("*.py"))]
OFFLINE = {  # nothing answers there: no network
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "HTTP_PROXY": "http://127.0.0.1:9",
}
SMALL = ["--depth", "10", "--growth-rate", "4"]


class Answer(NamedTuple):
    """What a command printed, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


def run(recipe, *options, cwd, **environment):
    """Run a recipe as a user does, in a process of its own."""
    return subprocess.run(
        [sys.executable, ROOT / "recipes" / recipe, *map(str, options)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def run_here(monkeypatch, capsys):
    """Run a recipe in this process, which has loaded TensorFlow already."""

    def ran(recipe, *options, cwd, **environment):
        monkeypatch.chdir(cwd)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        code: int | str | None = 0
        try:
            kd.run_recipe(loaded(recipe).main, [str(option) for option in options])
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        if isinstance(code, str):  # which Python prints, and exits with 1
            return Answer(1, out, err + code)
        return Answer(code or 0, out, err)

    return ran


def loaded(recipe):
    """Import a recipe, as a script of another name."""
    path = ROOT / "recipes" / recipe
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Fitted(Exception):  # noqa: N818, it is no error
    """What a recipe gave to the trainer, to look at instead of training."""

    def __init__(self, flags, module, data, ckpt_path):
        super().__init__()
        self.flags, self.module, self.data = flags, module, data
        self.ckpt_path = ckpt_path


class Fits:
    """Stands for the trainer, and ends the recipe where it would train."""

    def __init__(self, **flags):
        self.flags = flags

    def fit(self, module, datamodule, ckpt_path):
        raise Fitted(self.flags, module, datamodule, ckpt_path)


@pytest.fixture
def given(monkeypatch):
    """Return what a recipe gives to the trainer, by its command line."""
    monkeypatch.setattr(kd, "Trainer", Fits)
    for data in (kd.data.CIFAR10, kd.data.CIFAR100, kd.data.SVHN):
        monkeypatch.setattr(data, "prepare_data", lambda self: None)

    def of(recipe, *arguments):
        with pytest.raises(Fitted) as fitted:
            kd.run_recipe(loaded(recipe).main, [str(a) for a in arguments])
        return fitted.value

    return of


def test_the_resnet_has_the_parameters_of_its_paper():
    """Kernels of 3x3 and 1x1, a classifier, and four vectors a batch norm; by hand."""
    convolutions = 9 * (3 * 16 + 2 * 16**2 + 16 * 32 + 32**2 + 32 * 64 + 64**2)
    projections = 16 * 32 + 32 * 64
    norms = 4 * (16 + 16 + 16 + 32 + 32 + 64 + 64)
    model = loaded("resnet_comparison.py").resnet(8)
    assert model.count_params() == convolutions + projections + norms + 64 * 10 + 10
    with pytest.raises(ValueError, match="6 n"):
        loaded("resnet_comparison.py").resnet(10)


def test_a_layer_is_left_out_and_put_back():
    recipe = loaded("resnet_comparison.py")
    pictures = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
    for build, many in ((kd.DenseNetBC, 3), (recipe.resnet, 3)):
        depth = 10 if build is kd.DenseNetBC else 8
        model = build(depth, input_shape=(16, 16, 3))
        kernels = list(recipe.droppable(model))
        assert len(kernels) == many
        before = model(pictures).numpy()
        for kernel in kernels:
            with recipe.without(kernel):
                assert not kernel.numpy().any()
                assert not np.array_equal(model(pictures), before)
        np.testing.assert_array_equal(model(pictures), before)


@pytest.mark.slow
def test_networks_are_compared_on_the_digits(tmp_path, monkeypatch, capsys):
    recipe = loaded("resnet_comparison.py")
    monkeypatch.setattr(recipe, "PAIRS", ((10, 8),))
    monkeypatch.setattr(recipe, "TESTED", 100)
    recipe.main(data="digits", fast_dev_run=True, output_dir=tmp_path)
    folder = tmp_path / "comparison"
    names = {path.name for path in folder.iterdir()}
    pictures = {"comparison.png", "dropped.png", "gradient_flow.png"}
    assert names == {"comparison.csv", *pictures}
    rows = (folder / "comparison.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["DenseNet-BC-10", "ResNet-8"]
    assert rows[2].split(",")[1] == "78330"
    assert "All of it is in" in capsys.readouterr().out


@pytest.mark.parametrize("recipe", RECIPES)
def test_help_is_given_without_tensorflow(recipe, tmp_path):
    # Importing a package named tensorflow fails here, so help came before it.
    (tmp_path / "tensorflow.py").write_text("raise ImportError('too early')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    answer = run(recipe, "--help", cwd=tmp_path, PYTHONPATH=path)
    assert answer.returncode == 0, answer.stderr
    expected = "--host" if recipe == "ask_server.py" else "--max-epochs"
    assert expected in answer.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        ("cifar10.py", "CIFAR-10"),
        pytest.param("cifar100.py", "CIFAR-100", marks=pytest.mark.slow),
        pytest.param("svhn.py", "SVHN", marks=pytest.mark.slow),
    ],
)
def test_without_data_it_falls_back_to_the_digits_loudly(
    recipe, name, tmp_path, run_here
):
    answer = run_here(
        recipe,
        *SMALL,
        "--fast-dev-run",
        "--data-dir",
        tmp_path / "none",
        cwd=tmp_path,
        **OFFLINE,
    )
    assert answer.returncode == 0, answer.stderr
    assert f"This is NOT {name.replace('-', '')}" in answer.stderr
    last = answer.stdout.strip().splitlines()[-1]
    assert last.startswith(f"Test error on the digits, NOT {name}")


def test_cifar10_stops_where_only_cifar10_will_do(tmp_path, run_here):
    answer = run_here(
        "cifar10.py",
        *SMALL,
        *("--data", "cifar10", "--data-dir", tmp_path / "none"),
        cwd=tmp_path,
        **OFFLINE,
    )
    assert answer.returncode == 1
    assert "Three ways out" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.slow
def test_cifar10_trains_exports_and_resumes(tmp_path, run_here):
    options = [*SMALL, "--data", "digits", "--batch-size", 128, "--no-augment"]
    first = run(
        "cifar10.py",
        *options,
        *("--max-epochs", 1, "--export-dir", "served/digits"),
        cwd=tmp_path,
    )
    assert first.returncode == 0, first.stderr
    assert (tmp_path / "served" / "digits" / "1" / "saved_model.pb").is_file()
    second = run_here(
        "cifar10.py", *options, "--max-epochs", 2, "--resume", cwd=tmp_path
    )
    assert second.returncode == 0, second.stderr
    assert "Resuming after epoch 1" in second.stdout
    assert "Epoch   2/2" in second.stdout


def small(classes, input_shape, memory_efficient):
    return kd.DenseNetBC(10, 4, classes=classes, input_shape=input_shape)


@pytest.mark.slow
def test_imagenet_trains_on_a_folder_and_is_tested_by_ten_crops(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kd, "DenseNet121", small)
    colors = np.random.default_rng(0).integers(0, 256, (4, 40, 50, 3), "uint8")
    for split in ("train", "val"):
        for number, pixels in enumerate(colors):
            folder = tmp_path / "pictures" / split / f"n0{number % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{number}.JPEG")
    command = "--folder pictures --image-size 32 --batch-size 2 --max-epochs 1"
    kd.run_recipe(
        loaded("imagenet.py").main, [*command.split(), "--export-dir", "served/x"]
    )
    printed = capsys.readouterr().out
    assert (tmp_path / "served" / "x" / "1" / "saved_model.pb").is_file()
    (last,) = tmp_path.rglob("last.keras")
    model = keras.saving.load_model(last)
    data = kd.data.ImageNet(2, folder=tmp_path / "pictures", image_size=32)
    data.setup("test")
    wrong = {"one crop": 0, "ten crops": 0}
    for (images, labels), (views, _) in zip(
        data.test_dataset(), data.ten_crop_dataset(), strict=True
    ):
        wrong["one crop"] += np.sum(np.argmax(model(images), -1) != labels)
        logs = [np.log(model(views[:, view])) for view in range(10)]
        wrong["ten crops"] += np.sum(np.mean(logs, axis=0).argmax(-1) != labels)
    for how, number in wrong.items():  # of 4 pictures
        assert f"By {how}: top-1 error {25 * number:.2f} %\n" in printed


def write_digits(root, digits, many):
    """Write a folder of real pictures: one folder a digit."""
    pixels, labels = load_digits(return_X_y=True)
    for digit in digits:
        (root / f"digit {digit}").mkdir(parents=True)
        for number, grey in enumerate(pixels[labels == digit][:many]):
            picture = (
                np.uint8(grey.reshape(8, 8) * (255 / 16)).repeat(4, 0).repeat(4, 1)
            )
            Image.fromarray(picture).save(root / f"digit {digit}" / f"{number}.png")


@pytest.mark.slow
def test_finetune_trains_tests_looks_and_exports(tmp_path, run_here):
    """In one command, on pictures that are standardized as the weights say."""
    write_digits(tmp_path / "pictures", (3, 8), 40)
    before = kd.Trainer(
        max_epochs=1,
        limit_train_batches=2,
        default_root_dir=tmp_path / "before",
        enable_progress_bar=False,
    )
    network = {"depth": 10, "growth_rate": 4}
    module = kd.ImageClassifier(kd.DenseNetBC, **network)
    before.fit(module, datamodule=kd.data.Digits(batch_size=32))
    checkpoint = before.checkpoint_callback.last_model_path
    answer = run_here(
        "finetune.py",
        *(
            "--data-dir",
            "pictures",
            "--weights",
            checkpoint,
            "--frozen",
            "dense_block1",
        ),
        *("--network", "DenseNetBC", *SMALL, "--image-size", 32, "--max-epochs", 2),
        *("--export-dir", "served/digits", "--batch-size", 16, "--class-weight"),
        cwd=tmp_path,
    )
    assert answer.returncode == 0, answer.stderr
    folder = tmp_path / "runs" / "imagefolder-densenet_bc_10_4" / "version_0"
    for name in ("confusion.png", "class_activation.png", "report.html"):
        assert (folder / name).stat().st_size > 1_000
    assert "│ digit 3 │ 6        │" in answer.stdout  # 15 % of 40
    # The stem and the first block are those of the checkpoint still.
    tuned = keras.saving.load_model(folder / "checkpoints" / "last.keras")
    for name, same in (
        ("stem_conv", True),
        ("dense_block1", True),
        ("final_bn", False),
    ):
        ours, theirs = (m.get_layer(name).weights for m in (tuned, module.model))
        equal = [np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True)]
        assert all(equal) == same
    # What it is served with, and what its own checkpoint says, are the digits' own.
    exported = json.loads(
        (
            tmp_path / "served" / "digits" / "1" / "assets.extra" / "export.json"
        ).read_text()
    )
    assert exported["preprocessing"]["mean"] == [77.8] * 3
    again = kd.weights.preprocessing(folder / "checkpoints" / "last.keras")
    assert again == ((77.8,) * 3, (95.8,) * 3)
    error = re.search(r"^Test error: (.+) %$", answer.stdout, re.M)[1]
    # Its config makes it again, in a new process.
    tested = subprocess.run(
        [
            *(sys.executable, "-m", "keras_densenet", "test", "--ckpt_path", "last"),
            *("--config", folder / "config.yaml"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert tested.returncode == 0, tested.stderr
    accuracy = re.search(r"accuracy │ ([\d.]+)", tested.stdout)[1]
    assert 100 * (1 - float(accuracy)) == pytest.approx(float(error), abs=0.01)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--data-dir", "nowhere"], "There is no folder nowhere"),
        (["--data-dir", "pictures", "--weights", "no.pth"], "There is no file no.pth"),
        (["--data-dir", "pictures", "--weights", "text.pth"], "text.pth"),
        (["--data-dir", "pictures", "--frozen", "layer9"], "dense_block1"),
        (
            ["--data-dir", "pictures", "--test-fraction", "0"],
            "has no test pictures: make a folder test/",
        ),
        (["--data-dir", "pictures", "--mean", "127.5"], "give both, or neither"),
    ],
)
def test_finetune_says_what_is_wrong(given, words, tmp_path, run_here):
    write_digits(tmp_path / "pictures", (3, 8), 9)
    (tmp_path / "text.pth").write_text("no weights")
    small = ["--network", "DenseNetBC", *SMALL, "--image-size", 32, "--batch-size", 4]
    if "--weights" not in given:
        given = ["--from-scratch", *given]
    answer = run_here("finetune.py", *small, *given, cwd=tmp_path)
    assert answer.returncode == 1
    assert words in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not list(tmp_path.rglob("*.keras"))  # it did not train for nothing


def test_imagenet_says_what_to_get(tmp_path, run_here):
    answer = run_here("imagenet.py", "--data-dir", tmp_path / "none", cwd=tmp_path)
    assert answer.returncode == 1
    assert "ILSVRC2012_img_train.tar" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.slow
def test_ten_crops_give_the_answer_of_the_mean_logits():
    data = kd.data.Digits(batch_size=2)
    data.setup("test")
    images = next(iter(data.test_dataset()))[0]  # (2, 32, 32, 3)
    module = kd.ImageClassifier(kd.DenseNetBC, depth=10, growth_rate=4)
    module.data, module.model = data, module.configure_model(data)
    views = np.stack([np.roll(images, shift, axis=2) for shift in range(10)], axis=1)
    recipe = loaded("imagenet.py")
    model = recipe.mean_of_views(kd.Trainer(max_epochs=1), module)
    classifier = module.model.get_layer("classifier")
    classifier.activation = keras.activations.linear
    logits = np.stack([module.model(views[:, n]) for n in range(10)]).mean(axis=0)
    classifier.activation = keras.activations.softmax
    by_hand = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(model.predict(views, verbose=0), by_hand, atol=1e-5)
    # Also where the network within is compiled, as it is after its training.
    module.model.compile(loss=module.configure_loss(), metrics=["accuracy"])
    compiled = recipe.mean_of_views(kd.Trainer(max_epochs=1), module)
    said = by_hand.argmax(axis=-1)
    metrics = compiled.evaluate(views, said, verbose=0, return_dict=True)
    assert metrics["accuracy"] == 1.0
    loss = -np.log(by_hand[[0, 1], said]).mean()
    assert metrics["loss"] == pytest.approx(loss, rel=1e-4)


# How pictures are prepared: (augment, held out, mean and std of the red channel).
CIFAR10 = (True, 5_000, 125.3, 63.0)
CIFAR100 = (True, 5_000, 129.3, 68.2)
SVHN = (False, 6_000, 0.0, 255.0)
IMAGENET = (True, None, 123.675, 58.395)
PICTURES = {
    "cifar10.py": CIFAR10,
    "cifar10.py --no-augment": (False, *CIFAR10[1:]),
    "cifar10.py --validation-size 0": (True, 0, *CIFAR10[2:]),
    "cifar100.py": CIFAR100,
    "cifar100.py --no-augment": (False, *CIFAR100[1:]),
    "svhn.py": SVHN,
    "imagenet.py": IMAGENET,
    "imagenet.py --memory-limited": IMAGENET,
}


@pytest.mark.parametrize("command", PICTURES)
def test_the_papers_pictures(command, given):
    """Section 4.1 of the paper, and the constants of the authors' code."""
    recipe, *arguments = command.split()
    augment, held_out, mean, std = PICTURES[command]
    data = given(recipe, *arguments).data
    assert data.augment == augment
    assert (data.mean[0], data.std[0]) == (mean, std)
    assert getattr(data, "validation_size", None) == held_out
    assert data.strong is None
    if recipe == "imagenet.py":
        assert (data.jitter, data.lighting) == (0.4, 0.1)
        assert (data.image_size, data.short_side) == (224, 256)


# Section 4.2: batch, epochs, dropout, the epochs after which the rate drops.
PAPER = {
    "cifar10.py": (64, 300, 0.0, (150, 225)),
    "cifar10.py --no-augment": (64, 300, 0.2, (150, 225)),
    "cifar100.py": (64, 300, 0.0, (150, 225)),
    "cifar100.py --no-augment": (64, 300, 0.2, (150, 225)),
    "svhn.py": (64, 40, 0.2, (20, 30)),
    "imagenet.py": (256, 90, 0.0, (30, 60)),
    "imagenet.py --memory-limited": (128, 100, 0.0, (30, 60, 90)),
}


@pytest.mark.parametrize("command", PAPER)
def test_the_papers_hyper_parameters(command, given):
    recipe, *arguments = command.split()
    batch_size, epochs, dropout, drops = PAPER[command]
    fitted = given(recipe, *arguments)
    assert fitted.data.batch_size == batch_size
    assert fitted.flags["max_epochs"] == epochs
    assert fitted.module.options.get("dropout_rate", 0.0) == dropout
    optimizer = fitted.module.configure_optimizer(total_steps=1000 * epochs)
    assert (optimizer.momentum, optimizer.nesterov) == (0.9, True)
    assert optimizer.coupled_weight_decay == 1e-4
    rate = 0.1
    for epoch in range(epochs):
        if epoch in drops:
            rate /= 10
        for step in (1000 * epoch, 1000 * epoch + 999):  # first and last of the epoch
            assert float(optimizer._learning_rate(step)) == pytest.approx(rate)


def test_variations_are_one_flag_each(given):
    quicker = given("cifar10.py", "--cosine", "--batch-size", 256, "--scale-lr").module
    assert quicker.lr_schedule == "cosine"
    assert quicker.learning_rate == pytest.approx(0.4)  # four times 64 pictures
    larger = given("imagenet.py", "--batch-size", 1024, "--scale-lr").module
    assert larger.learning_rate == pytest.approx(0.4)  # four times 256 pictures


def test_finetune_is_gentler_with_weights_than_from_scratch(given, tmp_path):
    write_digits(tmp_path, (3, 8), 9)
    folder = ("--data-dir", tmp_path)
    gentle = given("finetune.py", *folder).module
    scratch = given("finetune.py", *folder, "--from-scratch").module
    rates = [(it.weights, it.learning_rate, it.layer_decay) for it in (gentle, scratch)]
    assert rates == [("imagenet", 0.01, 0.8), (None, 0.1, 1.0)]


def test_finetune_takes_films_as_they_are(given, tmp_path):
    write_digits(tmp_path, (3, 8), 9)
    films = ("--data-dir", tmp_path, "--from-scratch", "--channels", 1)
    data = given("finetune.py", *films, "--image-size", 320, 256).data
    assert (data.input_shape, data.mean) == ((320, 256, 1), (114.495,))
    assert (data.fit, data.mirror) == (None, True)
    options = ("--image-size", 96, "--fit", "pad", "--no-mirror")
    data = given("finetune.py", *films, *options).data
    assert (data.input_shape, data.fit, data.mirror) == ((96, 96, 1), "pad", False)
    data = given("finetune.py", "--data-dir", tmp_path, "--channels", 1).data
    assert data.mean == pytest.approx((114.495,))  # of "imagenet"'s (123.675, ...)
    numbers = ("--mean", 127.5, "--std", 63.75)
    data = given("finetune.py", *films, *numbers).data
    assert (data.mean, data.std) == ((127.5,), (63.75,))


def write_films(folder, patients=10):
    """Write two films of each patient, and NIH's table and list of them."""
    lines, findings = ["Image Index,Finding Labels,Patient ID"], ("Mass|Hernia", "Mass")
    (folder / "images_001").mkdir()
    for patient in range(patients):
        for film in range(2):
            name = f"{patient:08}_{film:03}.png"
            found = findings[film] if patient % 2 else "No Finding"
            lines.append(f"{name},{found},{patient}")
            pixels = np.full((9, 8), 20 * patient, "uint8")
            Image.fromarray(pixels).save(folder / "images_001" / name)
    (folder / "Data_Entry_2017_v2020.csv").write_text("\n".join(lines))
    listed = [line.split(",")[0] for line in lines[1:] if line.endswith((",8", ",9"))]
    (folder / "test_list.txt").write_text("\n".join(listed))


def test_chest_xray_reads_nihs_folder(given, tmp_path):
    write_films(tmp_path)
    folder = ("--data-dir", tmp_path, "--batch-size", 2)
    fitted = given("chest_xray.py", *folder, "--channels", 1, "--balanced")
    data, module = fitted.data, fitted.module
    assert data.class_names == ("Hernia", "Mass")
    assert (data.input_shape, data.mirror, data.labels) == (
        (224, 224, 1),
        False,
        "several",
    )
    assert data.mean == pytest.approx((114.495,))  # of "imagenet"'s three
    assert (module.weights, module.positive_weight) == ("imagenet", "balanced")
    data.setup("fit")
    files = data._files("test").paths
    assert {path.split("/")[-1][:8] for path in files} == {"00000008", "00000009"}
    data = given("chest_xray.py", *folder, "--split", "patients").data
    data.setup("fit")
    assert len(data._files("test")) == 4  # 20 % of ten patients, two films each


def test_chest_xray_says_what_to_get(tmp_path, run_here):
    answer = run_here("chest_xray.py", cwd=tmp_path)
    assert answer.returncode == 1
    assert "--data mosaics" in answer.stderr
    assert "test_list.txt" in answer.stderr


@pytest.mark.slow
def test_chest_xray_goes_the_whole_way_with_mosaics(tmp_path, run_here):
    options = (
        "--data",
        "mosaics",
        "--fast-dev-run",
        "--export-dir",
        tmp_path / "served",
    )
    answer = run_here("chest_xray.py", *options, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "Mean AUROC of the test pictures: " in answer.stdout
    assert (tmp_path / "served" / "1" / "saved_model.pb").is_file()


def test_volumes_reads_medmnists_files(given, tmp_path):
    volumes = np.zeros((4, 9, 9, 9), "uint8")
    splits = {"train_images": volumes, "train_labels": np.array([[0], [1], [0], [1]])}
    np.savez(tmp_path / "organs.npz", **splits)
    options = ("--data", tmp_path / "organs.npz", "--batch-size", 2, "--mirror", 0, 1)
    fitted = given("volumes.py", *options, "--weights", "mine.keras")
    data, module = fitted.data, fitted.module
    assert (data.input_shape, data.mirror, data.shift) == ((9, 9, 9, 1), (0, 1), 1)
    assert (module.weights, module.inflate) == ("mine.keras", True)
    plain = given(
        "volumes.py", "--network", "DenseNet121", "--memory-efficient", "full"
    )
    assert type(plain.data) is kd.data.DigitVolumes
    assert plain.module.options == {"memory_efficient": "full"}


@pytest.mark.slow
def test_volumes_goes_the_whole_way_with_what_is_built_in(tmp_path, run_here):
    options = ("--fast-dev-run", "--export-dir", tmp_path / "served")
    answer = run_here("volumes.py", *options, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "accuracy of the test set: " in answer.stdout
    assert (tmp_path / "served" / "1" / "saved_model.pb").is_file()


def test_segmentation_reads_camvids_layout_and_classes_of_your_own(given, tmp_path):
    fitted = given("segmentation.py", "--data-dir", tmp_path, "--crop-size", 64)
    data, module = fitted.data, fitted.module
    assert (data.num_classes, data.class_names[10]) == (11, "bicyclist")
    assert (data.void, data.batch_size, data.image_size) == ((11, 255), 5, 64)
    assert module.options == {"memory_efficient": False, "depth": 103}
    assert fitted.flags["max_epochs"] == 750
    own = given(
        *("segmentation.py", "--data-dir", tmp_path, "--blocks", 4, 5, 4),
        *("--classes", "skin=0", "lesion=255", "--growth-rate", 12),
    )
    assert own.data.classes == {"skin": 0, "lesion": 255}
    assert own.data.class_names == ("skin", "lesion")
    assert own.module.options["blocks"] == (4, 5, 4)
    named = given("segmentation.py", "--data-dir", tmp_path, "--classes", "a", "b")
    assert named.data.class_names == ("a", "b")
    optimizer = own.module.configure_optimizer(100)
    assert type(optimizer) is keras.optimizers.RMSprop
    assert float(optimizer.learning_rate) == pytest.approx(0.001)


def test_segmentation_without_cifar10_says_what_it_trains_on(
    tmp_path, monkeypatch, capsys
):
    """The whole way, on digits on scikit-learn's photographs."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nothing"))
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    loaded("segmentation.py").main(
        blocks=(1, 1, 1), fast_dev_run=True, export_dir=tmp_path / "served"
    )
    out = capsys.readouterr().out
    assert "scikit-learn's two photographs instead" in out
    assert "Mean IoU of the test pictures (digits on photographs): " in out
    assert (tmp_path / "served" / "1" / "saved_model.pb").is_file()
    with pytest.raises(kd.data.DataUnavailableError):
        loaded("segmentation.py").main(backgrounds="cifar10")


def test_it_goes_on_from_the_last_checkpoint_or_from_the_one_that_is_named(given):
    assert given("cifar10.py").ckpt_path is None
    assert given("cifar10.py", "--resume").ckpt_path == "last"
    assert given("cifar10.py", "--resume", "a.keras").ckpt_path == Path("a.keras")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--memory-efficient", "all"], "none of the choices: full"),
        (["--depth", "99", "--data", "digits"], "94 or 100"),
        (["--no-augment", "true"], "Unrecognized options: true"),
        (["--dpeth", "40"], "--depth INT"),
        (["--precision", "fp8", "--data", "digits"], "bf16-mixed"),
        (["--max-epochs", "0", "--data", "digits"], "max_epochs must be 1 or more"),
    ],
)
def test_a_wrong_option_is_an_error_and_no_traceback(
    options, words, tmp_path, run_here
):
    answer = run_here("cifar10.py", *options, cwd=tmp_path)
    assert answer.returncode != 0
    assert words in answer.stderr
    assert "Traceback" not in answer.stderr
    assert answer.stderr.strip().count("\n") == 0  # one line


@pytest.mark.slow
def test_quickstart_runs_to_its_end(tmp_path):
    answer = run("quickstart.py", "--fast-dev-run", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "feature_reuse.png").is_file()
    assert re.search(r"says: a \d, with [\d.]+%\. It is a \d\.", answer.stdout)


@pytest.mark.slow
def test_svhn_tests_the_epoch_that_validates_best(tmp_path, run_here):
    options = ["--data", "digits", "--batch-size", 128, "--max-epochs", 2]
    answer = run_here("svhn.py", *SMALL, *options, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    (best,) = re.findall(r"Best checkpoint: (\S+)", answer.stdout)
    module = kd.ImageClassifier(kd.DenseNetBC, depth=10, growth_rate=4)
    trainer = kd.Trainer(max_epochs=1, default_root_dir=tmp_path / "again")
    metrics = trainer.test(module, kd.data.Digits(), tmp_path / best)
    last = answer.stdout.strip().splitlines()[-1]
    error = 100 * (1 - metrics["accuracy"])
    assert last == f"Test error on the digits, NOT SVHN: {error:.2f} %"


@pytest.mark.slow
def test_quickstart_reaches_97_percent(tmp_path):
    answer = run("quickstart.py", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    (accuracy,) = re.findall(r"│ accuracy │ ([\d.]+)", answer.stdout)
    assert float(accuracy) >= 0.97


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("TFDS_DATA_DIR"), reason="TFDS_DATA_DIR names no CIFAR-10"
)
def test_three_epochs_of_real_cifar10_reach_55_percent(tmp_path):
    options = ("--depth", 22, "--max-epochs", 3, "--data", "cifar10")
    answer = run("cifar10.py", *options, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    (error,) = re.findall(r"Test error on CIFAR-10: ([\d.]+) %", answer.stdout)
    assert float(error) < 45.0
