from collections import Counter
from dataclasses import replace

import pytest

from fedkim.data.sample import Dataset
from fedkim.injection.batches import plan_round, steps_in_pass, with_every_input
from toy_server import BOTH, BRIGHT, FAST, patients

PUBLIC = patients(20)
TASKS = {"bright": BRIGHT, "fast": FAST, "dark": replace(BRIGHT, name="dark"), "both": BOTH}
POOLS = {"bright": PUBLIC.samples, "dark": PUBLIC.samples, "fast": PUBLIC.samples[:7], "both": PUBLIC.samples}


def plan(pools=POOLS, **changes):
    settings = {"round": 1, "steps": 6, "batch_size": 8, "micro_batch": 4, "balanced": False, "seed": 0}
    return plan_round(pools, TASKS, **(settings | changes))


def rows(steps):
    return [row for step in steps for batch in step for row in zip(batch.tasks, batch.samples)]


def names(steps):
    return [[(batch.tasks, batch.number, [s.id for s in batch.samples]) for batch in step] for step in steps]


def drawn(task, **changes):
    return [sample.id for name, sample in rows(plan(**changes)) if name == task]


@pytest.fixture
def labelled():
    """As POOLS, but with a label for every task."""
    every = dict.fromkeys(TASKS, "Yes"), dict.fromkeys(TASKS, "No")
    return {name: [replace(s, labels=every[i % 2]) for i, s in enumerate(pool)] for name, pool in POOLS.items()}


@pytest.mark.parametrize("balanced", [False, True])
def test_the_plan_is_a_pure_function_of_seed_and_round(balanced, labelled):
    def ids(**changes):
        return names(plan(labelled, balanced=balanced, **changes))

    assert ids() == ids()
    assert len({str(ids(**changes)) for changes in ({}, {"seed": 1}, {"round": 2})}) == 3


def test_a_longer_round_begins_like_a_shorter_one():
    assert names(plan(steps=9))[:6] == names(plan(steps=6))


@pytest.mark.parametrize(("batch_size", "micro_batch"), [(8, 4), (8, 8), (7, 3), (2, 16)])
def test_every_step_holds_the_batch_in_micro_batches_that_fit(batch_size, micro_batch):
    for step in plan(batch_size=batch_size, micro_batch=micro_batch):
        sizes = [len(batch.samples) for batch in step]
        assert sum(sizes) == batch_size
        assert max(sizes) <= micro_batch
        assert all(len(batch.tasks) == len(batch.samples) for batch in step)


@pytest.mark.parametrize("micro_batch", [1, 3, 8])
def test_every_task_has_its_equal_share_of_the_rows(micro_batch):
    counts = Counter(task for task, _ in rows(plan(steps=60, micro_batch=micro_batch)))
    assert counts == {task: pytest.approx(120, abs=2 * micro_batch) for task in POOLS}


@pytest.mark.parametrize(("batch_size", "micro_batch"), [(16, 12), (8, 3), (16, 6)])
def test_a_last_micro_batch_that_is_smaller_starves_no_modality(batch_size, micro_batch):
    three = {name: POOLS[name] for name in ("bright", "fast", "both")}  # three sets of modalities with a task each
    for pools in (three, {name: three[name] for name in ("bright", "fast")}):
        steps = plan(pools, steps=60, batch_size=batch_size, micro_batch=micro_batch)
        counts = Counter(task for task, _ in rows(steps))
        assert max(counts.values()) - min(counts.values()) <= 2 * micro_batch


def test_questions_about_the_same_inputs_stand_side_by_side_and_others_never_do():
    for step in plan(steps=12):
        for batch in step:
            assert len({TASKS[task].modalities for task in batch.tasks}) == 1
            if {"bright", "dark"} & set(batch.tasks):
                assert Counter(batch.tasks) == {"bright": 2, "dark": 2}


def test_micro_batches_are_numbered_through_the_round():
    numbers = [batch.number for step in plan() for batch in step]
    assert numbers == list(range(12))


def test_no_sample_comes_again_before_all_of_its_task_have_come():
    fast = drawn("fast", steps=30)
    assert len(fast) > 14
    for start in range(0, len(fast) - 7, 7):
        assert len(set(fast[start : start + 7])) == 7


def test_balanced_batches_alternate_the_answers_of_a_rare_finding():
    rare = [replace(s, labels={"bright": "Yes" if i < 2 else "No"}) for i, s in enumerate(PUBLIC)]
    steps = plan({"bright": rare}, steps=5, batch_size=4, micro_batch=4, balanced=True)
    for step in steps:
        assert Counter(s.labels["bright"] for s in step[0].samples) == {"Yes": 2, "No": 2}
    healthy = [s.id for step in steps for s in step[0].samples if s.labels["bright"] == "No"]
    assert len(set(healthy)) == len(healthy) == 10


def test_a_sample_is_usable_only_with_every_input_and_an_answer():
    first, second, third = PUBLIC.samples[:3]
    data = Dataset(
        [first, replace(second, inputs={"image": second.inputs["image"]}), replace(third, labels={"bright": "No"})]
    )
    assert [s.id for s in with_every_input(data, BOTH)] == [first.id]
    assert [s.id for s in with_every_input(data, BRIGHT)] == [first.id, second.id, third.id]
    assert [s.id for s in with_every_input(data, BOTH, labelled=False)] == [first.id, third.id]


def test_a_pass_covers_the_public_samples_that_serve_a_task_once():
    assert [steps_in_pass({"bright": PUBLIC.samples[:n]}, 8) for n in (0, 8, 9, 20)] == [1, 1, 2, 3]
    assert steps_in_pass({"bright": PUBLIC.samples[:9], "dark": PUBLIC.samples[4:9]}, 8) == 2
    assert steps_in_pass({"bright": PUBLIC.samples[:9], "dark": PUBLIC.samples[9:17]}, 8) == 3
