"""The code of README and docs/, run page by page, with small networks and data."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from free_ports import free_ports
from PIL import Image
from shown_code import PAGES, ROOT, blocks, named

import keras_densenet as kd

SMALL = "--network DenseNetBC --depth 10 --growth-rate 4 --image-size 32 --from-scratch"

# What is shown, and what is run instead: the same code, of small networks and data.
SHORTER = {
    "max_epochs=12": "max_epochs=1",
    "depth=(16, 40)": "depth=(10, 16)",
    "max_parameters=75_000": "max_parameters=75_000, max_epochs=1",
    'max_time="00:00:10:00"': 'max_time="00:00:00:01"',
    'mode="binsearch"': "init_val=4, max_val=4",
    'weights="imagenet"': "weights=None",
    'weights="densenet161-8d451a50.pth"': "weights=None",
    'weights="xrv.pt"': "weights=None",
    '"runs/b/best.keras"': "module",
    "depth=103, memory_efficient": "blocks=(1, 1, 1), growth_rate=4, memory_efficient",
    'kd.data.ImageNet(batch_size=256, manual_dir="archives")': "None",
    # Several machines: this one.
    "CIFAR10(batch_size=256)": "Digits(batch_size=64)",
    "max_epochs=300,": "max_epochs=1, limit_train_batches=2,",
    "num_nodes=2,": "num_nodes=1,",
    "/mnt/shared/densenet": "shared",
    '"10.0.0.1:12345", "10.0.0.2:12345"': f'"127.0.0.1:{free_ports(1)[0]}"',
    # Commands.
    "--trainer.max_epochs 12": "--trainer.max_epochs 1",
    "recipes/quickstart.py": "recipes/quickstart.py --max-epochs 1",
    "--data mosaics": "--data mosaics --fast-dev-run",
    "--max-epochs 8": "--max-epochs 1",
    "my_pictures --export-dir": f"my_pictures {SMALL} --export-dir",
    "my_pictures --network DenseNet161 --weights densenet161-8d451a50.pth": (
        f"my_pictures {SMALL}"
    ),
}
# These make the environment, which the tests run in.
MADE_ALREADY = "python -m venv", "source .venv", "pip install"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return what the pages have at hand: a module that its trainer has trained."""
    kd.seed_everything(0)
    data = kd.data.Digits(batch_size=32)
    module = kd.ImageClassifier(kd.DenseNetBC, depth=22, growth_rate=12)
    root = tmp_path_factory.mktemp("trained")
    trainer = kd.Trainer(max_epochs=1, default_root_dir=root)
    trainer.fit(module, datamodule=data)
    return {"data": data, "module": module, "trainer": trainer, "model": module.model}


def write_files(folder, trained):
    """Write the files that the pages name into an empty folder."""
    random = np.random.default_rng(0)
    classes = ("flowers/rose", "flowers/tulip", "films/normal", "films/other")
    for name in (*classes, "photos", "my_pictures/cat", "my_pictures/dog"):
        write_pictures(folder / name, 30, random)
    write_pictures(folder / "street/images", 10, random)
    (folder / "street/masks").mkdir()
    for picture in (folder / "street/images").iterdir():
        is_road = random.integers(2, size=(32, 32, 1))
        mask = np.where(is_road, [128, 64, 128], [128, 128, 128]).astype("uint8")
        Image.fromarray(mask).save(folder / "street/masks" / picture.name)
    volumes = random.normal(size=(6, 28, 28, 28)).astype("float32")
    parts = {"train": volumes, "val": volumes[:2] + 1, "test": volumes[:2] + 2}
    arrays = {f"{part}_images": of_part for part, of_part in parts.items()}
    arrays |= {f"{part}_labels": np.arange(len(v)) % 2 for part, v in parts.items()}
    np.savez(folder / "organmnist3d.npz", **arrays)
    write_table(folder, random)
    shutil.copy(folder / "photos/photos0.png", folder / "another.jpg")
    shutil.copytree(trained["trainer"].default_root_dir / "runs", folder / "runs")
    kd.weights.save(kd.DenseNet121(classes=14), folder / "chexnet.pth")
    (folder / "chexnet.pth").rename(folder / "chexnet.pth.tar")
    scan = nibabel.Nifti1Image(random.normal(size=(20, 30, 40)), np.diag([2, 2, 2, 1]))
    nibabel.save(scan, folder / "scan.nii.gz")


def write_pictures(folder, number, random):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(number):
        pixels = random.integers(256, size=(32, 32, 3), dtype="uint8")
        Image.fromarray(pixels).save(folder / f"{folder.name}{i}.png")


def write_table(folder, random):
    """Write a table of films as ChestX-ray14's: a patient has two."""
    names = [f"film{i}.png" for i in range(40)]
    for name in names:
        pixels = random.integers(256, size=(32, 32), dtype="uint8")
        Image.fromarray(pixels).save(folder / "films" / name)
    findings = ["No Finding", "Mass", "Mass|Edema", "Edema"]
    columns = {
        "Image Index": names,
        "Finding Labels": [findings[i // 2 % 4] for i in range(40)],
        "Patient ID": [i // 2 for i in range(40)],
    }
    pd.DataFrame(columns).to_csv(folder / "Data_Entry_2017.csv", index=False)
    (folder / "test_list.txt").write_text("\n".join(names[-8:]))


def at_hand(folder, trained):
    """Return the names that a page may use without saying where they come from."""
    images = np.random.default_rng(0).integers(256, size=(20, 8, 8, 3)).astype("uint8")
    volumes = np.random.default_rng(0).normal(size=(20, 64, 64, 64, 1))
    return trained | {
        "kd": kd,
        "np": np,
        "tf": tf,
        "source": trained["model"],
        "images": images,
        "labels": np.arange(20) % 2,
        "volumes": volumes.astype("float32"),
        "patients": np.arange(20) // 2,
        "names": ["liver", "spleen"],
        "paths": [folder / "scan.nii.gz"] * 20,
    }


def shorter(code):
    code = re.sub(r" *\\\n *", " ", code)  # a command of several lines
    for shown, instead in SHORTER.items():
        code = code.replace(shown, instead)
    return code


def run(block, page, names):
    """Run a block; one that begins with `# name.py` or `# name.sh` is that file."""
    code = shorter(block.code)
    file = re.match(r"# (\w+\.(?:py|sh))\b", code)
    if file:
        Path(file[1]).write_text(code)
    elif block.language == "python":
        at_its_lines = "\n" * (block.line - 1) + code
        exec(compile(at_its_lines, str(page), "exec"), names)
    elif block.language == "bash":
        lines = [line for line in code.split("\n") if not line.startswith(MADE_ALREADY)]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        script = ["bash", "-e", "-c", "\n".join(lines)]
        subprocess.run(script, env={**os.environ, "PATH": path}, check=True)


# What the code of a page says that it writes.
WRITTEN = {
    "README.md": ["saved_models/digits/1/saved_model.pb"],
    "docs/analysis.md": ["feature_reuse.png", "gradient_flow.png", "reuse.png"],
    "docs/first_hour.md": ["predictions.csv", "saved_models/mine/1/saved_model.pb"],
    "docs/networks.md": ["densenet.pth", "monai.pt"],
    "docs/search.md": [
        *("lr_find.png", "cross_validation/folds.csv"),
        "tuning/densenet/trials.csv",
    ],
    "docs/serving.md": ["saved_models/cifar10/1/saved_model.pb", "cifar10_int8.tflite"],
}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=named)
def test_the_code_of_a_page_runs(page, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    names = {}
    if page.name != "first_hour.md":  # which needs nothing that it does not make
        write_files(tmp_path, trained)
        names = at_hand(tmp_path, trained)
    for block in blocks(page):
        run(block, page, names)
    for path in WRITTEN.get(named(page), []):
        assert list(tmp_path.rglob(path)), path
    if page.name == "README.md":
        assert len(list(tmp_path.glob("runs/digits-*/version_1/report.html"))) == 1
    if page.name == "first_hour.md":
        assert names["answer"]["classes"].shape == (1, 2)  # even and odd


def test_each_replacement_is_of_something_shown():
    codes = (block.code for page in PAGES for block in blocks(page))
    shown = re.sub(r" *\\\n *", " ", "".join(codes))
    assert [text for text in SHORTER if text not in shown] == []
