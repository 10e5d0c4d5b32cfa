"""What training changes in a callback is kept as it is, or named."""

import json
import threading
from collections import Counter, defaultdict, deque

import keras
import numpy as np
import pytest

import keras_densenet as kd
from keras_densenet.callbacks.state import marks_of, restore, state_of


class Collecting(keras.callbacks.Callback):
    """Has what users' callbacks have."""

    def __init__(self, patience=3, untouched=5):
        super().__init__()
        self.patience, self.untouched = patience, untouched
        self._count = 0
        self.losses, self.window, self.classes = [], deque(maxlen=2), set()
        self.nothing = np.zeros((0, 3))
        self.table, self.last = np.zeros((2, 2)), (0, 0)
        self.by_class, self.hits, self.named = {}, Counter(), defaultdict(list)

    def train(self):
        self.patience -= 1
        self._count += 1
        self.losses.append(np.float32(0.1))
        self.window.extend([1, 2, 3])
        self.classes.add("cat")
        self.table[0, 1] = 7.0
        self.last = (1, float("nan"))
        self.by_class[3] = np.arange(3)
        self.hits["cat"] += 2
        self.named["dog"].append({"$": 1})
        return self


def kept_through_a_file(callback, begun):
    plain, arrays, lost = state_of(callback, begun)
    return json.loads(json.dumps(plain)), arrays, lost


def test_all_kinds_go_on_as_they_were():
    callback = Collecting()
    begun = marks_of(callback)
    plain, arrays, lost = kept_through_a_file(callback.train(), begun)
    assert lost == []
    assert "untouched" not in plain
    resumed = Collecting(patience=9, untouched=6)
    restore(resumed, plain, arrays)
    assert (resumed.patience, resumed.untouched, resumed._count) == (2, 6, 1)
    assert resumed.losses == [np.float32(0.1)]
    assert type(resumed.losses[0]) is np.float32
    assert resumed.window == deque([2, 3])
    assert resumed.window.maxlen == 2
    assert resumed.classes == {"cat"}
    np.testing.assert_array_equal(resumed.table, [[0, 7], [0, 0]])
    assert resumed.last[0] == 1
    assert np.isnan(resumed.last[1])
    np.testing.assert_array_equal(resumed.by_class[3], [0, 1, 2])
    assert resumed.hits == Counter(cat=2)
    assert resumed.named == {"dog": [{"$": 1}]}
    resumed.train()  # a Counter and a defaultdict still
    assert (resumed.hits["cat"], resumed._count) == (4, 2)


def test_what_did_not_change_is_not_kept():
    callback = Collecting()
    assert state_of(callback, marks_of(callback)) == ({}, {}, [])


def test_what_cannot_be_kept_is_named_once_it_has_changed():
    callback = Collecting()
    callback.lock, callback.tensors = threading.Lock(), []
    callback.itself = [callback.losses]
    begun = marks_of(callback)
    assert state_of(callback, begun)[2] == []
    callback.tensors.append(keras.ops.zeros(1))
    assert state_of(callback, begun)[2] == ["Collecting.tensors"]
    callback.lock = threading.Lock()
    callback.itself.append(callback.itself)
    assert state_of(callback, begun)[2] == [
        "Collecting.lock",
        "Collecting.tensors",
        "Collecting.itself",
    ]


class Saying(keras.callbacks.Callback):
    """Says itself what is to be kept, as Lightning's callbacks do."""

    def state_dict(self):
        return {"loss": np.float32(0.5), "table": np.ones(2)}

    def load_state_dict(self, state):
        self.loaded = state


def test_a_state_dict_may_have_numbers_and_arrays_of_numpy():
    plain, arrays, lost = kept_through_a_file(Saying(), {})
    assert lost == []
    resumed = Saying()
    restore(resumed, plain, arrays)
    assert resumed.loaded["loss"] == np.float32(0.5)
    np.testing.assert_array_equal(resumed.loaded["table"], [1, 1])


class Patient(keras.callbacks.EarlyStopping):
    """Keras's, with a number of its own."""

    def __init__(self):
        super().__init__("loss", min_delta=0.5, patience=4)
        self._mine = 0


def test_arguments_and_private_names_of_keras_are_keras_own():
    callback = Patient()
    callback.on_train_begin()
    begun = marks_of(callback)
    callback.set_model(keras.Sequential([keras.Input((1,))]))
    callback.on_epoch_end(0, {"loss": 1.0})
    callback.on_epoch_end(1, {"loss": 2.0})
    callback._mine = 1
    plain, arrays, lost = kept_through_a_file(callback, begun)
    assert lost == []
    assert plain == {"best": 1.0, "wait": 1, "_mine": 1}
    assert arrays == {}


def test_reduce_lr_on_plateau_goes_on_waiting():
    callback = keras.callbacks.ReduceLROnPlateau("loss", patience=3, cooldown=2)
    callback.on_train_begin()
    begun = marks_of(callback)
    callback.best, callback.wait, callback.cooldown_counter = 0.25, 2, 1
    plain, arrays, _ = kept_through_a_file(callback, begun)
    resumed = keras.callbacks.ReduceLROnPlateau("loss", patience=3, cooldown=2)
    restore(resumed, plain, arrays)
    assert (resumed.best, resumed.wait, resumed.cooldown_counter) == (0.25, 2, 1)


def test_lists_of_arrays_of_version_0_1_0_are_read():
    callback = keras.callbacks.EarlyStopping()
    restore(callback, {"wait": 1}, {"best_weights/0": np.ones(1)})
    assert callback.wait == 1
    np.testing.assert_array_equal(callback.best_weights, [[1.0]])


@pytest.mark.parametrize("value", [np.float32(0.1), np.int8(3), np.bool_(True)])
def test_a_number_of_numpy_keeps_its_type(value):
    callback = Collecting()
    callback.number = [value]
    resumed = Collecting()
    plain, arrays, _ = kept_through_a_file(callback, {})
    restore(resumed, plain, arrays)
    assert resumed.number == [value]
    assert type(resumed.number[0]) is type(value)


class Failing(Collecting):
    """Has what no checkpoint keeps, and ends the first run after five steps."""

    def __init__(self, end_at=None):
        super().__init__()
        self.end_at, self.answers = end_at, []

    def on_train_batch_end(self, batch, logs=None):
        self.train()
        self.answers.append(keras.ops.zeros(1))
        if self._count == self.end_at:
            raise ZeroDivisionError


def test_a_run_goes_on_with_its_callbacks_and_warns_once(tmp_path):
    def fit(callback, ckpt_path=None):
        checkpoint = kd.callbacks.ModelCheckpoint(every_n_train_steps=2)
        trainer = kd.Trainer(
            1,
            limit_train_batches=7,
            limit_val_batches=0,
            default_root_dir=tmp_path,
            callbacks=[callback, checkpoint],
            logger=False,
        )
        trainer.fit(module(), kd.data.Digits(batch_size=8), ckpt_path=ckpt_path)

    with (
        pytest.warns(UserWarning, match=r"Failing\.answers, which") as warned,
        pytest.raises(ZeroDivisionError),
    ):
        fit(Failing(end_at=5))
    assert sum("answers" in str(one.message) for one in warned) == 1
    resumed = Failing()
    with pytest.warns(UserWarning, match=r"Failing\.answers, which"):
        fit(resumed, ckpt_path="last")
    assert (resumed._count, resumed.patience, len(resumed.losses)) == (7, -4, 7)
    assert len(resumed.answers) == 3  # since the checkpoint of four steps


def module():
    def linear(classes, input_shape):
        flat = [keras.Input(input_shape), keras.layers.Flatten()]
        return keras.Sequential([*flat, keras.layers.Dense(classes)], name="linear")

    return kd.ImageClassifier(linear)
