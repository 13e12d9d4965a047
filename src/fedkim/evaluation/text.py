"""Scores of generated answers: one text against one truth, each between 0 and 1.

Exact match and token F1 compare normalised answers (:func:`normalise`). BLEU-1, ROUGE-1 and METEOR, the paper's, compare
plain lower-case words as their usual implementations do. An empty answer scores 0 everywhere and stays in n; the truth is
never touched, whatever the model says.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from fedkim.errors import FedkimError, install_extra

_ARTICLES = {"a", "an", "the"}
_NUMBERS = {
    **{"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9},
    **{"ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16},
    **{"seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50},
    **{"sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90},
}
_LIST = re.compile(r";|(?<!\d),|,(?!\d)|\band\b")


def normalise(text: str) -> str:
    """Lower-case NFKC words without punctuation or articles, number words as digits; ``"The  Two X-rays."`` → ``"2 x rays"``.

    A decimal point and a leading minus belong to their number and stay. An answer that is nothing but an article
    ("A") stays too.
    """
    text = unicodedata.normalize("NFKC", text).lower()
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text).replace("'", "").replace("’", "")
    kept = []
    for i, letter in enumerate(text):
        digit_next = text[i + 1 : i + 2].isdigit()
        inside_number = letter == "." and digit_next and text[i - 1 : i].isdigit()
        sign = letter == "-" and digit_next and (i == 0 or text[i - 1].isspace())
        punctuation = unicodedata.category(letter).startswith("P") and not (inside_number or sign)
        kept.append(" " if punctuation else letter)
    words = "".join(kept).split()
    return " ".join(_digits([word for word in words if word not in _ARTICLES] or words))


def items(text: str) -> frozenset[str]:
    """The answer as a set: ``"mass, nodule and mass"`` → ``{"mass", "nodule"}``; empty text gives the empty set."""
    return frozenset(
        filter(None, (normalise(part) for part in _LIST.split(unicodedata.normalize("NFKC", text).lower())))
    )


def exact_match(answer: str, truth: str) -> float:
    """1 if both normalise to the same set of items (order and repetition don't matter), else 0."""
    given = items(answer)
    return float(bool(given) and given == items(truth))


def token_f1(answer: str, truth: str) -> float:
    """Harmonic mean of precision and recall over normalised words, counted with repetition."""
    return _overlap_f1(_words_of_items(answer), _words_of_items(truth))


def bleu_1(answer: str, truth: str) -> float:
    """Clipped unigram precision × brevity penalty, per sentence (Papineni et al. 2002)."""
    given, right = _plain_words(answer), _plain_words(truth)
    if not given:
        return 0.0
    precision = sum((Counter(given) & Counter(right)).values()) / len(given)
    return precision * min(1.0, math.exp(1 - len(right) / len(given)))


def rouge_1(answer: str, truth: str) -> float:
    """Unigram F-measure (Lin 2004), no stemming."""
    return _overlap_f1(_plain_words(answer), _plain_words(truth))


def meteor_no_synonyms(answer: str, truth: str) -> float:
    """METEOR with its exact and stem stages only: WordNet is no part of it, so the figure is named apart.

    Its fragmentation penalty halves a one-word answer that is right: such a pair scores 0.5, as in the original.

    Raises:
        FedkimError: nltk is not installed.
    """
    try:
        from nltk.translate.meteor_score import single_meteor_score
    except ImportError:
        raise FedkimError("METEOR", found="nltk is not installed", remedy=install_extra("paper-metrics")) from None
    given = _plain_words(answer)
    return float(single_meteor_score(_plain_words(truth), given, wordnet=_NoSynonyms())) if given else 0.0


def is_empty(answer: str) -> bool:
    """Whether nothing is left of an answer once normalised."""
    return not normalise(answer)


def parse_yes_no(answer: str) -> str | None:
    """``"yes"``, ``"no"`` or None (unparsable): the first word must be one of the two, and the other must not follow.

    "normal" is not "no", "there is no effusion" is not parsed, and neither is "yes no".
    """
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", answer).lower())
    if not words or words[0] not in ("yes", "no"):
        return None
    other = "no" if words[0] == "yes" else "yes"
    return None if other in words else words[0]


def is_closed(truth: str) -> bool:
    """Whether the true answer is yes or no."""
    return normalise(truth) in ("yes", "no")


class _NoSynonyms:
    """Stands where METEOR looks for WordNet, and knows no synonym."""

    def synsets(self, word: str) -> Iterable[object]:
        return ()


def _plain_words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).lower())


def _words_of_items(text: str) -> list[str]:
    parts = _LIST.split(unicodedata.normalize("NFKC", text).lower())
    return [word for part in parts for word in normalise(part).split()]


def _overlap_f1(given: list[str], right: list[str]) -> float:
    shared = sum((Counter(given) & Counter(right)).values())
    return 2 * shared / (len(given) + len(right)) if shared else 0.0


def _digits(words: list[str]) -> list[str]:
    """Number words as digits; a ten and the unit behind it are one number (``twenty one`` → ``21``)."""
    result: list[str] = []
    previous = ""
    for word in words:
        if word not in _NUMBERS:
            result.append(word)
        elif _NUMBERS.get(previous, 0) >= 20 and 0 < _NUMBERS[word] < 10:
            result[-1] = str(_NUMBERS[previous] + _NUMBERS[word])
        else:
            result.append(str(_NUMBERS[word]))
        previous = word
    return result
