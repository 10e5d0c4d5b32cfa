"""Training on pictures with masks, from the data to what is exported."""

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_densenet as kd
from keras_densenet.errors import MisconfigurationError
from keras_densenet.training.compilation import refuse_other_data

NAMES = ("ground", "square")
SMALL = {"blocks": (2, 2, 2), "growth_rate": 4, "init_features": 8}
FOUND = {"batch_size": 4, "image_size": 16, "seed": 0, "method": "bilinear"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Bright squares on dark ground; the last row is void."""
    root = tmp_path_factory.mktemp("masked")
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir()
    for number in range(24):
        mask = np.zeros((16, 16), np.uint8)
        top, left = rng.integers(0, 8, 2)
        mask[top : top + 7, left : left + 7] = 1
        picture = (30 + 170 * mask + rng.integers(0, 20, mask.shape)).astype(np.uint8)
        mask[-1] = 255
        picture = np.stack([picture] * 3, -1)
        Image.fromarray(picture).save(root / "images" / f"{number}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
    return root


def data_of(folder, **options):
    shares = {"validation_fraction": 0.2, "test_fraction": 0.2}
    return kd.data.MaskFolder(folder, NAMES, **FOUND, **shares, **options)


def module_of(**options):
    options = {"learning_rate": 0.02, "milestones": ()} | options
    return kd.ImageClassifier(kd.FCDenseNet, **SMALL, **options)


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    kd.seed_everything(0)
    trainer = kd.Trainer(
        max_epochs=6, default_root_dir=tmp_path_factory.mktemp("trained")
    )
    module, data = module_of(), data_of(folder)
    trainer.fit(module, datamodule=data)
    return trainer, module, data


def test_it_learns_and_the_best_epoch_is_that_of_the_mean_iou(trained):
    """All ground would be a mean IoU of 0.40: 80 % of the pixels, of two classes."""
    trainer, module, data = trained
    assert trainer.checkpoint_callback.monitor == "val_mean_iou"
    assert "val_mean_iou=" in trainer.checkpoint_callback.best_model_path
    metrics = trainer.test(module, datamodule=data)
    assert set(metrics) == {"loss", "mean_iou", "pixel_accuracy"}
    assert metrics["mean_iou"] > 0.8


def test_metrics_are_those_of_the_answers(trained):
    trainer, module, data = trained
    metrics = trainer.test(module, datamodule=data)
    data.setup("test")
    masks = np.concatenate([masks for _, masks in data.test_dataset()])
    shares = trainer.predict(module, datamodule=data)
    assert shares.shape == (*masks.shape, 2)
    answers, known = shares.argmax(-1), masks != 255
    of_right = np.take_along_axis(
        shares, np.where(known, masks, 0)[..., np.newaxis], -1
    )[..., 0]
    assert metrics["loss"] == pytest.approx(-np.log(of_right[known]).mean(), rel=1e-4)
    right = (answers == masks)[known].mean()
    assert metrics["pixel_accuracy"] == pytest.approx(right, rel=1e-5)
    ious = [
        ((answers == n) & (masks == n)).sum()
        / (((answers == n) | (masks == n)) & known).sum()
        for n in range(2)
    ]
    assert metrics["mean_iou"] == pytest.approx(np.mean(ious), rel=1e-5)


def test_a_report_has_the_masks(trained, tmp_path):
    trainer, module, data = trained
    page = trainer.report(module, datamodule=data, path=tmp_path / "report.html")
    text = page.read_text()
    assert "mean IoU" in text
    assert "Masks and answers" in text
    # 24 pictures, a fifth of them to test on: all are among the worst, four the best.
    assert text.count('alt="Picture, mask and answer"') == 5 + 4
    assert "How far its confidence" not in text


def test_an_export_answers_class_maps(trained, tmp_path):
    trainer, module, data = trained
    version = trainer.export(module, tmp_path / "served")
    served = tf.saved_model.load(str(version))
    assert set(served.signatures) == {"serve", "serving_default", "predict_bytes"}
    data.setup("test")
    images = np.concatenate([images for images, _ in data.test_dataset()])
    raw = (images * np.array(data.std) + data.mean).astype("float32")
    answer = served.signatures["serve"](images=tf.constant(raw))
    expected = trainer.predict(module, datamodule=data)
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-4)
    same = answer["class_map"].numpy() == expected.argmax(-1)
    assert same.mean() > 0.999
    assert answer["class_map"].dtype == tf.int32
    file = (data.folder / data.predict_files()[0]).read_bytes()
    of_file = served.signatures["predict_bytes"](image_bytes=tf.constant([file]))
    np.testing.assert_allclose(of_file["probabilities"][0], expected[0], atol=2e-3)
    assert kd.export.verify(version)["differences"]["serve"] < 1e-4


def test_a_tampered_class_map_is_noticed(trained, tmp_path):
    trainer, module, _ = trained
    version = trainer.export(module, tmp_path / "served")
    golden = version / "assets.extra" / "golden" / "serve.response.json"
    text = golden.read_text()
    content = json.loads(text)
    row = content["predictions"][0]["class_map"][4]
    row[:] = [1 - number for number in row]
    golden.write_text(json.dumps(content))
    assert golden.read_text() != text
    with pytest.raises(kd.export.ExportError, match="of another class"):
        kd.export.verify(version)


@pytest.mark.slow
@pytest.mark.parametrize("format_", ["bfloat16", "onnx", "litert", "int8"])
def test_other_formats_answer_class_maps(format_, trained, tmp_path):
    trainer, module, _ = trained
    how = {
        "bfloat16": {"path": tmp_path / "served", "precision": "bfloat16"},
        "onnx": {"path": tmp_path / "model.onnx", "format": "onnx"},
        "litert": {"path": tmp_path / "model.tflite", "format": "litert"},
        "int8": {
            "path": tmp_path / "model.tflite",
            "format": "litert",
            "quantize": "int8",
        },
    }
    assert trainer.export(module, **how[format_]).exists()


# --- what cannot work together ------------------------------------------------------


def fit(module, data, tmp_path):
    kd.Trainer(max_epochs=1, default_root_dir=tmp_path).fit(module, datamodule=data)


def test_networks_that_do_not_fit_the_labels(folder, tmp_path):
    of_pictures = kd.ImageClassifier(kd.DenseNetBC, depth=10, growth_rate=4)
    with pytest.raises(MisconfigurationError, match=r"kd\.FCDenseNet"):
        fit(of_pictures, data_of(folder), tmp_path)
    with pytest.raises(MisconfigurationError, match=r"kd\.data\.MaskFolder"):
        fit(module_of(), kd.data.Digits(32), tmp_path)
    few = kd.FCDenseNet(**SMALL, classes=2, input_shape=(16, 16, 3))
    few.compile("sgd", keras.losses.SparseCategoricalCrossentropy(ignore_class=255))
    three = kd.data.MaskFolder(folder, (*NAMES, "circle"), **FOUND)
    with pytest.raises(MisconfigurationError, match="2 classes apart, and there are 3"):
        fit(few, three, tmp_path)


@pytest.mark.parametrize("labels", ["one", "pixels"])
def test_sizes_that_are_not_known_are_not_refused(labels):
    model = kd.FCDenseNet(**SMALL, input_shape=(16, 16, 3))
    unknown = SimpleNamespace(labels=labels, input_shape=None, num_classes=2)
    refuse_other_data(model, unknown)
    any_size = SimpleNamespace(
        labels="pixels", input_shape=(None, None, 3), num_classes=2
    )
    refuse_other_data(model, any_size)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"class_weight": {0: 1.0, 1: 2.0}}, "class_weight"),
        ({"label_smoothing": 0.1}, "label_smoothing"),
        ({"positive_weight": 2.0}, "positive_weight"),
        ({"classifier_activation": "sigmoid"}, "softmax"),
    ],
)
def test_options_that_masks_have_not(options, words, folder, tmp_path):
    with pytest.raises(MisconfigurationError, match=words):
        fit(module_of(**options), data_of(folder), tmp_path)


def test_logits_are_trained_too(folder, tmp_path):
    module = module_of(classifier_activation=None)
    fit(module, data_of(folder), tmp_path)
    assert module.model.loss.from_logits


def test_several_views_are_refused(trained, folder):
    trainer, module, data = trained
    new = kd.data.Pictures([folder / "images" / "0.png"], like=data)
    for views in ("flip", 10):
        for asked in (data, new):
            with pytest.raises(MisconfigurationError, match="views"):
                trainer.predict(module, datamodule=asked, views=views)
    assert trainer.predict(module, datamodule=new).shape == (1, 16, 16, 2)


def test_pixels_are_not_calibrated(trained):
    trainer, module, data = trained
    with pytest.raises(MisconfigurationError, match="calibrate has nothing"):
        trainer.calibrate(module, data)


def test_folds_of_masks_are_trained_one_by_one(folder, tmp_path):
    with pytest.raises(MisconfigurationError, match="cross_validate keeps an answer"):
        kd.cross_validate(module_of(), data_of(folder), default_root_dir=tmp_path)
    fold = data_of(folder).fold(1, 3)
    fit(module_of(), fold, tmp_path)
    assert fold.has_pictures("val")


def test_datasets_of_masks_of_volumes(tmp_path):
    """Masks of any rank, of a tf.data.Dataset; what is void counts nowhere."""
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 2, (8, 8, 8, 8))
    volumes = masks[..., np.newaxis] + rng.normal(0, 0.1, (8, 8, 8, 8, 1))
    masks[:, 0] = 255
    made = tf.data.Dataset.from_tensor_slices((volumes.astype("float32"), masks))
    data = kd.data.Datasets(made.batch(4), made.batch(4), labels="pixels")
    assert data.num_classes == 2
    module = module_of()
    fit(module, data, tmp_path)
    assert module.model.output_shape == (None, 8, 8, 8, 2)
    weighed = made.map(lambda x, y: (x, y, tf.constant(2.0))).batch(4)
    loss = module.model.evaluate(made.batch(4), verbose=0)[0]
    of_twice = module.model.evaluate(weighed, verbose=0)[0]
    assert of_twice == pytest.approx(2 * loss, rel=1e-5)
    for other in (masks * 0 - 1, masks * 0 + 255, masks * 0 + 300):
        strange = tf.data.Dataset.from_tensor_slices((volumes, other)).batch(4)
        with pytest.raises(ValueError, match="255 where the class is not"):
            _ = kd.data.Datasets(strange, labels="pixels").num_classes
    with pytest.raises(ValueError, match="255 classes at most"):
        kd.data.Datasets(made.batch(4), labels="pixels", num_classes=256)
    names = [str(number) for number in range(256)]
    with pytest.raises(ValueError, match="255 classes at most"):
        kd.data.Datasets(made.batch(4), labels="pixels", class_names=names)
    with pytest.raises(ValueError, match='labels="pixels" needs a class number'):
        kd.data.Datasets(made.map(lambda x, y: (x, y[0])).batch(4), labels="pixels")
