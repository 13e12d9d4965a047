"""The pack's part of ECG-QA: one file of questions about noise in ECGs, in many wordings, without the ECGs.

The file holds text only; its ``ecg_id`` point to PTB-XL recordings that aren't in the pack. So its wordings are put to real ECG
windows with known noise (:func:`wordings`).
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fedkim.data.sources.ecgqa_questions import read_questions
from fedkim.errors import FedkimError

FOLDER = Path("text") / "ecgqa"
QUESTIONS = "ptbxl_paraphrased_train_120000.json"
ANY_NOISE = "any kind of noises"
"""The attribute of template 28, which asks for noise of whatever kind."""
_LEAD = re.compile(r"\blead (I{1,3}|aV[RLF]|V[1-6])\b")


def questions_file(root: Path) -> Path:
    """The questions of the pack at ``root``."""
    return Path(root) / FOLDER / QUESTIONS


def read(root: Path) -> list[dict[str, Any]]:
    """All entries of the pack's file.

    Raises:
        FedkimError: it is missing, unreadable, no list of entries, or an entry lacks a key.
    """
    path = questions_file(root)
    entries = read_questions(path, remedy="assemble the pack (docs/data/pack.md)")
    for number, entry in enumerate(entries):
        if not entry.get("attribute"):
            raise FedkimError(f"questions {path}, entry {number}", found="no 'attribute'", expected="a kind of noise")
    return entries


def wordings(entries: Iterable[Mapping[str, Any]], lead: str) -> dict[str, list[tuple[str, str]]]:
    """Kind of noise → the distinct ``(template, question)`` that can be asked of a single-lead recording, sorted.

    A question that names a lead fits only a recording of that lead; the modified limb lead II counts as lead II.

    Args:
        entries: from :func:`read`.
        lead: as the record's header says: ``"MLII"`` or ``"V5"``.
    """
    named = "II" if lead == "MLII" else lead
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for entry in entries:
        match = _LEAD.search(entry["question"])
        if match is None or match[1] == named:
            found[entry["attribute"][0]].add((str(entry["template_id"]), entry["question"]))
    return {kind: sorted(pairs) for kind, pairs in sorted(found.items())}
