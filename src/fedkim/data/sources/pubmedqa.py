"""PubMedQA: yes, no or maybe to a research question, from its abstract (Jin et al., EMNLP-IJCNLP 2019; MIT).

    "21645374": {"QUESTION": "Do mitochondria play a role in remodelling lace plant leaves …?", "CONTEXTS": ["…", "…"],
                 "LONG_ANSWER": "…", "final_decision": "yes", …}

``LONG_ANSWER`` is the abstract's conclusion and gives the answer away: it is never read. The 500 official test questions
are the test split. The majority answer is right in 55 of 100.
"""

import json
from pathlib import Path
from typing import Any

from fedkim.data.sample import Dataset, Sample
from fedkim.errors import FedkimError
from fedkim.randomness import seed_for

FOLDER = Path("text") / "pubmedqa"
TASK = "pubmedqa"
ANSWERS = ("no", "maybe", "yes")


def load(root: Path) -> Dataset:
    """All 1,000 questions with their abstracts: 500 official ones for the test, the others 4 : 1 public : development.

    Raises:
        FedkimError: a file is missing or unreadable, an answer isn't yes, no or maybe, or the two files disagree.
    """
    folder = Path(root) / FOLDER
    articles, official = _read(folder / "ori_pqal.json"), _read(folder / "test_ground_truth.json")
    astray = [key for key in official if key not in articles or articles[key].get("final_decision") != official[key]]
    if astray:
        raise FedkimError(
            f"test ids {folder / 'test_ground_truth.json'}",
            found=f"{len(astray)} that ori_pqal.json lacks or answers otherwise",
            remedy="take both files from one release",
        )
    others = sorted((seed_for(0, "pubmedqa", key), key) for key in articles if key not in official)
    development = {key for _, key in others[: len(others) // 5]}
    return Dataset(
        (
            _sample(key, article, "test" if key in official else "development" if key in development else "public")
            for key, article in sorted(articles.items())
        ),
        name="pubmedqa",
    )


def _sample(key: str, article: dict[str, Any], split: str) -> Sample:
    question, contexts, answer = (article.get(name) for name in ("QUESTION", "CONTEXTS", "final_decision"))
    if not question or not contexts or answer not in ANSWERS:
        expected = "QUESTION, CONTEXTS and a final_decision of yes, no or maybe"
        raise FedkimError(f"PubMedQA entry {key}", found="an incomplete entry", expected=expected)
    return Sample(
        id=f"pubmedqa/{key}",
        patient=f"pubmedqa/{key}",
        site="pubmedqa",
        split=split,
        inputs={},
        labels={TASK: str(answer)},
        questions={TASK: "\n".join([*contexts, question])},
        strata={"source": "pubmedqa"},
    )


def _read(path: Path) -> dict[str, Any]:
    what = f"file {path}"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FedkimError(what, found="no such file", remedy="assemble the pack (docs/data/pack.md)") from None
    except (OSError, ValueError) as error:
        found = f"unreadable ({type(error).__name__})"
        raise FedkimError(what, found=found, remedy="copy the file again from its source") from None
    if not isinstance(content, dict) or not content:
        raise FedkimError(what, found="no table of articles", remedy="copy the file again from its source")
    return content
