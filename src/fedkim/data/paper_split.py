"""The split of the published code, to compare with its numbers; and how much of its test it has already shown.

By *row* of a table, not by patient: rows are shuffled and cut into 70 % for the sites, 10 % for development ("valid"), 10 % for
the server and 10 % for the test. A film with three boxes is three rows of RSNA's table, an ECG with forty questions forty rows, so
the same film or ECG lies on both sides. Unseen tasks:

- closed ones are asked of whatever has a label, of ectopic beats the first 1,000 with and without, among them ECGs that sites train on;
- questions (VQA-RAD, ECG-QA) have their published splits pooled and cut by row, of which 10 % are asked; SLAKE's are 1,000 rows of
  its test in all languages.

The shuffle is ours (the published code's random state isn't reproduced): the rule is the same, the rows are not.
Source: the preprocessing scripts of FEDMEKI (arXiv 2408.09227).
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from fedkim.data.leaks import Twins, persons
from fedkim.data.record import Record
from fedkim.randomness import numpy_generator_for

NAME = "by row, 7:1:1:1, as in the published code"
AT_MOST = {"ectopic_beats": 1000, "slake": 1000}
"""Rows asked of a task at most: of each answer where answers are closed."""
FROM_TEST = ("slake",)
"""Tasks whose questions come from the published test alone."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A record's place: the same record may have several, and in several splits."""

    record: int
    """Position."""
    split: str
    tasks: frozenset[str]
    """Whose labels count in this place."""
    copy: int = 0
    """Of records with several rows in the published table: which one."""


def place_by_row(records: Sequence[Record], *, seen: Collection[str], seed: int) -> list[Row]:
    """The rows of all records.

    A record that stood in several rows of the published table says so by ``strata["rows"]``.
    """
    rows = []
    for kind, members in _tables(records, seen).items():
        copies = [(position, copy) for position in members for copy in range(_rows(records[position]))]
        order = numpy_generator_for(seed, "paper split", *kind).permutation(len(copies)).tolist()
        for place, index in enumerate(order):
            position, copy = copies[index]
            tasks = frozenset(records[position].labels) & set(seen)
            rows.append(Row(record=position, split=_cut(place, len(order)), tasks=tasks, copy=copy))
    asked: Counter[tuple[str, str]] = Counter()
    for position, record in enumerate(records):
        for task in sorted(set(record.labels) - set(seen)):
            kind = (task, "" if task in record.questions else record.labels[task])
            if task in record.questions and task not in FROM_TEST:
                drawn = numpy_generator_for(seed, "paper questions", task, record.id).random()
                split = "test" if drawn < 0.1 else "development" if drawn < 0.2 else ""
            else:
                split = "" if task in FROM_TEST and record.published_split != "test" else "test"
            if split == "test":
                asked[kind] += 1
                split = split if asked[kind] <= AT_MOST.get(task, len(records)) else ""
            if split:
                rows.append(Row(record=position, split=split, tasks=frozenset({task})))
    return sorted(rows, key=lambda row: (row.record, row.copy, sorted(row.tasks)))


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """Of one task's test rows: how many show someone whom another split shows too."""

    task: str
    rows: int
    patients_shown: int
    """Rows of a patient (by id or by content) that sites, server or development also have."""
    contents_shown: int
    """Rows of the very same film or wave."""

    def __str__(self) -> str:
        share = [100 * number / self.rows for number in (self.patients_shown, self.contents_shown)]
        return (
            f"{self.task}: of {self.rows} test rows {share[0]:.1f} % are of patients, and {share[1]:.1f} % of the very "
            "inputs, that sites, server or development have too"
        )


def exposure(records: Sequence[Record], rows: Iterable[Row], same: Iterable[Twins]) -> list[Exposure]:
    """What the test shows again, by task, measured on the data at hand."""
    pairs = list(same)
    links = [(records[pair.first].patient, records[pair.second].patient) for pair in pairs]
    person = persons([record.patient for record in records], links)
    contents = [str(sorted(str(given.path) + repr(dict(given.settings)) for given in r.inputs)) for r in records]
    content = persons(contents, [(contents[pair.first], contents[pair.second]) for pair in pairs])
    placed = list(rows)
    shown_patients = {person[records[row.record].patient] for row in placed if row.split != "test"}
    shown_contents = {content[contents[row.record]] for row in placed if row.split != "test"}
    tests: dict[str, list[Row]] = defaultdict(list)
    for row in placed:
        for task in row.tasks if row.split == "test" else ():
            tests[task].append(row)
    return [
        Exposure(
            task=task,
            rows=len(asked),
            patients_shown=sum(person[records[row.record].patient] in shown_patients for row in asked),
            contents_shown=sum(content[contents[row.record]] in shown_contents for row in asked),
        )
        for task, asked in sorted(tests.items())
    ]


def _tables(records: Sequence[Record], seen: Collection[str]) -> dict[tuple[str, str], list[int]]:
    """The rows that were shuffled together: one table for each set and its seen tasks."""
    tables: dict[tuple[str, str], list[int]] = defaultdict(list)
    for position, record in enumerate(records):
        tasks = ",".join(sorted(set(record.labels) & set(seen)))
        if tasks:
            tables[record.id.partition("/")[0], tasks].append(position)
    return tables


def _cut(place: int, number: int) -> str:
    for share, split in ((0.7, "private"), (0.8, "development"), (0.9, "public")):
        if place < round(share * number):
            return split
    return "test"


def _rows(record: Record) -> int:
    return int(record.strata.get("rows", "1"))
