"""Folders made of pictures of every awkward kind."""

import json
import os
import struct
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from augmentation_by_hand import jitter_by_hand, window_by_hand
from PIL import Image

import keras_densenet as kd
from keras_densenet.data import pca_lighting, picture_files
from keras_densenet.data.picture_files import decode
from keras_densenet.export.signatures import Preprocessing

RED, BLUE = (200, 30, 40), (10, 60, 220)


def smooth(height=40, width=60, seed=0):
    """Give a picture without noise, which JPEG hardly changes."""
    few = np.random.default_rng(seed).integers(0, 256, (3, 4, 3)).astype("uint8")
    return Image.fromarray(few).resize((width, height), Image.Resampling.BICUBIC)


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def folder(root, **counts):
    """Make a folder of classes: `folder(root, cat=3)` has cat/0.png ... cat/2.png.

    Picture n of class c is all of one colour, (10 * c, 10 * n, 0).
    """
    for label, (name, many) in enumerate(sorted(counts.items())):
        for number in range(many):
            image = Image.new("RGB", (12, 10), (10 * label, 10 * number, 0))
            save(root / name / f"{number}.png", image)
    return root


def of_one_colour(images, data):
    """Give class and number of the pictures that `folder` made, from a batch."""
    pixels = np.asarray(images) * data.std + data.mean
    assert np.ptp(pixels, axis=(1, 2)).max() < 0.01
    return [tuple(np.rint(picture[0, 0, :2] / 10).astype(int)) for picture in pixels]


# --- one file of every kind ------------------------------------------------------


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_plain_jpeg_has_the_same_pixels_from_either_decoder(
    tmp_path, mode, subsampling
):
    options = {} if mode == "L" else {"subsampling": subsampling}
    path = save(tmp_path / "a.jpg", smooth(37, 51).convert(mode), **options)
    plain, broken, _ = picture_files.check([str(path)])
    assert plain.tolist() == [True]
    assert broken == {}
    read = tf.function(picture_files.read_picture)
    by_tensorflow = read(tf.constant(str(path)), tf.constant(True))
    by_pillow = read(tf.constant(str(path)), tf.constant(False))
    assert by_pillow.shape == (37, 51, 3)
    np.testing.assert_array_equal(by_tensorflow, by_pillow)


def test_cmyk_is_as_it_looks(tmp_path):
    cmyk = Image.new("CMYK", (16, 16), (255, 0, 0, 0))  # cyan ink alone
    path = save(tmp_path / "a.jpg", cmyk)
    np.testing.assert_allclose(decode(path)[8, 8], [0, 255, 255], atol=3)


def test_sixteen_bits_become_eight(tmp_path):
    grey = np.array([[0, 257, 32_896, 65_535]], "uint16")
    path = save(tmp_path / "a.png", Image.fromarray(grey))
    assert decode(path)[0].tolist() == [[n] * 3 for n in (0, 1, 128, 255)]
    path = tmp_path / "b.png"
    colour = np.array([[[65_535, 0, 32_896]]], "uint16")
    path.write_bytes(tf.io.encode_png(colour).numpy())
    np.testing.assert_allclose(decode(path)[0, 0], [255, 0, 128], atol=1)


def test_what_is_transparent_lies_on_white(tmp_path):
    pixels = np.array([[[*RED, 255], [*RED, 0], [0, 0, 0, 51]]], "uint8")
    path = save(tmp_path / "a.png", Image.fromarray(pixels))
    # 51 is a fifth: four fifths of white shine through black.
    assert decode(path)[0].tolist() == [list(RED), [255] * 3, [204] * 3]
    grey = Image.fromarray(np.array([[[7, 255], [7, 0]]], "uint8"), "LA")
    assert decode(save(tmp_path / "b.png", grey))[0].tolist() == [[7] * 3, [255] * 3]


def test_palette_one_bit_and_grey_become_rgb(tmp_path):
    image = Image.new("RGB", (6, 4), RED)
    path = save(tmp_path / "a.png", image.quantize(4))
    assert decode(path)[0, 0].tolist() == list(RED)
    path = save(tmp_path / "b.png", Image.new("1", (6, 4), 1))
    assert decode(path).tolist() == [[[255] * 3] * 6] * 4
    path = save(tmp_path / "c.bmp", Image.new("L", (6, 4), 99))
    assert decode(path)[3, 5].tolist() == [99] * 3


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, lambda x: x),
        (2, lambda x: x[:, ::-1]),
        (3, lambda x: x[::-1, ::-1]),
        (6, lambda x: x.transpose(1, 0, 2)[:, ::-1]),  # a quarter turn clockwise
        (8, lambda x: x.transpose(1, 0, 2)[::-1]),
    ],
)
def test_orientation_of_exif_is_obeyed(tmp_path, orientation, turned):
    image = smooth(24, 40)
    upright = save(tmp_path / "a.jpg", image)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "b.jpg", image, exif=exif)
    np.testing.assert_array_equal(decode(path), turned(decode(upright)))
    assert picture_files.check([str(path)])[0].tolist() == [orientation == 1]


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_an_animation_gives_its_first_frame(tmp_path, suffix):
    frames = [Image.new("RGB", (20, 10), colour) for colour in (RED, BLUE)]
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(
        tmp_path / f"a.{suffix}",
        frames[0],
        save_all=True,
        append_images=frames[1:],
        **options,
    )
    with Image.open(path) as image:
        assert image.n_frames == 2
    assert decode(path)[5, 5].tolist() == list(RED)


@pytest.mark.parametrize(
    ("kind", "numbers", "words"),
    [
        ("int32", [0, 255], "32-bit numbers of unknown range"),
        ("float32", [0, 1], "floating-point"),
    ],
)
def test_pixels_of_unknown_range_are_refused(tmp_path, kind, numbers, words):
    path = tmp_path / "a" / "0.tif"
    save(path, Image.fromarray(np.array([numbers], kind)))
    with pytest.raises(ValueError, match=words):
        decode(path)
    with pytest.raises(kd.data.BrokenPictureError, match=words):
        kd.data.ImageFolder(tmp_path, validation_fraction=0).setup("fit")
    data = kd.data.ImageFolder(tmp_path, 1, validation_fraction=0, check_files=False)
    data.setup("fit")
    with pytest.raises(tf.errors.OpError, match=words):
        next(iter(data.train_dataset()))


def tiff(path, bits, pixels, *, signed=False):
    """Write a TIFF of two pixels by hand: the directory, then the pixels."""
    tags = {256: 2, 257: 1, 258: bits, 259: 1, 262: 1, 273: 122, 279: len(pixels)}
    tags |= {277: 1, 339: 2 if signed else 1}
    made = b"II*\0" + struct.pack("<IH", 8, len(tags))
    for tag, value in sorted(tags.items()):
        made += struct.pack("<HHII", tag, 4, 1, value)
    made += bytes(4)
    assert len(made) == 122
    path.write_bytes(made + pixels)
    return path


def test_a_tiff_of_twelve_bits_has_white_at_its_largest_number(tmp_path):
    # Three bytes are two pixels: 0xFFF and 0x800.
    path = tiff(tmp_path / "a.tif", 12, b"\xff\xf8\x00")
    assert decode(path)[0].tolist() == [[255] * 3, [128] * 3]  # 255 * 2048 / 4095
    path = tiff(tmp_path / "b.tif", 16, b"\xff\xff\x01\x01")
    assert decode(path)[0].tolist() == [[255] * 3, [1] * 3]


def test_numbers_below_black_are_refused(tmp_path):
    pixels = np.array([-1000, 3000], "<i2").tobytes()
    path = tiff(tmp_path / "ct.tif", 16, pixels, signed=True)
    with pytest.raises(ValueError, match=r"in -1000\.\.3000, .* white is 65,535"):
        decode(path)


@pytest.mark.parametrize("colors", [False, True])
def test_a_split_of_nearly_black_sixteen_bits_is_told(tmp_path, colors):
    def write(name, white):
        pixels = np.linspace(0, white, 64).astype("uint16").reshape(8, 8)
        path = tmp_path / name / f"{white}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = np.stack([pixels] * 3, -1) if colors else pixels[..., None]
        path.write_bytes(tf.io.encode_png(pixels).numpy())

    def warnings_of():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            kd.data.ImageFolder(tmp_path, validation_fraction=0).setup("fit")
        return [str(warning.message) for warning in caught]

    write("a", 900)
    save(tmp_path / "b" / "eight.png", Image.new("L", (8, 8), 3))  # of eight bits
    assert warnings_of() == []  # one picture may be dark
    write("b", 4095)
    (said,) = warnings_of()
    assert said.startswith("Nearly black: none of the 2 train pictures of 16 bits")
    assert "numbers of 12" in said
    write("a", 5000)
    assert warnings_of() == []


# --- broken files ----------------------------------------------------------------


@pytest.fixture
def with_broken(tmp_path):
    """Twelve whole pictures of two classes, and four broken ones."""
    root = folder(tmp_path / "data", cat=6, dog=6)
    whole = save(tmp_path / "whole.jpg", smooth()).read_bytes()
    (root / "cat" / "cut.jpg").write_bytes(whole[:-60])
    (root / "cat" / "empty.png").write_bytes(b"")
    (root / "dog" / "text.jpg").write_text("I am no picture.")
    png = (root / "dog" / "0.png").read_bytes()
    (root / "dog" / "cut.png").write_bytes(png[:-30])
    return root


BROKEN = {
    "cut.jpg": "truncated",
    "empty.png": "the file is empty",
    "text.jpg": "no picture",
    "cut.png": "",
}


def test_broken_files_are_named_with_their_paths(with_broken):
    data = kd.data.ImageFolder(with_broken, validation_fraction=0)
    with pytest.raises(kd.data.BrokenPictureError) as error:
        data.setup("fit")
    said = str(error.value)
    assert said.startswith("4 of 16 pictures cannot be read")
    assert "on_error='skip'" in said
    for name, reason in BROKEN.items():
        (line,) = [line for line in said.splitlines() if os.sep + name in line]
        assert str(with_broken) in line
        assert reason in line


def test_broken_files_are_skipped_and_counted(with_broken):
    data = kd.data.ImageFolder(
        with_broken, 4, 8, validation_fraction=0, on_error="skip"
    )
    with pytest.warns(UserWarning, match="4 train pictures cannot be read") as caught:
        data.setup("fit")
    for name in BROKEN:
        assert name in str(caught[0].message)
    assert int(data.train_dataset().cardinality()) == 3
    shown = [
        picture
        for images, _ in data.train_dataset()
        for picture in of_one_colour(images, data)
    ]
    assert sorted(shown) == [(c, n) for c in range(2) for n in range(6)]
    data.setup("fit")  # and looks at no file twice, nor warns again


def test_files_to_predict_keep_their_numbers_when_others_are_skipped(tmp_path):
    root = folder(tmp_path / "train", cat=1, dog=1).parent
    folder(root / "test", cat=3, dog=2)
    data = kd.data.ImageFolder(root, 4, 8, on_error="skip")
    data.setup("predict")
    files = [
        f"test/{name}.png" for name in ("cat/0", "cat/1", "cat/2", "dog/0", "dog/1")
    ]
    assert data.predict_files() == dict(enumerate(files))
    (root / "test" / "cat" / "1.png").write_bytes(b"")
    data = kd.data.ImageFolder(root, 4, 8, on_error="skip")
    with pytest.warns(UserWarning, match="1 test pictures cannot be read"):
        data.setup("predict")
    assert data.predict_files() == {n: files[n] for n in (0, 2, 3, 4)}
    assert sum(len(images) for images in data.predict_dataset()) == 4


def test_an_unchecked_broken_file_is_named_when_it_is_read(with_broken):
    data = kd.data.ImageFolder(
        with_broken, 16, 8, validation_fraction=0, check_files=False
    )
    data.setup("fit")
    with pytest.raises(tf.errors.OpError) as error:
        next(iter(data.train_dataset()))
    assert any(
        os.path.join(str(with_broken), "") in line for line in [str(error.value)]
    )
    assert "cannot be read" in str(error.value)
    assert "check_files=True" in str(error.value)


def test_a_class_of_broken_files_alone_is_refused(tmp_path):
    root = folder(tmp_path, cat=3, dog=1)
    (root / "dog" / "0.png").write_bytes(b"")
    data = kd.data.ImageFolder(root, validation_fraction=0, on_error="skip")
    with (
        pytest.warns(UserWarning, match="1 train"),
        pytest.raises(ValueError, match=r"no pictures to train on.*dog"),
    ):
        data.setup("fit")


# --- splits ----------------------------------------------------------------------


def names(data, split):
    return {os.path.relpath(path, data.root) for path in data._files(split).paths}


def test_parts_are_held_out_by_class_whatever_the_seed(tmp_path):
    root = folder(tmp_path, cat=20, dog=10, owl=10)
    made = [
        kd.data.ImageFolder(root, validation_fraction=0.2, test_fraction=0.1, seed=seed)
        for seed in (1, 2)
    ]
    for split, counts in {
        "train": [14, 7, 7],
        "val": [4, 2, 2],
        "test": [2, 1, 1],
    }.items():
        labels = made[0]._files(split).labels
        np.testing.assert_array_equal(np.bincount(labels), counts)
        assert names(made[0], split) == names(made[1], split)
    together = [names(made[0], split) for split in ("train", "val", "test")]
    assert len(set.union(*together)) == sum(map(len, together)) == 40
    assert made[0].class_names == ("cat", "dog", "owl")
    assert made[0].num_classes == 3
    assert made[0].input_shape == (224, 224, 3)


def test_a_class_with_few_pictures_keeps_one_to_train_on(tmp_path):
    root = folder(tmp_path, cat=1, dog=2, owl=3)
    data = kd.data.ImageFolder(root, validation_fraction=0.1, test_fraction=0.1)
    counts = {s: np.bincount(data._files(s).labels) for s in ("train", "val", "test")}
    np.testing.assert_array_equal(counts["train"], [1, 1, 1])
    np.testing.assert_array_equal(counts["val"], [0, 1, 1])
    np.testing.assert_array_equal(counts["test"], [0, 0, 1])


def test_added_pictures_leave_the_others_in_their_splits(tmp_path):
    def split_of(many):
        root = folder(tmp_path / str(many), cat=many)
        data = kd.data.ImageFolder(root, validation_fraction=0.2, test_fraction=0.2)
        return {
            os.path.basename(path): split
            for split in ("train", "val", "test")
            for path in data._files(split).paths
        }

    before, after = split_of(20), split_of(25)  # 4 and 5 are held out of each
    moves = [(before[n], after[n]) for n in before if before[n] != after[n]]
    assert ("val", "test") not in moves
    assert ("test", "val") not in moves
    assert sum(old == "train" for old, _ in moves) <= 2  # by how much both have grown


def test_a_run_keeps_its_split_whatever_is_removed_or_added(tmp_path):
    root = folder(tmp_path, cat=20, dog=12)

    def made():
        return kd.data.ImageFolder(
            root, 2, 8, validation_fraction=0.2, test_fraction=0.2
        )

    run = made()
    run.setup("fit")
    state = json.loads(json.dumps(run.state_dict()))
    assert len(json.dumps(state)) < 250
    before = {split: names(run, split) for split in ("train", "val", "test")}
    for split in before:  # the cats whose places decide about the others
        for gone in sorted(n for n in before[split] if "cat" in n)[:3]:
            (root / gone).unlink()
    for number in range(20, 40):
        save(root / "dog" / f"{number}.png", smooth())
    resumed = made()
    resumed.setup("fit")
    moved = [
        n
        for s in before
        for n in names(resumed, s) & set.union(*before.values())
        if n not in before[s]
    ]
    assert moved  # by the shares alone
    assert resumed.keep_split(state)
    for split, old in before.items():
        now = names(resumed, split)
        assert now & set.union(*before.values()) == {
            n for n in old if (root / n).exists()
        }
    assert {s: len(names(resumed, s)) for s in before}.keys() == before.keys()
    assert not resumed.keep_split(state)
    resumed.load_state_dict(state)
    assert resumed.seed == run.seed
    assert len(list(resumed.val_dataset())) > 0  # is set up
    resumed.load_state_dict({"seed": 3})  # of a run before splits were kept
    assert names(resumed, "val") & before["val"]


def test_a_split_whose_folder_is_empty_is_named(tmp_path):
    folder(tmp_path / "train", cat=3, dog=3)
    (tmp_path / "val" / "cat").mkdir(parents=True)
    data = kd.data.ImageFolder(tmp_path)
    with pytest.raises(kd.data.DataUnavailableError, match=r"no pictures in .*val"):
        data.setup("fit")
    with pytest.raises(kd.data.DataUnavailableError, match=r"no pictures in .*val"):
        kd.data.ImageNet(8, folder=tmp_path)


@pytest.mark.slow
def test_a_folder_is_trained_resumed_and_tested_by_two_replicas(tmp_path):
    root = folder(tmp_path / "pictures", cat=12, dog=8)
    flags = {"strategy": "mirrored", "devices": 2, "enable_progress_bar": False}

    def run(name, epochs, seed, **resumed):
        keras.utils.set_random_seed(1)
        data = kd.data.ImageFolder(
            root, 4, 16, validation_fraction=0.25, test_fraction=0.2, seed=seed
        )
        module = kd.ImageClassifier(
            kd.DenseNetBC,
            depth=10,
            growth_rate=4,
            class_weight="balanced",
            milestones=(),  # one schedule, however many epochs
        )
        trainer = kd.Trainer(epochs, default_root_dir=tmp_path / name, **flags)
        losses = trainer.fit(module, data, **resumed).history["loss"]
        return losses, trainer, trainer.test(module, data)

    whole, _, tested = run("whole", 2, 1)
    begun, trainer, _ = run("begun", 1, 1)
    ckpt = trainer.checkpoint_callback.last_model_path
    # It goes on with the checkpoint's hold-out and seed, not with its own.
    resumed, _, again = run("resumed", 2, 9, ckpt_path=ckpt)
    assert len(whole) == 2
    assert begun[0] == pytest.approx(whole[0], rel=1e-5)
    assert resumed[-1] == pytest.approx(whole[1], rel=1e-4)
    assert again == pytest.approx(tested, rel=1e-3)


def test_links_that_lead_back_or_up_are_not_followed(tmp_path):
    root = folder(tmp_path / "train", cat=3, dog=2).parent
    folder(root / "val", cat=1, dog=1)
    (root / "train" / "cat" / "again").symlink_to(root / "train" / "cat")
    (root / "train" / "cat" / "all").symlink_to(root)
    elsewhere = folder(tmp_path / "elsewhere", more=2) / "more"
    (root / "train" / "dog" / "more").symlink_to(elsewhere)
    data = kd.data.ImageFolder(root)
    assert np.bincount(data._files("train").labels).tolist() == [3, 2 + 2]


def test_the_order_of_the_file_system_does_not_matter(tmp_path, monkeypatch):
    root = folder(tmp_path, cat=10, dog=10)
    data = kd.data.ImageFolder(root)
    walk = os.walk
    monkeypatch.setattr(
        os, "walk", lambda *a, **k: ((w, d, f[::-1]) for w, d, f in walk(*a, **k))
    )
    other = kd.data.ImageFolder(root)
    assert other.class_names == data.class_names
    for split in ("train", "val"):
        np.testing.assert_array_equal(
            other._files(split).paths, data._files(split).paths
        )


def test_folders_of_their_own_are_the_splits(tmp_path):
    folder(tmp_path / "train", cat=4, dog=4)
    folder(tmp_path / "validation", cat=2, dog=1)
    folder(tmp_path / "test", dog=2)  # labels are those of train/
    data = kd.data.ImageFolder(tmp_path, 2, 8, augment=False)
    data.setup("validate")
    data.setup("test")
    assert [len(labels) for _, labels in data.val_dataset()] == [2, 1]
    ((images, labels),) = data.test_dataset()
    assert labels.numpy().tolist() == [1, 1]
    assert of_one_colour(images, data) == [(0, 0), (0, 1)]  # dog is its first colour
    assert next(iter(data.predict_dataset())).shape == (2, 8, 8, 3)


def test_files_that_are_no_pictures_by_name_and_hidden_ones_are_left_alone(tmp_path):
    root = folder(tmp_path, cat=2, dog=2)
    (root / "cat" / "notes.txt").write_text("no picture, and not said to be one")
    (root / "cat" / "._0.png").write_text("what a Mac leaves")
    (root / ".thumbnails").mkdir()
    save(root / "dog" / "more" / "DEEP.JPEG", smooth())
    data = kd.data.ImageFolder(root, validation_fraction=0)
    assert data.class_names == ("cat", "dog")
    with pytest.warns(UserWarning, match=r"^1 file was left out .*: 1 \.txt\."):
        assert np.bincount(data._files("train").labels).tolist() == [2, 3]


def test_what_pillow_reads_is_taken_and_the_rest_is_counted(tmp_path):
    root = folder(tmp_path, cat=2, dog=2)
    for name in ("a.avif", "b.jp2", "c.tga"):
        save(root / "cat" / name, smooth())
    save(root / "dog" / "d.png", smooth()).rename(root / "dog" / "photo")
    (root / "cat" / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (root / "dog" / "IMG_2.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (root / "dog" / "film.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    (root / "dog" / "scan.ps1").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n" * 9)
    # A TGA has no signature: any file could be one.
    save(root / "dog" / "e.tga", smooth()).rename(root / "dog" / "field.dat")
    data = kd.data.ImageFolder(root, 4, 8, validation_fraction=0)
    with pytest.warns(UserWarning, match="left out") as caught:
        data.setup("fit")
    (warning,) = caught
    assert str(warning.message).startswith("5 files were left out that Pillow cannot")
    for count in ("2 .heic", "1 .mp4", "1 .ps1", "1 .dat"):
        assert count in str(warning.message)
    assert warning.filename == __file__
    assert np.bincount(data._files("train").labels).tolist() == [5, 3]
    assert next(iter(data.train_dataset()))[0].shape == (4, 8, 8, 3)


def test_a_broken_file_of_a_known_ending_is_no_file_left_out(tmp_path):
    root = folder(tmp_path, cat=2, dog=2)
    (root / "cat" / "cut.avif").write_bytes(b"\0\0\0\x18ftypavif")
    with pytest.raises(kd.data.BrokenPictureError, match=r"cut\.avif"):
        kd.data.ImageFolder(root, validation_fraction=0).setup("fit")


def test_errors_say_what_to_do(tmp_path):
    with pytest.raises(kd.data.DataUnavailableError, match=r"no folder.*train/<class>"):
        kd.data.ImageFolder(tmp_path / "nowhere")
    with pytest.raises(kd.data.DataUnavailableError, match="has no folders in it"):
        kd.data.ImageFolder(tmp_path)
    root = folder(tmp_path, cat=4, dog=1)
    data = kd.data.ImageFolder(root, validation_fraction=0)
    assert data.val_dataset() is None
    with pytest.raises(ValueError, match=r"no test pictures.*test_fraction=0"):
        data.test_dataset()
    folder(tmp_path / "two" / "train", cat=1)
    folder(tmp_path / "two" / "val", cat=1, cow=1)
    with pytest.raises(ValueError, match="no classes: cow"):
        kd.data.ImageFolder(tmp_path / "two").setup("fit")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"validation_fraction": 0.5, "test_fraction": 0.5}, "less than 1"),
        ({"validation_fraction": -0.1}, "0 or more"),
        ({"on_error": "ignore"}, '"raise" or "skip"'),
        ({"on_error": "skip", "check_files": False}, "needs check_files=True"),
        ({"batch_size": 0}, "1 or more"),
        ({"image_size": 0}, "1 or more"),
        ({"image_size": (32, 0)}, r"1 or more.*\(32, 0\)"),
        ({"image_size": (32, 32, 3)}, r"\(height, width\).*\(32, 32, 3\)"),
        ({"image_size": "224"}, r"\(height, width\).*'224'"),
        ({"image_size": 224.5}, r"\(height, width\).*224\.5"),
        ({"image_size": None}, r"\(height, width\).*None"),
        ({"jitter": 1.5}, "in 0..1"),
        ({"lighting": -0.1}, "0 or more"),
        ({"fit": "zoom"}, r'fit must be "crop".*"pad".*"squash".*fit=\'zoom\''),
        ({"channels": 2}, "1 for gray pictures, 3 for RGB or 4 for RGBA.*channels=2"),
        ({"channels": True}, "channels=True"),
        ({"channels": 1, "lighting": 0.1}, "gray pictures do not have: leave lighting"),
        ({"channels": 1, "mean": (1, 2, 3)}, r"each of 1 channels.*mean=\(1, 2, 3\)"),
        ({"channels": 4, "std": [9.0] * 3}, "each of 4 channels"),
        ({"channels": 4, "strong": {"rand_augment": 0.5}}, "here are 4: leave it out"),
        ({"method": "nearest"}, '"bicubic" or "bilinear"'),
        ({"mean": [1.0]}, "each of 3 channels"),
        ({"std": [1.0, 0.0, 1.0]}, "above 0"),
        ({"seed": -1}, "in 0..2"),
        ({"strong": {"mixup": 2.0}}, "each in 0..1"),
    ],
)
def test_arguments_are_checked(tmp_path, arguments, words):
    folder(tmp_path, cat=1)
    with pytest.raises(ValueError, match=words):
        kd.data.ImageFolder(tmp_path, **arguments)


# --- what is shown, and when -----------------------------------------------------


def test_pictures_of_every_size_become_batches(tmp_path):
    for number, (h, w) in enumerate([(50, 30), (20, 90), (224, 224), (7, 5)]):
        save(tmp_path / "a" / f"{number}.jpg", smooth(h, w, seed=number))
        save(tmp_path / "b" / f"{number}.png", smooth(h, w, seed=number))
    data = kd.data.ImageFolder(
        tmp_path, 4, 32, validation_fraction=0.25, jitter=0.4, lighting=0.1, seed=1
    )
    data.setup("fit")
    images, labels = next(iter(data.train_dataset()))
    assert images.shape == (4, 32, 32, 3)
    assert images.dtype == tf.float32
    assert labels.dtype == tf.int64
    ((images, _),) = data.val_dataset()
    assert images.shape == (2, 32, 32, 3)


def test_evaluation_is_resize_center_crop_and_normalization(tmp_path):
    path = save(tmp_path / "test" / "a" / "0.png", smooth(100, 140))
    folder(tmp_path / "train", a=1)
    data = kd.data.ImageFolder(tmp_path, 1, 56)
    assert data.short_side == 64  # 56 * 256 / 224
    data.setup("test")
    ((images, _),) = data.test_dataset()
    pixels = np.asarray(Image.open(path))
    resized = tf.image.resize(pixels, [64, 90], "bicubic", antialias=True).numpy()
    expected = resized[4:60, 17:73] / 255
    expected = (expected - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(images[0], expected, atol=1e-4)
    ((views, _),) = data.ten_crop_dataset()
    assert views.shape == (1, 10, 56, 56, 3)
    np.testing.assert_allclose(views[0, 0], expected, atol=1e-4)  # the centre
    mirrored = resized[:, ::-1] / 255
    mirrored = (mirrored - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(views[0, 9], mirrored[8:, 34:], atol=1e-4)


def test_a_network_that_reads_no_square_sees_whole_pictures(tmp_path):
    path = save(tmp_path / "test" / "a" / "0.png", smooth(90, 140))
    save(tmp_path / "train" / "a" / "0.png", smooth(90, 140))
    data = kd.data.ImageFolder(
        tmp_path, 1, (28, 42), mean=(0, 0, 0), std=(1, 1, 1), check_files=False
    )
    assert data.input_shape == (28, 42, 3)
    assert data.short_side == 32  # 28 * 256 / 224
    data.setup("fit")
    ((images, _),) = data.train_dataset()
    assert images.shape == (1, 28, 42, 3)
    data.setup("test")
    ((images, _),) = data.test_dataset()
    pixels = np.asarray(Image.open(path))
    expected = tf.image.resize(pixels, [28, 42], "bicubic", antialias=True)
    np.testing.assert_allclose(images[0], expected, atol=1e-3)
    serving = Preprocessing(
        data.input_shape, data.mean, data.std, 32, "bicubic", "squash"
    )
    np.testing.assert_array_equal(serving.resized(pixels), images[0])
    ((views, _),) = data.ten_crop_dataset()
    assert views.shape == (1, 10, 28, 42, 3)


def test_two_equal_sides_are_a_square(tmp_path):
    save(tmp_path / "test" / "a" / "0.png", smooth(90, 140))
    save(tmp_path / "train" / "a" / "0.png", smooth(90, 140))

    def batches(image_size):
        data = kd.data.ImageFolder(tmp_path, 1, image_size, seed=1)
        data.setup("fit")
        data.setup("test")
        ((train, _),), ((test, _),) = data.train_dataset(), data.test_dataset()
        return train, test

    for square, pair in zip(batches(28), batches([28, 28]), strict=True):
        np.testing.assert_array_equal(square, pair)


def test_a_training_batch_is_that_made_by_hand(tmp_path):
    """Crop, jitter, lighting, mirror, normalisation, from the numbers drawn."""
    for number in range(4):
        save(tmp_path / "a" / f"{number}.png", smooth(90, 120, seed=number))
    data = kd.data.ImageFolder(
        tmp_path, 4, 32, validation_fraction=0, jitter=0.4, lighting=0.1, seed=6
    )
    data.setup("fit")
    images, _ = next(iter(data.train_batches(3)))

    def seed(purpose, number):
        return tf.random.fold_in(tf.constant([6, number], tf.int64), purpose)

    crops = []
    for place in range(12, 16):  # the fourth batch, an epoch of one batch each
        number = tf.random.experimental.index_shuffle(
            tf.constant(place % 4, tf.int64), tf.constant([6, 3], tf.int64), 3
        )
        pixels = decode(tmp_path / "a" / f"{int(number)}.png")
        top, left, h, w = window_by_hand(90, 120, seed(0, place))
        cut = pixels[top : top + h, left : left + w]
        crops.append(tf.image.resize(cut, [32, 32], "bicubic", antialias=True).numpy())
    drawn = tf.random.stateless_uniform([2, 4, 3], seed(2, 3)).numpy()
    lights = pca_lighting(np.zeros((4, 1, 1, 3), "float32"), seed(3, 3), 0.1).numpy()
    coins = tf.random.stateless_uniform([4, 1], seed(1, 3)).numpy()
    for n, crop in enumerate(crops):
        factors = 1 + 0.4 * (2 * drawn[0, n] - 1)
        picture = jitter_by_hand(crop, factors, np.argsort(drawn[1, n])) + lights[n]
        picture = picture[:, ::-1] if coins[n, 0] < 0.5 else picture
        expected = (picture / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        np.testing.assert_allclose(images[n], expected, atol=1e-4)


def test_without_augmentation_training_pictures_are_prepared_like_the_others(tmp_path):
    for split in ("train", "val"):
        save(tmp_path / split / "a" / "0.png", smooth(50, 40))
    data = kd.data.ImageFolder(tmp_path, 1, 28, augment=False, jitter=0.4)
    data.setup("fit")
    ((train, _),), ((val, _),) = data.train_dataset(), data.val_dataset()
    np.testing.assert_array_equal(train, val)


def test_an_epoch_shows_each_picture_once_in_an_order_of_its_own(tmp_path):
    root = folder(tmp_path, cat=6, dog=3)
    data = kd.data.ImageFolder(root, 3, 8, validation_fraction=0, seed=4)
    data.setup("fit")
    shown = [
        picture
        for images, _ in data.train_batches(0).take(6)
        for picture in of_one_colour(images, data)
    ]
    everything = [(0, n) for n in range(6)] + [(1, n) for n in range(3)]
    assert sorted(shown[:9]) == sorted(shown[9:]) == everything
    assert shown[:9] != shown[9:]


@pytest.mark.parametrize("balanced", [False, True])
def test_a_resumed_run_sees_the_same_batches(tmp_path, balanced):
    for label in ("a", "b"):
        for number in range(4 if label == "a" else 3):
            save(tmp_path / label / f"{number}.jpg", smooth(30, 40, seed=number))

    def batches(step, many):
        data = kd.data.ImageFolder(
            *(tmp_path, 3, 16),
            validation_fraction=0,
            balanced=balanced,
            jitter=0.4,
            lighting=0.1,
            seed=9,
        )
        data.setup("fit")
        return list(data.train_batches(step).take(many))

    whole, rest = batches(0, 7), batches(3, 4)
    for (x, y), (resumed_x, resumed_y) in zip(whole[3:], rest, strict=True):
        np.testing.assert_array_equal(x, resumed_x)
        np.testing.assert_array_equal(y, resumed_y)
    assert not np.array_equal(whole[0][0], whole[1][0])


def test_a_checkpoint_keeps_the_seed(tmp_path):
    folder(tmp_path, cat=1)
    begun, resumed = (kd.data.ImageFolder(tmp_path, seed=seed) for seed in (8, 9))
    resumed.load_state_dict(begun.state_dict())
    assert resumed.seed == 8


def test_class_weight_by_hand(tmp_path):
    root = folder(tmp_path, cat=6, dog=3, owl=1)
    data = kd.data.ImageFolder(root, validation_fraction=0)
    # 10 / (3 * 6), 10 / (3 * 3), 10 / (3 * 1)
    assert data.class_weight == pytest.approx({0: 5 / 9, 1: 10 / 9, 2: 10 / 3})
    data.balanced = True  # makes up for it already
    assert data.class_weight == {0: 1.0, 1: 1.0, 2: 1.0}


def test_a_balanced_sampler_gives_each_class_its_share(tmp_path):
    root = folder(tmp_path, cat=7, dog=2, owl=1)
    data = kd.data.ImageFolder(
        root, 3, 8, validation_fraction=0, balanced=True, augment=False, seed=1
    )
    data.setup("fit")
    assert int(data.train_dataset().cardinality()) == 3  # 10 // 3
    batches = list(data.train_batches(0).take(14))
    orders = set()
    for images, labels in batches:
        orders.add(tuple(labels.numpy()))
        assert sorted(labels.numpy()) == [0, 1, 2]
        assert [label for label, _ in of_one_colour(images, data)] == list(labels)
    assert len(orders) > 3
    shown = [p for images, _ in batches for p in of_one_colour(images, data)]
    for label, many in enumerate((7, 2, 1)):
        numbers = [n for c, n in shown if c == label]
        for first in range(0, 14, many):  # each once before any comes again
            assert sorted(numbers[first : first + many]) == list(range(many))


def test_a_class_whose_name_is_no_utf8_is_named_with_escapes(tmp_path):
    folder(tmp_path, cat=1)
    (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    words = r"these names are no UTF-8: 'caf\\xe9'\. Rename"
    with pytest.raises(kd.data.DataUnavailableError, match=words) as error:
        kd.data.ImageFolder(tmp_path)
    str(error.value).encode()  # can be printed anywhere


def test_names_that_are_no_utf8_and_folders_that_are_hidden(tmp_path):
    save(tmp_path / "a" / os.fsdecode(b"caf\xe9.jpg"), smooth())
    save(tmp_path / "a" / ".ipynb_checkpoints" / "0.jpg", smooth())
    save(tmp_path / "a" / "@eaDir" / "0.jpg" / "thumb.jpg", smooth())
    save(tmp_path / "b" / "1.jpg", smooth())
    data = kd.data.ImageFolder(tmp_path, 2, 8, validation_fraction=0)
    data.setup("fit")
    images, labels = next(iter(data.train_dataset()))
    assert sorted(labels.numpy()) == [0, 1]  # none was called broken, none is hidden
    assert images.shape == (2, 8, 8, 3)


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (["train/a", "val"], "val has pictures, but no folder a class"),
        (["train/a", "test"], "test has pictures, but no folder a class"),
        (["Train/a", "Val/a"], "Train, Val would be classes"),
        (["training/a", "validation/a"], "no folder train/"),
        (["train/a", "val/a", "validation/a"], "two folders"),
        (["car", "train"], "train has pictures, but no folder a class"),
        (["flowers/rose", "flowers/tulip"], "give .*flowers"),
    ],
)
def test_layouts_that_would_be_misread_are_refused(tmp_path, folders, words):
    for name in folders:
        save(tmp_path / name / "0.jpg", smooth())
    with pytest.raises(kd.data.DataUnavailableError, match=words):
        kd.data.ImageFolder(tmp_path)


def test_a_folder_called_valid_is_for_validation(tmp_path):
    for split in ("train", "valid"):
        for number in range(2):
            save(tmp_path / split / "a" / f"{split}{number}.jpg", smooth())
    data = kd.data.ImageFolder(tmp_path, 2, 8)
    data.setup("fit")
    assert (data._pictures("train"), data._pictures("val")) == (2, 2)


def test_a_broken_picture_to_test_on_is_found_before_training(tmp_path):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for n in range(2):
                path = tmp_path / split / name / f"{n}.png"
                Image.new("RGB", (9, 9)).save(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(kd.data.BrokenPictureError, match=r"test/dog/1\.png"):
        kd.data.ImageFolder(tmp_path, 2, image_size=8).setup("fit")
