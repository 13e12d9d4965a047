import sys

import pytest

from fedkim.errors import FedkimError
from fedkim.evaluation import text


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("The  Two X-rays.", "2 x rays"),
        ("Twenty-one", "21"),
        ("ninety beats", "90 beats"),
        ("ﬁbrosis", "fibrosis"),  # NFKC takes the ligature apart
        ("3.5 mg", "3.5 mg"),
        ("-5 mm", "-5 mm"),
        ("60-100", "60 100"),
        ("1,200", "1200"),
        ("Crohn's", "crohns"),
        ("A", "a"),
        ("...", ""),
    ],
)
def test_answers_are_normalised(raw, normal):
    assert text.normalise(raw) == normal
    assert text.normalise(normal) == normal


def test_lists_are_sets():
    assert text.exact_match("Nodule, and a mass", "mass and nodule") == 1
    assert text.exact_match("mass; mass; nodule", "nodule, mass") == 1
    assert text.exact_match("mass", "mass, nodule") == 0
    assert text.items("lead V1, V2") == {"lead v1", "v2"}


def test_number_words_match_digits():
    assert text.exact_match("two", "2") == 1
    assert text.exact_match("3.5", "35") == 0


def test_an_empty_answer_scores_nothing_by_any_measure():
    for score in (text.exact_match, text.token_f1, text.bleu_1, text.rouge_1, text.meteor_no_synonyms):
        assert score("", "left lung") == 0
        assert score(" .", "left lung") == 0
    assert text.is_empty(" . ")


def test_token_f1_by_hand():
    # words shared: left, lung; given 3, right 2 -> precision 2/3, recall 1
    assert text.token_f1("left lower lung", "the left lung") == pytest.approx(0.8)
    assert text.token_f1("lung lung", "lung") == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "normal", ["normal", "Normal heart.", "none", "nothing", "there is no effusion", "not seen", ""]
)
def test_what_only_looks_like_no_is_not_no(normal):
    assert text.parse_yes_no(normal) is None


def test_yes_and_no_are_read_strictly():
    assert text.parse_yes_no(" Yes.") == "yes"
    assert text.parse_yes_no("No, there is none") == "no"
    assert text.parse_yes_no("yes no yes no") is None
    assert text.is_closed("No.")
    assert not text.is_closed("normal")


PAIRS = [
    ("left lower lobe", "left lobe"),
    ("the cat sat on the mat", "on the mat sat the cat"),
    ("effusions", "effusion"),
    ("right", "left"),
    ("a b c", "a b c d e f"),
    ("the the the", "the cat"),
]


@pytest.mark.parametrize(("given", "right"), PAIRS)
def test_bleu_and_rouge_are_those_of_their_usual_implementations(given, right):
    from nltk.translate.bleu_score import sentence_bleu
    from rouge_score.rouge_scorer import RougeScorer

    expected = (
        sentence_bleu([right.split()], given.split(), weights=(1,)) if set(given.split()) & set(right.split()) else 0
    )
    assert text.bleu_1(given, right) == pytest.approx(expected)
    rouge = RougeScorer(["rouge1"], use_stemmer=False).score(right, given)["rouge1"].fmeasure
    assert text.rouge_1(given, right) == pytest.approx(rouge)


def test_meteor_knows_stems_but_no_synonyms():
    assert text.meteor_no_synonyms("effusions", "effusion") == pytest.approx(0.5)  # one chunk of one word: half off
    assert text.meteor_no_synonyms("heart", "cardiac") == 0
    # four words in one chunk: the penalty is half of (1/4) cubed
    assert text.meteor_no_synonyms("left lower lung field", "left lower lung field") == pytest.approx(1 - 0.5 / 4**3)


def test_without_nltk_meteor_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "nltk.translate.meteor_score", None)
    with pytest.raises(FedkimError, match=r"pip install '\.\[paper-metrics\]'"):
        text.meteor_no_synonyms("left", "left")
