"""The classifier on small texts: it learns, abstains, is deterministic, and refuses files that are no model."""

from __future__ import annotations

import io
import json
import random

import numpy as np
import pytest

from services.router.classifier.model import BadModel, loads
from services.router.classifier.training import NotEnough, train

WORDS = {
    "network": ["wifi", "vpn", "断网", "交换机", "router"],
    "printer": ["printer", "paper", "打印机", "卡纸", "toner"],
    "account": ["password", "login", "密码", "账号", "locked"],
}


def texts(count: int, seed: int) -> tuple[list[str], list[str]]:
    chance, found, labels = random.Random(seed), [], []
    for _ in range(count):
        label = chance.choice(sorted(WORDS))
        found.append(
            " ".join([*chance.choices(WORDS[label], k=2), *chance.choices(["please", "help", "今天", "room"], k=3)])
        )
        labels.append(label)
    return found, labels


@pytest.fixture(scope="module")
def model():
    return train(*texts(200, 1), *texts(60, 2), precision=0.95)


def test_it_learns_english_and_chinese(model):
    held, labels = texts(100, 3)
    right = sum(model.predict(text).best == label for text, label in zip(held, labels, strict=True))
    assert right >= 95


def test_it_gives_three_guesses_best_first_and_their_confidences_add_up(model):
    answer = model.predict("wifi down in room 3")
    assert answer.best == "network" == answer.guesses[0][0]
    confidences = [confidence for _, confidence in answer.guesses]
    assert confidences == sorted(confidences, reverse=True)
    assert sum(confidences) == pytest.approx(1.0, abs=1e-4)


def test_it_abstains_below_the_threshold_and_still_names_the_best():
    held, labels = texts(60, 2)
    noisy = ["network" if number % 2 else label for number, label in enumerate(labels)]
    answer = train(*texts(200, 1), held, noisy, precision=1.0).predict("今天 help please")
    assert answer.label is None
    assert answer.best in WORDS


def test_the_same_texts_give_the_same_bytes(model):
    assert train(*texts(200, 1), *texts(60, 2), precision=0.95).dumps() == model.dumps()


def test_a_model_survives_being_written_and_read(model):
    again = loads(model.dumps())
    for text in texts(30, 4)[0]:
        assert again.predict(text).best == model.predict(text).best


@pytest.mark.parametrize("data", [b"", b"not a model", b"PK\x03\x04broken"])
def test_a_file_that_is_no_model_is_refused(data):
    with pytest.raises(BadModel):
        loads(data)


def test_a_model_of_another_format_is_refused(model):
    with np.load(io.BytesIO(model.dumps())) as archive:
        parts = dict(archive)
    head = json.loads(parts["head"].tobytes()) | {"format": 99}
    parts["head"] = np.frombuffer(json.dumps(head).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **parts)
    with pytest.raises(BadModel, match="format 99"):
        loads(buffer.getvalue())


def test_one_label_is_not_enough():
    with pytest.raises(NotEnough):
        train(["a", "b"], ["x", "x"], ["a"], ["x"])
