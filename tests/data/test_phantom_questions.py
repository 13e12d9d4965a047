from collections import Counter

import pytest

from fedkim.data.phantom.acceptance import QuestionRow
from fedkim.data.phantom.factors import draw
from fedkim.data.phantom.questions import ask
from fedkim.data.phantom.wave import LEADS, NOISE_LEADS, NOISES

FINDING_NAMES = {
    "an enlarged cardiomediastinum": "enlarged_cardiomediastinum",
    "atelectasis": "atelectasis",
    "pleural effusion": "pleural_effusion",
}
IMAGES = draw("image", 1280, seed=0, num_sites=5)
SIGNALS = draw("signal", 1280, seed=0, num_sites=5)


def about(task, factors, rho=0.5):
    asked = ask(task, factors, seed=0, rho=rho, each=2)
    return [(patient, one) for patient, questions in enumerate(asked) for one in questions]


@pytest.mark.parametrize("task", ["vqa_rad", "slake"])
@pytest.mark.parametrize("rho", [0.0, 1.0])
def test_presence_answers_are_the_labels_of_the_unseen_findings(task, rho):
    present = {finding: IMAGES.present(finding, rho) for finding in FINDING_NAMES.values()}
    checked = 0
    for patient, one in about(task, IMAGES, rho):
        if one.template.startswith("presence"):
            finding = next(f for name, f in FINDING_NAMES.items() if name in one.question.lower())
            assert one.template == f"presence {finding}"
            assert one.answer == ("yes" if present[finding][patient] else "no")
            checked += 1
    assert checked > 1000


@pytest.mark.parametrize(
    ("task", "template", "trait", "answers"),
    [
        ("vqa_rad", "opacity_side", "opacity_side", ("left", "right")),
        ("vqa_rad", "opacity_zone", "opacity_zone", ("upper", "middle", "lower")),
        ("vqa_rad", "view", "view", ("back to front", "front to back")),
        ("slake", "opacity_large", "opacity_large", ("small", "large")),
        ("slake", "line", "line", ("no", "yes")),
        ("slake", "effusion_side", "effusion_side", ("left", "right")),
    ],
)
def test_attribute_answers_are_the_traits(task, template, trait, answers):
    rows = [(patient, one) for patient, one in about(task, IMAGES) if one.template == template]
    assert len(rows) > 30
    assert all(one.answer == answers[IMAGES.traits[trait][patient]] for patient, one in rows)
    shares = Counter(one.answer for _, one in rows)
    assert max(shares.values()) / len(rows) < 1 / len(answers) + 0.15


def test_nobody_is_asked_where_a_finding_is_that_cannot_be_seen():
    for task, finding in (("vqa_rad", "lung_opacity"), ("slake", "pleural_effusion")):
        hidden = IMAGES.strength(finding) <= 0.5
        word = "opacity" if task == "vqa_rad" else "fluid"
        assert not any(hidden[patient] and word in one.question for patient, one in about(task, IMAGES))


def test_one_in_ten_asks_for_what_is_never_there_and_one_in_five_in_other_words():
    rows = [one for _, one in about("vqa_rad", IMAGES)]
    absent = [one for one in rows if one.template == "absent"]
    assert len(absent) / len(rows) == pytest.approx(0.1, abs=0.02)
    assert {one.answer for one in absent} == {"no"}
    presence = [one for one in rows if one.template.startswith("presence")]
    assert sum(one.question.endswith("present?") for one in presence) / len(presence) == pytest.approx(0.2, abs=0.03)


def test_noise_answers_are_the_noise_that_was_added():
    kinds, groups = SIGNALS.traits["noise"], SIGNALS.traits["noise_leads"]
    seen = Counter()
    for patient, one in about("ecg_qa", SIGNALS):
        noise, leads = NOISES[kinds[patient]], NOISE_LEADS[groups[patient]]
        seen[one.template] += 1
        if one.template == "any noise":
            truth = "yes" if noise != "none" else "no"
        elif one.template == "kind of noise":
            truth = "yes" if noise in one.question else "no"
        elif one.template == "noise in lead":
            (lead,) = (word.strip("?") for word in one.question.split() if word.strip("?") in LEADS)
            truth = "yes" if noise != "none" and lead in leads else "no"
        else:
            truth = noise
        assert one.answer == truth
    assert set(seen) == {"any noise", "kind of noise", "noise in lead", "which noise"}


def test_closed_questions_are_answered_by_yes_or_no_and_open_ones_never():
    for task, factors in (("vqa_rad", IMAGES), ("slake", IMAGES), ("ecg_qa", SIGNALS)):
        for _, one in about(task, factors):
            assert one.closed == (one.answer in ("yes", "no"))


def test_questions_are_a_pure_function_and_never_call_a_phantom_an_x_ray():
    once, again = about("slake", IMAGES), about("slake", IMAGES)
    assert once == again
    fewer = ask("slake", draw("image", 100, seed=0, num_sites=5), seed=0, rho=0.5, each=2)
    assert [one for questions in fewer[:100] for one in questions] == [one for _, one in once[:200]]
    assert not any("x-ray" in one.question.lower() for _, one in once)


def test_a_blind_reader_that_beats_the_majority_is_told():
    assert QuestionRow(task="slake", majority=0.6, blind=0.61).misses() == []
    assert QuestionRow(task="slake", majority=0.6, blind=0.63).misses() == ["blind"]
