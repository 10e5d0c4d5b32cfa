"""An answer is the golden one, or the difference has a size: by hand."""

import math

import numpy as np
import pytest

from keras_densenet.export.golden import difference, outputs_of, rows_of

NAN, INFINITE = float("nan"), float("inf")


def test_differences_are_shares_of_the_largest_number():
    golden = {"logits": [[1.0, -4.0]], "features": [[0.5]]}
    assert difference(golden, {"logits": [[1.0, -4.0]], "features": [[0.5]]}) == 0
    found = difference(golden, {"logits": [[1.0, -3.0]], "features": [[0.5]]})
    assert found == 0.25  # 1 of 4
    found = difference(golden, {"logits": [[1.0, -4.0]], "features": [[0.75]]})
    assert found == 0.25  # of 1, as no number is larger


@pytest.mark.parametrize(
    ("golden", "answer"),
    [
        ([[1.0, 2.0]], [[1.0, NAN]]),
        ([[1.0, NAN]], [[1.0, 2.0]]),
        ([[1.0, NAN]], [[1.0, NAN]]),
        ([[1.0, 2.0]], [[1.0, INFINITE]]),
        ([[1.0, INFINITE]], [[1.0, INFINITE]]),
        ([[1.0, None]], [[1.0, 2.0]]),  # JSON's null
    ],
)
def test_what_is_no_number_is_no_answer(golden, answer):
    with pytest.raises(ValueError, match="logits has NaNs or infinite numbers"):
        difference({"logits": golden}, {"logits": np.array(answer)})


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"logits": [[1.0, 2.0]]}, "It gives"),
        ({"logits": [[1.0, 2.0]], "scores": [[1.0]], "more": [[1.0]]}, "It gives"),
        ({"logits": [[1.0]], "scores": [[1.0]]}, "logits has shape"),
        ({"logits": [[1.0, 2.0]] * 2, "scores": [[1.0]]}, "logits has shape"),
    ],
)
def test_other_outputs_and_shapes_are_refused(answer, message):
    golden = {"logits": [[1.0, 2.0]], "scores": [[1.0]]}
    with pytest.raises(ValueError, match=message):
        difference(golden, answer)


GOLDEN = {
    "classes": [["cat", "dog", "hen"]],
    "class_ids": [[0, 1, 2]],
    "scores": [[0.5, 0.25, 0.249999]],
}


def test_classes_may_change_places_where_their_scores_are_all_but_equal():
    scores = np.array([[0.5, 0.25, 0.249999]])
    answer = {"classes": [[b"cat", b"hen", b"dog"]], "class_ids": [[0, 2, 1]]}
    assert difference(GOLDEN, answer | {"scores": scores}) == 0


@pytest.mark.parametrize(
    ("output", "value"),
    [
        ("classes", [[b"dog", b"cat", b"hen"]]),
        ("classes", [[b"owl", b"dog", b"hen"]]),
        ("class_ids", [[1, 0, 2]]),
    ],
)
def test_other_classes_are_refused(output, value):
    with pytest.raises(ValueError, match="The class is"):
        difference(GOLDEN, GOLDEN | {output: value})


def test_requests_and_responses_of_the_rest_api():
    assert rows_of({"instances": [{"b64": "aGVu"}]}) == [b"hen"]
    assert rows_of({"instances": [[[1, 2]], [[3, 4]]]}) == [[[1, 2]], [[3, 4]]]
    predicted = {"predictions": [{"a": 1, "b": 2}, {"a": 3, "b": 4}]}
    assert outputs_of(predicted) == {"a": [1, 3], "b": [2, 4]}
    classified = {"results": [[["cat", 0.75], ["dog", 0.25]]]}
    expected = {"classes": [["cat", "dog"]], "scores": [[0.75, 0.25]]}
    assert outputs_of(classified) == expected


def test_other_decisions_are_seen_unless_a_probability_is_all_but_the_threshold():
    asked = {"probabilities": [[0.3, 0.9]], "decisions": [[False, True]]}
    other = asked | {"decisions": [[True, True]]}
    assert difference(asked, asked, [0.5, 0.9]) == 0.0
    with pytest.raises(ValueError, match="other labels"):
        difference(asked, other, [0.5, 0.9])
    with pytest.raises(ValueError, match="other labels"):
        difference(asked, other, [math.inf, 0.9])
    assert difference(asked, other, [0.30001, 0.9]) == 0.0


def test_the_tolerance_does_not_excuse_all_of_a_rare_label():
    """Of a threshold of 0.02 half is near, though the tolerance is 0.05."""
    golden = {"probabilities": [[0.001]], "decisions": [[False]]}
    answer = {"probabilities": np.array([[0.03]]), "decisions": np.array([[True]])}
    with pytest.raises(ValueError, match="other labels"):
        difference(golden, answer, [0.02], 0.05)
    near = golden | {"probabilities": [[0.015]]}
    assert difference(near, answer, [0.02], 0.05) == pytest.approx(0.015)
