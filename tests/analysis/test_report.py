"""The page about a run: what it shows, and that it loads nothing from elsewhere."""

import base64
import io
import re
from html.parser import HTMLParser

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_densenet as kd
from keras_densenet.analysis import (
    LabelExample,
    LabelPredictions,
    Mistake,
    Predictions,
    write_report,
)
from keras_densenet.analysis.drawn_pictures import how_drawn
from keras_densenet.training import MisconfigurationError

ASKS_FOR = ("src", "href", "srcset", "action", "poster", "data")
NAMES = ["<script>alert(1)</script>", "dög & cat", "owl"]


class Page(HTMLParser):
    """The texts and pictures of a page, and the addresses that it refers to."""

    def __init__(self, path):
        super().__init__()
        self.asked, self.tags, self.text = [], [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.asked += [value for name, value in attrs if name in ASKS_FOR]

    def handle_data(self, data):
        self.text += data

    def pictures(self):
        return [attrs["src"] for tag, attrs in self.tags if tag == "img"]

    def parts(self):
        return [attrs["id"] for tag, attrs in self.tags if tag == "section"]


def decoded(address):
    """Return the picture that a page embeds."""
    return Image.open(io.BytesIO(base64.b64decode(address.split(",")[1])))


def three_classes(mistakes=()):
    probabilities = np.array([[0.5, 0.5, 0], [0.2, 0.2, 0.6], [0.9, 0.1, 0]])
    return Predictions(np.array([0, 2, 1]), probabilities, NAMES, mistakes)


def dense(size=8):
    return keras.Sequential([keras.Input((size, size, 3)), keras.layers.Flatten()])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    data = kd.data.Digits(batch_size=64)
    module = kd.ImageClassifier(kd.DenseNetBC, depth=10, growth_rate=4)
    trainer = kd.Trainer(
        max_epochs=1,
        limit_train_batches=2,
        limit_val_batches=1,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=data)
    return trainer, module, data


def test_a_run_has_its_report_in_its_folder(trained):
    trainer, module, data = trained
    path = trainer.report(module)
    assert path == trainer.log_dir / "report.html"
    page = Page(path)
    assert page.parts() == [
        *("curves", "confusion", "mistakes", "reliability"),
        *("reuse", "gradients", "costs", "config"),
    ]
    accuracy = trainer.test(module, data)["accuracy"]
    assert f"{100 * (1 - accuracy):.2f} %" in page.text
    assert "360 test pictures" in page.text  # a fifth of 1,797
    assert "network: keras_densenet.models.DenseNetBC" in page.text
    assert f"{module.model.count_params():,}" in page.text
    assert not list(trainer.log_dir.glob(".*"))


@pytest.mark.slow
def test_it_loads_nothing_from_elsewhere(trained):
    trainer, module, _ = trained
    page = Page(trainer.report(module))
    inside = ("data:", "#")
    assert len(page.asked) > 30
    assert [a for a in page.asked if not a.startswith(inside)] == []
    assert "script" not in {tag for tag, _ in page.tags}
    policy = next(a["content"] for _, a in page.tags if "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    parts = {a["id"] for _, a in page.tags if "id" in a}
    assert {a[1:] for a in page.asked if a.startswith("#")} <= parts
    assert "url(" not in trainer.report(module).read_text()


@pytest.mark.slow
def test_the_worst_mistakes_are_the_pictures_themselves(trained):
    trainer, module, data = trained
    page = Page(trainer.report(module))
    data.setup("test")
    images, labels = map(
        np.concatenate, zip(*data.test_dataset().as_numpy_iterator(), strict=True)
    )
    probabilities = module.model.predict(images, verbose=0)
    wrong = np.flatnonzero(probabilities.argmax(1) != labels)
    of_labels = probabilities[wrong, labels[wrong]]
    worst = wrong[of_labels.argmin()]
    raw = images[worst] * data.std + data.mean
    kinds = [p for p in page.pictures() if p.startswith("data:image/png")]
    assert len(kinds) == min(24, len(wrong))
    shown = np.asarray(decoded(kinds[0]))
    if raw.shape[-1] == 1:
        raw = raw[..., 0]
    np.testing.assert_array_equal(shown, np.clip(np.rint(raw), 0, 255))


@pytest.mark.slow
def test_from_a_checkpoint_in_a_new_trainer(trained, tmp_path):
    trainer, _, data = trained
    checkpoint = trainer.checkpoint_callback.last_model_path
    other = kd.Trainer(default_root_dir=tmp_path, enable_progress_bar=False)
    again = kd.ImageClassifier(kd.DenseNetBC, depth=10, growth_rate=4)
    path = other.report(again, datamodule=data, ckpt_path=checkpoint)
    assert path == trainer.log_dir / "report.html"
    elsewhere = tmp_path / "pages" / "mine.html"
    assert other.report(again, data, checkpoint, path=elsewhere) == elsewhere
    assert Page(elsewhere).parts() == Page(path).parts()


def test_names_are_text_and_nothing_else(tmp_path):
    mistake = Mistake(np.zeros((200, 100, 5)), 1, 0, 0.9, 2.3)
    path = write_report(
        tmp_path / "deep" / "report.html",
        dense(),
        three_classes([mistake]),
        title="<b>mine</b>",
    )
    page = Page(path)
    assert "script" not in {tag for tag, _ in page.tags}
    assert NAMES[0] in page.text
    assert "<b>mine</b>" in page.text
    assert "dög & cat, taken for" in page.text
    picture = next(p for p in page.pictures() if p.startswith("data:image/png"))
    assert decoded(picture).size == (80, 160)


@pytest.mark.parametrize(
    ("raw", "size", "says"),
    [
        # A strip is scaled down to a height of 160. Three slices of 100 pixels with two
        # gaps of 1 + 100 // 32 = 4 between them are small enough.
        (np.zeros((50, 2)), (480, 160), "the curves of the first channels"),
        (np.zeros((100, 100, 100, 1)), (308, 100), "axial, coronal and sagittal"),
        (np.zeros((200, 200, 3)), (160, 160), ""),
    ],
    ids=["signal", "volume", "picture"],
)
def test_a_mistake_is_drawn_and_it_is_said_how(tmp_path, raw, size, says):
    mistakes = [Mistake(raw, 1, 0, 0.9, 2.3)] * 2
    path = write_report(
        tmp_path / "r.html", dense(), three_classes(mistakes), title="some"
    )
    page = Page(path)
    shown = [p for p in page.pictures() if p.startswith("data:image/png")]
    assert len(shown) == 2
    assert decoded(shown[0]).size == size
    assert page.text.count("as the network saw them.") == 1
    assert says in page.text
    (classes,) = [a["class"] for tag, a in page.tags if tag == "ul" and "class" in a][
        :1
    ]
    assert classes.split() == ["mistakes"] + ["wide"] * bool(says)


@pytest.mark.parametrize("size", [(16,), (4, 6, 8)])
def test_labels_of_signals_and_volumes(tmp_path, size):
    rank = len(size)
    average = getattr(keras.layers, f"GlobalAveragePooling{rank}D")
    maps = getattr(keras.layers, f"Conv{rank}D")(2, 3, padding="same")
    layers = [maps, average(), keras.layers.Dense(3, activation="sigmoid")]
    model = keras.Sequential([keras.Input((*size, 1)), *layers])
    labels = np.array([[1, 1, 0], [0, 1, 1]])
    shares = np.array([[0.9, 0.8, 0], [0, 0.1, 0.5]])
    raw = np.random.default_rng(0).normal(size=(*size, 1))
    found = [LabelExample(raw, raw, label, True, 0.9) for label in (0, 1)]
    missed = [LabelExample(raw, raw, 1, True, 0.1)]
    given = LabelPredictions(labels, shares, NAMES, None, None, missed, found)
    page = Page(write_report(tmp_path / "r.html", model, given, title="films"))
    alts = [attrs["alt"] for tag, attrs in page.tags if tag == "img"]
    assert "Heat maps over a picture of each label" in alts
    assert f"{NAMES[1]}, missed" in alts
    # Of where it looks, and of the mistakes.
    assert page.text.count(how_drawn(raw)) == 2


def test_a_trainer_reports_on_signals(tmp_path):
    """Of 4 signals 1 is wrong: the network answers whether the mean is above 0."""

    class Signals(kd.data.DataModule):
        num_classes, input_shape, class_names = 2, (8, 1), ("below", "above")
        mean, std, batch_size = (10.0,), (2.0,), 4

        def train_dataset(self):
            levels = np.array([-2, -1, 1, 2], "float32")
            signals = np.tile(levels[:, np.newaxis, np.newaxis], (1, 8, 1))
            return tf.data.Dataset.from_tensors((signals, np.array([0, 0, 1, 0])))

        def test_dataset(self):
            return self.train_dataset()

        def predict_dataset(self):
            return None

    top = keras.layers.Dense(2, activation="softmax")
    layers = [keras.layers.GlobalAveragePooling1D(), top]
    model = keras.Sequential([keras.Input((8, 1)), *layers])
    top.set_weights([np.array([[-1.0, 1.0]]), np.zeros(2)])
    trainer = kd.Trainer(default_root_dir=tmp_path, enable_progress_bar=False)
    page = Page(trainer.report(model, datamodule=Signals()))
    assert "25.00 %" in page.text
    shown = [p for p in page.pictures() if p.startswith("data:image/png")]
    assert len(shown) == 1
    # The wrong one is 10 + 2 * 2 everywhere: a line through the middle.
    dark = np.flatnonzero((np.asarray(decoded(shown[0]))[..., 0] < 128).any(axis=1))
    assert all(abs(dark - 80) <= 1)


@pytest.mark.parametrize(
    ("picture", "shown"),
    [
        (np.array([[[30.4], [300.0]]]), [[30] * 3, [255] * 3]),  # gray
        # Of alpha 51 a fifth is opaque: 0.2 * 100 + 0.8 * 255 = 224.
        (np.array([[[100, 100, 0, 51], [1, 2, 3, 255]]]), [[224, 224, 204], [1, 2, 3]]),
        (np.array([[[10, 20], [-5, 9]]]), [[15] * 3, [4] * 3]),  # the mean, 4.5 to even
    ],
)
def test_a_mistake_of_any_channels_is_drawn(tmp_path, picture, shown):
    mistakes = [Mistake(picture, 1, 0, 0.9, 2.3)]
    path = write_report(
        tmp_path / "r.html", dense(), three_classes(mistakes), title="films"
    )
    page = Page(path)
    address = next(p for p in page.pictures() if p.startswith("data:image/png"))
    assert np.asarray(decoded(address)).tolist() == [shown]


def test_what_a_network_does_not_have_is_said(tmp_path):
    path = write_report(tmp_path / "r.html", dense(), three_classes(), title="flat")
    page = Page(path)
    assert "has no DenseBlock" in page.text
    assert page.parts() == ["confusion", "mistakes", "reliability", "reuse", "costs"]
    # One of three is wrong, and no picture of it was given.
    assert "33.33 %" in page.text


def test_without_test_pictures_it_is_of_those_to_validate_on(trained, tmp_path):
    _, module, data = trained
    limits = {"limit_test_batches": 0, "limit_val_batches": 1}
    few = kd.Trainer(default_root_dir=tmp_path, enable_progress_bar=False, **limits)
    page = Page(few.report(module.model, datamodule=data))
    assert "64 validation pictures" in page.text
    assert "validation error" in page.text
    assert (
        tmp_path / "report.html"
    ).exists()  # without a run there is nothing else to write
    none = kd.Trainer(limit_test_batches=0, limit_val_batches=0)
    with pytest.raises(MisconfigurationError, match="nothing to report on"):
        none.report(module.model, datamodule=data)


def test_logits_and_labels_of_shares(tmp_path):
    class Shares(kd.data.Digits):
        def test_dataset(self):
            return super().test_dataset().map(lambda x, y: (x, tf.one_hot(y, 10)))

    data = Shares(batch_size=64)
    inputs = keras.Input(data.input_shape)
    x = keras.layers.Dense(10)(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, x, name="logits")
    trainer = kd.Trainer(default_root_dir=tmp_path, enable_progress_bar=False)
    text = Page(trainer.report(model, datamodule=data)).text
    data.setup("test")
    images, labels = map(
        np.concatenate, zip(*data.test_dataset().as_numpy_iterator(), strict=True)
    )
    logits = keras.ops.convert_to_tensor(model.predict(images, verbose=0))
    loss = keras.losses.categorical_crossentropy(labels, logits, from_logits=True)
    assert f"{float(keras.ops.mean(loss)):.3f}" in text


def test_several_labels_have_scores_and_no_error(tmp_path):
    # Right: 5 of 6. F1: 1, 2/3 (one of two found) and 1.
    labels = np.array([[1, 1, 0], [0, 1, 1]])
    shares = np.array([[0.9, 0.8, 0], [0, 0.1, 0.5]])
    blue = np.full((4, 4, 3), (0, 0, 255))
    missed = LabelExample(blue, blue, 1, True, 0.1)
    groups = np.array(["ann", "bob"])
    given = LabelPredictions(labels, shares, NAMES, None, groups, [missed])
    page = Page(write_report(tmp_path / "r.html", dense(), given, title="films"))
    assert "test error" not in page.text
    assert "83.33 %" in page.text
    assert "88.9 %" in page.text
    assert "2 groups" in page.text
    assert NAMES[0] in page.text
    shown = " ".join(page.text.split())
    # Prevalence, area, no interval (one group has each kind), precision,
    # threshold, sensitivity, specificity, and (0.1 + 0) / 2 off.
    assert "2 50.0 1.000 1.000 0.500 100.0 100.0 5.0" in shown
    assert f"{NAMES[1]} missed (10%)" in shown
    assert "Not drawn: no label is rightly given to a picture" in shown
    assert page.parts() == [
        *("labels", "activation", "mistakes", "reliability", "reuse", "costs"),
    ]


def test_an_error_has_its_interval(tmp_path):
    """Of 100 pictures 20 are wrong: 20 %, and 0.2 +- 1.96 sqrt(0.2 0.8 / 100)."""
    labels = np.repeat([0, 1], [80, 20])
    shares = np.tile([0.8, 0.1, 0.1], (100, 1))
    page = write_report(
        tmp_path / "r.html", dense(), Predictions(labels, shares, NAMES), title="films"
    )
    found = re.search(r"20\.00 % \(([\d.]+) to ([\d.]+)\)", Page(page).text)
    low, high = map(float, found.groups())
    assert low == pytest.approx(20 - 7.84, abs=1.5)
    assert high == pytest.approx(20 + 7.84, abs=1.5)


def test_ten_views_are_refused(tmp_path):
    class Views(kd.data.Digits):
        def test_dataset(self):
            return super().test_dataset().map(lambda x, y: (tf.stack([x] * 10, 1), y))

    with pytest.raises(MisconfigurationError, match="batches of pictures"):
        kd.Trainer().report(dense(32), datamodule=Views())


@pytest.mark.slow
def test_two_replicas_say_the_same(trained, tmp_path):
    trainer, module, data = trained
    two = kd.Trainer(
        devices=2, default_root_dir=tmp_path, enable_progress_bar=False, strategy="auto"
    )
    again = kd.ImageClassifier(kd.DenseNetBC, depth=10, growth_rate=4)
    checkpoint = trainer.checkpoint_callback.last_model_path
    page = Page(two.report(again, data, checkpoint, path=tmp_path / "two.html"))
    one = Page(trainer.report(module))
    shown = [p for p in page.pictures() if p.startswith("data:image/png")]
    assert shown == [p for p in one.pictures() if p.startswith("data:image/png")]
    assert "360 test pictures" in page.text
