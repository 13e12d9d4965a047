"""The registry of splits over all data sets of a run at once: who is in which, by which rule, told in a form to publish.

*Public sets* are dealt by :func:`fedkim.data.splits.assign_splits`, balanced over tasks and answers; the rule, the seed and
the counts are all that anyone needs to have the same split, so that is what is published: no list of patients.

*A hospital's own patients* are dealt by a keyed hash instead (HMAC-SHA256 under a secret made at the site, readable by its
owner alone): nobody else can compute or check who is in the test, and a patient's split doesn't depend on who else is
there, so it stays when patients are added. Neither the key nor the hashes ever leave the site.
"""

import hmac
import os
import secrets
import stat
import tempfile
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedkim.data.leaks import Twins, persons
from fedkim.data.record import Record
from fedkim.data.sample import SPLITS
from fedkim.data.splits import PATTERN, UNSEEN_PATTERN, assign_splits
from fedkim.errors import FedkimError

BALANCED = "balanced by tasks and answers, dealt 7:1:1:1; 1:4 to development and test where all labels are unseen"
KEYED = "by keyed hash of the patient, 7:1:1:1 in expectation; 1:4 where all labels are unseen"


@dataclass(frozen=True, kw_only=True)
class Registry:
    """Every patient's split, and what may be told about it."""

    rule: str
    seed: int
    splits: Mapping[str, str]
    """By patient."""
    merged: int
    """Patients who turned out to be another one under a second name."""
    patients: Mapping[str, Mapping[str, int]]
    """Task → split → number of patients."""

    def published(self) -> dict[str, Any]:
        """Rule, seed and counts: enough to have the same split again from the same data, and nothing about anyone."""
        return {
            "rule": self.rule,
            "seed": self.seed,
            "patients": {split: sum(s == split for s in self.splits.values()) for split in SPLITS},
            "patients_by_task": {task: dict(counts) for task, counts in sorted(self.patients.items())},
            "patients_merged": self.merged,
        }


def register(
    records: Sequence[Record],
    *,
    seed: int,
    unseen_tasks: Collection[str] = (),
    same: Iterable[Twins] = (),
    secret: bytes | None = None,
) -> Registry:
    """Deal the patients of all records.

    Patients that share a content are one person and land in one split, whatever their sets call them.

    Args:
        records: every record of every set, with a label of some task each.
        seed: of the run; the keyed rule has its secret instead.
        unseen_tasks: held out.
        same: from :func:`fedkim.data.leaks.twins`.
        secret: from :func:`site_secret`; absent: the balanced rule.

    Raises:
        FedkimError: a record without a label.
    """
    links = [(records[pair.first].patient, records[pair.second].patient) for pair in same]
    person = persons(dict.fromkeys(record.patient for record in records), links)
    tasks: dict[str, set[str]] = defaultdict(set)
    answers: dict[str, set[str]] = defaultdict(set)
    for record in records:
        who = person[record.patient]
        tasks[who] |= set(record.labels)
        closed = {t: a for t, a in record.labels.items() if t not in record.questions and t not in unseen_tasks}
        answers[who] |= {f"{record.data_set} {task}={answer}" for task, answer in closed.items()}
    if secret is None:
        strata = {who: ",".join(sorted(given)) for who, given in answers.items()}
        dealt = assign_splits(tasks, seed=seed, unseen_tasks=unseen_tasks, strata=strata)
    else:
        unseen = frozenset(unseen_tasks)
        dealt = {who: _by_key(who, unseen >= own, secret) for who, own in tasks.items()}
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for who, own in tasks.items():
        for task in own:
            counts[task][dealt[who]] += 1
    return Registry(
        rule=BALANCED if secret is None else KEYED,
        seed=seed if secret is None else 0,
        splits={patient: dealt[who] for patient, who in person.items()},
        merged=len(person) - len(tasks),
        patients={task: {split: count[split] for split in SPLITS} for task, count in counts.items()},
    )


def _by_key(patient: str, only_unseen: bool, secret: bytes) -> str:
    pattern = UNSEEN_PATTERN if only_unseen else PATTERN
    return pattern[int.from_bytes(keyed(secret, "split", patient)[:8], "big") % len(pattern)]


def keyed(secret: bytes, purpose: str, patient: str) -> bytes:
    """HMAC-SHA256 of a patient's id for one purpose: whoever lacks the key can't tell whose it is."""
    return hmac.digest(secret, f"{purpose}\x1f{patient}".encode(), "sha256")


def site_secret(path: Path) -> bytes:
    """The site's key: 32 random bytes, made at the first call in a file that its owner alone can read.

    Raises:
        FedkimError: the file is readable by others, isn't a key, or can't be made.
    """
    what = f"key of the pseudonyms {path}"
    if not path.exists():
        _make_secret(path, what)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            content = file.read(100)
    except OSError as error:
        found = f"unreadable ({type(error).__name__})"
        raise FedkimError(what, found=found, expected="a file of your own", remedy="fix its permissions") from None
    if not stat.S_ISREG(mode) or stat.S_IMODE(mode) & 0o077:
        raise FedkimError(what, found=f"mode {stat.S_IMODE(mode):04o}", expected="0600", remedy=f"chmod 600 {path}")
    try:
        key = bytes.fromhex(content.decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != 32:
        remedy = "restore it from your backup: with a new key patients change their splits"
        raise FedkimError(what, found="something else", expected="64 hexadecimal digits", remedy=remedy)
    return key


def _make_secret(path: Path, what: str) -> None:
    """Written under another name and linked, so that of two processes one makes it and both read the same."""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".key-")  # made with mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(32) + "\n")
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            os.unlink(temporary)
    except OSError as error:
        remedy = "choose a folder you can write"
        raise FedkimError(what, found=f"can't be made ({type(error).__name__})", remedy=remedy) from None
