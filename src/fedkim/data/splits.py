"""Splits: one rule for all tasks that says in which split a patient is.

7 : 1 : 1 : 1 private : public : development : test, by patient, over all tasks at once and before anything is
duplicated (one row a box, an image, a question). A patient whose only labels are of unseen tasks serves nothing but
the evaluation: development : test 1 : 4.
"""

from collections.abc import Collection, Iterable, Mapping

from fedkim.data.sample import SPLITS, Sample
from fedkim.errors import FedkimError
from fedkim.randomness import seed_for

PATTERN = (
    "private",
    "private",
    "test",
    "private",
    "private",
    "public",
    "private",
    "private",
    "development",
    "private",
)
"""7 : 1 : 1 : 1, spread out, so that any run of neighbours has nearly these shares."""
UNSEEN_PATTERN = ("test", "test", "development", "test", "test")


def assign_splits(
    patients: Mapping[str, Collection[str]],
    *,
    seed: int,
    unseen_tasks: Collection[str] = (),
    strata: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The split of every patient: a pure function of its arguments, whatever their order.

    Patients are lined up by stratum (the tasks they have labels of, then ``strata``), inside a stratum by a seeded
    hash, and dealt along the line; so every stratum has the shares of the whole, to within one patient.

    Args:
        patients: the tasks each patient has a label of; every patient of every data source at once.
        seed: the run's seed.
        unseen_tasks: held out: their labels are used in development and test only.
        strata: more to balance by, such as the answers of a patient.

    Raises:
        FedkimError: a patient without any label.
    """
    unseen = frozenset(unseen_tasks)
    bare = sum(not tasks for tasks in patients.values())
    if bare:
        raise FedkimError(f"{bare} patients without a label", expected="a label of some task", remedy="leave them out")
    strata = strata or {}

    def place(patient: str) -> tuple[str, str, int, str]:
        tasks = ",".join(sorted(patients[patient]))
        return tasks, strata.get(patient, ""), seed_for(seed, "split", patient), patient

    splits: dict[str, str] = {}
    for only_unseen, pattern in ((False, PATTERN), (True, UNSEEN_PATTERN)):
        group = [patient for patient, tasks in patients.items() if (unseen >= set(tasks)) is only_unseen]
        start = seed_for(seed, "split start", int(only_unseen))
        for position, patient in enumerate(sorted(group, key=place)):
            splits[patient] = pattern[(start + position) % len(pattern)]
    return {patient: splits[patient] for patient in patients}


def check_disjoint(samples: Iterable[Sample]) -> None:
    """Refuse samples of one patient in two splits, and splits that don't exist.

    Raises:
        FedkimError: names a sample, never the patient.
    """
    first: dict[str, Sample] = {}
    for sample in samples:
        if sample.split not in SPLITS:
            raise FedkimError(f"sample {sample.id}: split", found=repr(sample.split), expected=" or ".join(SPLITS))
        other = first.setdefault(sample.patient, sample)
        if other.split != sample.split:
            raise FedkimError(
                f"one patient in two splits: samples {other.id} and {sample.id}",
                found=f"{other.split} and {sample.split}",
                expected="one split a patient",
                remedy="split by patient (fedkim.data.splits.assign_splits)",
            )
