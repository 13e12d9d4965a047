"""A file of ECG-QA: a list of questions about ECGs with their answers (Oh et al., NeurIPS 2023 D&B; CC BY 4.0).

    {"template_id": 26, "question_type": "single-verify", "attribute_type": "noise", "attribute": ["static noise"],
     "question": "Is static noise present in lead aVL based on the ECG?", "answer": ["no"], "ecg_id": [3637], …}

``ecg_id`` names one recording of PTB-XL, or two that are compared; then ``attribute`` may be null.
"""

import json
from pathlib import Path
from typing import Any

from fedkim.errors import FedkimError

KEYS = ("template_id", "sample_id", "question", "answer", "ecg_id")
"""What every entry has, with something in it."""


def read_questions(path: Path, *, remedy: str = "clone the repository again") -> list[dict[str, Any]]:
    """All entries of one file.

    Raises:
        FedkimError: it is missing, unreadable, no list of entries, or an entry lacks a key or has another type there.
    """
    what = f"questions {path}"
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FedkimError(what, found="no such file", remedy=remedy, code="E-FILE-MISSING") from None
    except (OSError, ValueError, RecursionError) as error:
        found, remedy = f"unreadable ({type(error).__name__})", "copy the file again from its source"
        raise FedkimError(what, found=found, remedy=remedy, code="E-TABLE") from None
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        remedy = "copy the file again from its source"
        raise FedkimError(what, found="no list of questions", remedy=remedy, code="E-TABLE")
    for number, entry in enumerate(entries, start=1):
        lacking = [key for key in KEYS if not entry.get(key) and entry.get(key) != 0]
        if lacking:
            place, expected = f"{what}, entry {number}", ", ".join(KEYS)
            raise FedkimError(place, found=f"no {lacking[0]!r}", expected=expected, code="E-VALUE")
        if not (_texts(entry["answer"]) and _numbers(entry["ecg_id"]) and isinstance(entry["question"], str)):
            found, expected = "another type", "a question, a list of answers, a list of recordings"
            raise FedkimError(f"{what}, entry {number}", found=found, expected=expected, code="E-VALUE")
    return entries


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, int) and not isinstance(item, bool) for item in value)
