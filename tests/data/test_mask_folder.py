"""Pictures with masks: what masks mean, where they are, and that they move alike."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

import keras_densenet as kd
from keras_densenet.data.mask_files import MaskCode
from keras_densenet.errors import MisconfigurationError

NAMES = ("ground", "square")
PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "seed": 1}


def write(folder, name, picture, mask):
    """Write a picture and its mask, gray; `folder` is of the two folders' paths."""
    images, masks = folder
    for place in (images / name, masks / name):
        place.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(images / f"{name}.png")
    Image.fromarray(mask).save(masks / f"{name}.png")


def made(seed, height=60, width=80):
    """Return a picture whose red says its mask: 0 and 200, and 100 where it is void."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.uint8)
    top, left = rng.integers(0, 30, 2)
    mask[top : top + 25, left : left + 30] = 1
    mask[-6:] = 255
    red = np.select([mask == 1, mask == 255], [200, 100], 0).astype(np.uint8)
    return np.stack([red, red, red], -1), mask


@pytest.fixture
def folder(tmp_path):
    for number in range(20):
        paths = tmp_path / "images", tmp_path / "masks"
        write(paths, f"{number}", *made(number, 60 + number, 80))
    return tmp_path


def data_of(folder, **options):
    options = {"batch_size": 4, "image_size": 32, "method": "bilinear"} | options
    return kd.data.MaskFolder(folder, NAMES, **options, **PLAIN)


# --- what pixels mean -------------------------------------------------------------


def saved(tmp_path, pixels, mode=None):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels, mode)
    image.save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


def test_gray_palette_and_one_bit_masks(tmp_path):
    numbers = np.array([[0, 1, 2], [2, 255, 1]], np.uint8)
    palette = Image.fromarray(numbers, "P")
    palette.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0] + [255] * (3 * 253))
    code = MaskCode(["a", "b", "c"])
    for mask in (numbers, palette, np.stack([numbers] * 3, -1)):
        found = code.decode(saved(tmp_path, mask))
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found[..., 0], numbers)
    numpys = MaskCode({"a": np.uint8(0), "b": np.uint8(1)}, void=np.uint8(7))
    found = numpys.decode(saved(tmp_path, np.array([[0, 1, 7]], np.uint8)))
    np.testing.assert_array_equal(found[..., 0], [[0, 1, 255]])
    three = MaskCode(["a", "b"], void=(7, 8, 9))  # which are numbers, and no color
    found = three.decode(saved(tmp_path, np.array([[0, 7, 8, 9, 1]], np.uint8)))
    np.testing.assert_array_equal(found[..., 0], [[0, 255, 255, 255, 1]])
    alpha = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("LA")
    found = MaskCode(NAMES).decode(saved(tmp_path, alpha))
    np.testing.assert_array_equal(found[..., 0], [[0, 1]])
    bits = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1")
    found = MaskCode(["no", "yes"]).decode(saved(tmp_path, bits))
    np.testing.assert_array_equal(found[..., 0], [[0, 1], [1, 0]])


def test_own_numbers_and_colors(tmp_path):
    lesion = MaskCode({"skin": 0, "lesion": 255}, void=128)
    found = lesion.decode(saved(tmp_path, np.array([[0, 255, 128]], np.uint8)))
    np.testing.assert_array_equal(found[..., 0], [[0, 1, 255]])
    binary = MaskCode({"skin": 0, "lesion": 255})  # where 255 is no void
    found = binary.decode(saved(tmp_path, np.array([[0, 255]], np.uint8)))
    np.testing.assert_array_equal(found[..., 0], [[0, 1]])
    street = {"sky": (128, 128, 128), "road": (128, 64, 128)}
    colors = [[(128, 64, 128), (128, 128, 128), (0, 0, 0)]]
    code = MaskCode(street, void=(0, 0, 0))
    found = code.decode(saved(tmp_path, np.array(colors, np.uint8)))
    np.testing.assert_array_equal(found[..., 0], [[1, 0, 255]])
    assert code.names == ("sky", "road")


def test_pixels_of_no_class_are_named(tmp_path):
    gray = saved(tmp_path, np.array([[0, 1, 7], [7, 9, 0]], np.uint8))
    with pytest.raises(kd.data.BrokenPictureError, match=r"7 \(2 pixels\), 9 \(1 pix"):
        MaskCode(NAMES).decode(gray)
    color = saved(tmp_path, np.array([[(0, 0, 0), (3, 2, 1)]], np.uint8))
    with pytest.raises(kd.data.BrokenPictureError, match="the mask is colored"):
        MaskCode(NAMES).decode(color)
    with pytest.raises(kd.data.BrokenPictureError, match=r"\(3, 2, 1\) \(1 pixels\)"):
        MaskCode({"a": (0, 0, 0), "b": (1, 1, 1)}).decode(color)


@pytest.mark.parametrize(
    ("classes", "void", "words"),
    [
        (["one"], 255, "2 to 255 names"),
        ("ab", 255, "must be a list of names"),
        (["a", "a"], 255, "without repetitions"),
        ({"a": 0, "b": 0}, 255, "stand for one class"),
        ({"a": 0, "b": 1}, 1, "stand for one class"),
        ({"a": 0, "b": (1, 1, 1)}, 255, "2 to 255 names"),
        ({"a": 0, "b": 256}, None, "in 0..255"),
        ({"a": 0, "b": (1, 2)}, None, "in 0..255"),
        ({"a": 0, "b": 1}, (0, 0, 0), "stand for one class"),
        ({"a": False, "b": True}, 255, "in 0..255"),
        ({"a": 0, "b": 0.5}, 255, "in 0..255"),
        (5, 255, "must be a list of names"),
        (NAMES, "x", "in 0..255"),
        (NAMES, 2.5, "in 0..255"),
        ({"a": 0, "b": 1}, [(0, 0, 0)], "void must be of numbers"),
        ({"a": (0, 0, 0), "b": (1, 1, 1)}, 11, "void must be of colors"),
    ],
)
def test_codes_that_mean_nothing(classes, void, words):
    with pytest.raises(ValueError, match=words):
        MaskCode(classes, void)


# --- where they are ---------------------------------------------------------------

LAYOUTS = {
    "splits first": lambda root, split: (
        root / split / "images",
        root / split / "masks",
    ),
    "splits last": lambda root, split: (
        root / "images" / split,
        root / "masks" / split,
    ),
    "CamVid": lambda root, split: (root / split, root / f"{split}annot"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, tmp_path):
    sizes = {"train": 4, "val": 2, "test": 1}
    for split, many in sizes.items():
        for number in range(many):
            paths = LAYOUTS[layout](tmp_path, split)
            write(paths, f"street/{split}{number}", *made(number))
    data = data_of(tmp_path)
    data.setup("fit")
    for split in ("val", "test"):
        files = data.members(split).files
        assert [file.rsplit("/", 1)[1] for file in files] == [
            f"{split}{number}.png" for number in range(sizes[split])
        ]
    assert len(list(data.train_dataset())) == 1  # of four pictures


def test_parts_are_held_out_without_splits(folder):
    data = data_of(folder, validation_fraction=0.2, test_fraction=0.1)
    data.setup("fit")
    held_out = [data.members(split).files for split in ("val", "test")]
    assert [len(files) for files in held_out] == [4, 2]
    assert not {*held_out[0]} & {*held_out[1]}
    again = data_of(folder, validation_fraction=0.2, test_fraction=0.1)
    again.setup("fit")
    assert again.members("val").files == held_out[0]
    folds = [data.fold(number, 4) for number in range(1, 5)]
    validated = []
    for fold in folds:
        fold.setup("fit")
        validated += fold.members("val").files
    assert len(validated) == len({*validated}) == 18


def test_groups_stay_together(tmp_path):
    for patient in range(6):
        for number in range(3):
            paths = tmp_path / "images", tmp_path / "masks"
            write(paths, f"p{patient}_{number}", *made(number))
    data = data_of(tmp_path, group=r"(p\d)_", validation_fraction=0.3)
    data.setup("fit")
    held_out = data.members("val").files
    patients = {file[7:9] for file in held_out}
    assert 1 <= len(patients) <= 3
    assert len(held_out) == 3 * len(patients)


def test_suffixes_and_missing_masks(folder):
    (folder / "masks" / "3.png").rename(folder / "masks" / "3_L.png")
    with pytest.raises(
        kd.data.DataUnavailableError, match=r"1 of 20 pictures .* 3.*_L"
    ):
        data_of(folder).setup("fit")
    for path in list((folder / "masks").glob("*[0-9].png")):
        path.rename(path.with_name(f"{path.stem}_L.png"))
    data_of(folder, mask_suffix="_L").setup("fit")
    with pytest.raises(kd.data.DataUnavailableError, match="images/ and masks/"):
        data_of(folder / "masks").setup("fit")
    with pytest.raises(kd.data.DataUnavailableError, match="There is no folder"):
        data_of(folder / "nowhere").setup("fit")


def test_names_of_cityscapes(tmp_path):
    for split in ("train", "val"):
        images = tmp_path / "leftImg8bit" / split / "ulm"
        masks = tmp_path / "gtFine" / split / "ulm"
        for number in range(4):
            write((images, masks), f"ulm_{number}", *made(number))
            old = images / f"ulm_{number}.png"
            old.rename(images / f"ulm_{number}_leftImg8bit.png")
            old = masks / f"ulm_{number}.png"
            old.rename(masks / f"ulm_{number}_gtFine_labelIds.png")
            Image.new("RGB", (80, 60)).save(masks / f"ulm_{number}_gtFine_color.png")
    suffixes = {"image_suffix": "_leftImg8bit", "mask_suffix": "_gtFine_labelIds"}
    folders = {"images": "leftImg8bit", "masks": "gtFine"}
    data = data_of(tmp_path, **folders, **suffixes)
    data.setup("fit")
    assert len(data.members("val").files) == 4


def moved(root, *pairs):
    for old, new in pairs:
        (root / new).parent.mkdir(parents=True, exist_ok=True)
        (root / old).rename(root / new)


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([("images/1.png", "images/Testing/1.png")], "has folders Testing"),
        ([("images/1.png", "images/test/1.png")], "test has no masks in"),
        (
            [
                ("images/1.png", "test/images/1.png"),
                ("masks/1.png", "test/masks/1.png"),
            ],
            "no pictures with masks to train on",
        ),
        (
            [
                ("images/1.png", "val/images/1.png"),
                ("masks/1.png", "val/masks/1.png"),
                ("images/2.png", "valid/images/2.png"),
                ("masks/2.png", "valid/masks/2.png"),
            ],
            "several folders of val pictures",
        ),
    ],
)
def test_splits_that_would_be_trained_on_or_forgotten(pairs, words, folder):
    moved(folder, *pairs)
    with pytest.raises(kd.data.DataUnavailableError, match=words):
        data_of(folder).setup("fit")


@pytest.mark.parametrize("place", ["images/3.jpg", "masks/3.bmp"])
def test_files_of_one_name_are_refused(place, folder):
    Image.fromarray(np.zeros((63, 80), np.uint8)).save(folder / place)
    with pytest.raises(kd.data.DataUnavailableError, match=r"cannot be told.*: 3"):
        data_of(folder).setup("fit")


def test_masks_are_turned_as_pictures_are(tmp_path):
    numbers = np.array([[0, 1], [1, 1]], np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 3  # to be turned by 180 degrees
    Image.fromarray(np.rot90(numbers, 2)).save(tmp_path / "mask.png", exif=exif)
    found = MaskCode(NAMES).decode(tmp_path / "mask.png")
    np.testing.assert_array_equal(found[..., 0], numbers)


def test_modes_that_say_no_class(tmp_path):
    black = Image.new("RGB", (2, 2)).convert("CMYK")
    black.save(tmp_path / "mask.tiff")
    with pytest.raises(kd.data.BrokenPictureError, match="mode CMYK"):
        MaskCode({"x": 0, "y": 255}).decode(tmp_path / "mask.tiff")
    wide = saved(tmp_path, np.array([[300, 0]], np.uint16))
    colors = MaskCode({"x": (0, 0, 0), "y": (255, 255, 255)})
    with pytest.raises(kd.data.BrokenPictureError, match="mode I;16"):
        colors.decode(wide)
    with pytest.raises(kd.data.BrokenPictureError, match=r"300 \(1 pixels\)"):
        MaskCode(NAMES).decode(wide)


def test_broken_masks_are_named_or_left_out(folder):
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(folder / "masks" / "2.png")
    (folder / "masks" / "4.png").write_bytes(b"no picture")
    Image.fromarray(np.full((66, 80), 9, np.uint8)).save(folder / "masks" / "6.png")
    with pytest.raises(kd.data.BrokenPictureError) as error:
        data_of(folder, validation_fraction=0.0).setup("fit")
    for words in ("5x5 pixels, the picture 80x62", "4.png: cannot", "9 (5,280 pixels)"):
        assert words in str(error.value)
    data = data_of(folder, validation_fraction=0.0, on_error="skip")
    with pytest.warns(UserWarning, match="3 train pictures cannot be read"):
        data.setup("fit")
    data = data_of(folder, validation_fraction=0.0, check_files=False, batch_size=20)
    data.setup("fit")
    with pytest.raises(tf.errors.OpError, match=r"masks/\d.png cannot be read"):
        list(data.train_dataset())


# --- that they move alike -----------------------------------------------------------


def assert_alike(images, masks):
    """Assert that the red of each picture says its mask, but right at the edges."""
    red, masks = images.numpy()[..., 0], masks.numpy()
    said = np.select([red > 150, red > 50], [1, 255], 0)
    around = (1, 3, 3)
    inside = maximum_filter(masks, around) == minimum_filter(masks, around)
    assert inside.mean() > 0.6
    np.testing.assert_array_equal(said[inside], masks[inside])


@pytest.mark.parametrize("augment", [True, False])
def test_training_pictures_and_masks_move_alike(folder, augment):
    data = data_of(folder, augment=augment)
    data.setup("fit")
    seen = [batch for _ in range(3) for batch in data.train_dataset()]
    for images, masks in seen:
        assert masks.dtype == tf.int32
        assert masks.shape == (4, 32, 32)
        assert_alike(images, masks)
    values = np.unique(np.concatenate([masks for _, masks in seen]))
    assert values.tolist() == [0, 1, 255]


@pytest.mark.parametrize("fit", ["crop", "squash"])
def test_evaluated_pictures_and_masks_are_prepared_alike(folder, fit):
    data = data_of(folder, fit=fit, validation_fraction=0.4)
    data.setup("fit")
    for images, masks in data.val_dataset():
        assert_alike(images, masks)


def test_what_is_filled_up_is_void(folder):
    """A picture of 60 to 80 rows and 80 columns: above and below it nobody knows."""
    data = data_of(folder, fit="pad", image_size=(64, 40), validation_fraction=0.4)
    data.setup("fit")
    for images, masks in data.val_dataset():
        masks = masks.numpy()
        assert (masks[:, :12] == 255).all()  # at most 40 of the 64 rows are filled
        assert (masks[:, -12:] == 255).all()
        inside = (masks != 255).any(axis=2)
        assert (inside.sum(axis=1) >= 60 * 40 / 80 * 0.85).all()
        assert (images.numpy()[:, :12] == 0).all()


def test_batches_are_a_function_of_their_number(folder):
    data = data_of(folder, validation_fraction=0.0)
    data.setup("fit")
    from_first = list(data.train_batches(0).skip(7).take(2))
    from_there = list(data.train_batches(7).take(2))
    for one, other in zip(from_first, from_there, strict=True):
        for part, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, same)


def test_another_size_is_noticed_where_no_file_is_checked(folder):
    Image.fromarray(np.zeros((50, 80), np.uint8)).save(folder / "masks" / "3.png")
    data = data_of(folder, validation_fraction=0.0, check_files=False, batch_size=20)
    data.setup("fit")
    with pytest.raises(tf.errors.OpError, match="another size than its picture"):
        list(data.train_dataset())


def test_a_turned_picture_has_the_mask_of_what_one_sees(tmp_path):
    """EXIF says that a picture of 60x80 is to be shown as 80x60, as its mask is."""
    paths = tmp_path / "images", tmp_path / "masks"
    for number in range(4):
        picture, mask = made(number)
        write(paths, f"{number}", picture, mask)
        exif = Image.Exif()
        exif[0x0112] = 6  # turned by 90 degrees, to be turned back
        turned = Image.fromarray(np.rot90(picture))
        turned.save(paths[0] / f"{number}.png", exif=exif)
    data = data_of(tmp_path, validation_fraction=0.0)
    data.setup("fit")
    for images, masks in data.train_dataset():
        assert_alike(images, masks)


def test_a_changed_mask_is_another_data_set(folder):
    first, again = data_of(folder), data_of(folder)
    first.setup("fit")
    known = first.fingerprint()
    mask = np.array(Image.open(folder / "masks" / "0.png"))
    Image.fromarray(np.where(mask == 1, 0, mask)).save(folder / "masks" / "0.png")
    again.setup("fit")
    assert again.fingerprint() != known


def test_what_masks_cannot_have(folder):
    with pytest.raises(ValueError, match="mixup would move"):
        data_of(folder, strong={"mixup": 0.2})
    data_of(folder, strong={"cutout": 0.5})
    with pytest.raises(ValueError, match="balanced=True"):
        data_of(folder, balanced=True)
    data = data_of(folder)
    for ask in (data.ten_crop_dataset, lambda: data.predict_views("flip")):
        with pytest.raises(MisconfigurationError, match="Leave views out"):
            ask()
    for weights in ("class_weight", "positive_weight"):
        with pytest.raises(MisconfigurationError, match="leave it out"):
            getattr(data, weights)


# --- digits on photographs ----------------------------------------------------------


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    data = kd.data.DigitScenes(tmp_path_factory.mktemp("scenes"), batch_size=100)
    data.prepare_data()
    return data


def test_digit_scenes_are_written_once(scenes):
    written = sorted(path for path in scenes.folder.rglob("*.png"))
    assert len(written) == 2 * 5_000
    before = written[0].stat().st_mtime_ns
    kd.data.DigitScenes(scenes.root).prepare_data()
    assert written[0].stat().st_mtime_ns == before
    assert [path.name for path in scenes.folder.parent.iterdir()] == ["photos"]


def test_baselines_of_the_digit_scenes(scenes):
    """All background, and each digit's box: what a network must be better than.

    The recipe says 0.08 and 0.64.
    """
    masks = [
        np.asarray(Image.open(path))
        for path in sorted((scenes.folder / "test" / "masks").iterdir())
    ]
    masks = np.stack(masks)
    boxes = np.zeros_like(masks)
    for mask, box in zip(masks, boxes, strict=True):
        for digit in np.setdiff1d(mask, [0, 255]):
            rows, columns = np.nonzero(mask == digit)
            inside = (
                slice(rows.min(), rows.max() + 1),
                slice(columns.min(), columns.max() + 1),
            )
            box[inside] = digit
    known = masks != 255

    def mean_iou(answers):
        ious = []
        for number in range(11):
            has, said = (masks == number) & known, (answers == number) & known
            ious.append((has & said).sum() / (has | said).sum())
        return np.mean(ious)

    assert mean_iou(np.zeros_like(masks)) == pytest.approx(0.08, abs=0.005)
    assert mean_iou(boxes) == pytest.approx(0.64, abs=0.02)


def test_digit_scenes_have_each_digit_and_void_edges(scenes):
    scenes.setup("fit")
    _, masks = next(iter(scenes.val_dataset()))
    numbers, counts = np.unique(masks, return_counts=True)
    assert numbers.tolist() == [*range(11), 255]
    assert 0.8 < counts[0] / counts.sum() < 0.95  # background
    assert scenes.class_names[0] == "background"
    assert scenes.input_shape == (32, 32, 3)
