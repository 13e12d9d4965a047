"""ECG-QA: questions about ECGs in many wordings, here those about noise (Oh et al., NeurIPS 2023 D&B; CC BY 4.0).

    {"template_id": 26, "question_type": "single-verify", "attribute_type": "noise", "attribute": ["static noise"],
     "question": "Is static noise present in lead aVL based on the ECG?", "answer": ["no"], "ecg_id": [3637], …}

The file holds text only; its ``ecg_id`` point to PTB-XL recordings that aren't in the pack. So it serves two ends: the
questions by themselves (:func:`load`), and the wordings, put to real ECG windows with known noise (:func:`wordings`).
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fedkim.data.sample import Dataset, Sample
from fedkim.errors import FedkimError

FOLDER = Path("text") / "ecgqa"
QUESTIONS = "ptbxl_paraphrased_train_120000.json"
ANY_NOISE = "any kind of noises"
"""The attribute of template 28, which asks for noise of whatever kind."""
TASK = "ecg_qa"
_LEAD = re.compile(r"\blead (I{1,3}|aV[RLF]|V[1-6])\b")
_KEYS = ("template_id", "sample_id", "question", "answer", "ecg_id", "attribute")


def questions_file(root: Path) -> Path:
    """The questions of the pack at ``root``."""
    return Path(root) / FOLDER / QUESTIONS


def read(root: Path) -> list[dict[str, Any]]:
    """All entries of the file.

    Raises:
        FedkimError: it is missing, unreadable, no list of entries, or an entry lacks a key.
    """
    path = questions_file(root)
    what = f"questions {path}"
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FedkimError(what, found="no such file", remedy="assemble the pack (docs/data/pack.md)") from None
    except (OSError, ValueError) as error:
        found = f"unreadable ({type(error).__name__})"
        raise FedkimError(what, found=found, remedy="copy the file again from its source") from None
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise FedkimError(what, found="no list of questions", remedy="copy the file again from its source")
    for number, entry in enumerate(entries):
        lacking = [key for key in _KEYS if not entry.get(key) and entry.get(key) != 0]
        if lacking:
            raise FedkimError(f"{what}, entry {number}", found=f"no {lacking[0]!r}", expected=", ".join(_KEYS))
    return entries


def load(root: Path) -> Dataset:
    """The questions alone, each with its answer, for prompts, parsing and answer vocabularies: without any signal.

    All stand in the test split: nothing is trained on them. ``patient`` is the recording (no patient ids are given), so
    several questions on one recording stay together.
    """
    return Dataset(
        (
            Sample(
                id=f"ecgqa/{entry['sample_id']}",
                patient=f"ptbxl/{entry['ecg_id'][0]}",
                site="ptbxl",
                split="test",
                inputs={},
                labels={TASK: ", ".join(entry["answer"])},
                questions={TASK: entry["question"]},
                strata={"template": str(entry["template_id"]), "source": "ecgqa"},
            )
            for entry in read(root)
        ),
        name="ecgqa",
    )


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
