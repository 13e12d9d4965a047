from collections import Counter
from dataclasses import replace

import pytest

from fedkim.data.sample import Dataset
from fedkim.injection.batches import plan_round, steps_in_pass, usable
from toy_server import BOTH, BRIGHT, patients

PUBLIC = patients(20)
POOLS = {"bright": PUBLIC.samples, "fast": PUBLIC.samples[:7], "both": PUBLIC.samples}


def plan(**changes):
    settings = {"round": 1, "steps": 6, "batch_size": 8, "micro_batch": 4, "balanced": False, "seed": 0}
    return plan_round(POOLS, **(settings | changes))


def names(steps):
    return [[(batch.task, batch.number, [s.id for s in batch.samples]) for batch in step] for step in steps]


def drawn(task, **changes):
    return [s.id for step in plan(**changes) for batch in step if batch.task == task for s in batch.samples]


@pytest.mark.parametrize("balanced", [False, True])
def test_the_plan_is_a_pure_function_of_seed_and_round(balanced):
    assert names(plan(balanced=balanced)) == names(plan(balanced=balanced))
    for task in POOLS:
        draws = [drawn(task, balanced=balanced, **c)[:12] for c in ({}, {"seed": 1}, {"round": 2})]
        assert draws[0] != draws[1]
        assert draws[0] != draws[2]


def test_a_longer_round_begins_like_a_shorter_one():
    assert names(plan(steps=9))[:6] == names(plan(steps=6))


@pytest.mark.parametrize(("batch_size", "micro_batch"), [(8, 4), (8, 8), (7, 3), (2, 16)])
def test_every_step_holds_the_batch_in_micro_batches_that_fit(batch_size, micro_batch):
    for step in plan(batch_size=batch_size, micro_batch=micro_batch):
        sizes = [len(batch.samples) for batch in step]
        assert sum(sizes) == batch_size
        assert max(sizes) <= micro_batch


def test_tasks_take_equal_turns_also_where_a_step_has_room_for_fewer():
    turns = Counter(batch.task for step in plan(steps=9, micro_batch=8) for batch in step)
    assert turns == {"bright": 3, "fast": 3, "both": 3}


def test_micro_batches_are_numbered_through_the_round():
    numbers = [batch.number for step in plan() for batch in step]
    assert numbers == list(range(12))


def test_no_sample_comes_again_before_all_of_its_task_have_come():
    drawn = [s.id for step in plan(steps=30) for batch in step if batch.task == "fast" for s in batch.samples]
    assert len(drawn) > 14
    for start in range(0, len(drawn) - 7, 7):
        assert len(set(drawn[start : start + 7])) == 7


def test_balanced_batches_alternate_the_answers_of_a_rare_finding():
    rare = [replace(s, labels={"bright": "Yes" if i < 2 else "No"}) for i, s in enumerate(PUBLIC)]
    steps = plan_round({"bright": rare}, round=1, steps=5, batch_size=4, micro_batch=4, balanced=True, seed=0)
    for step in steps:
        assert Counter(s.labels["bright"] for s in step[0].samples) == {"Yes": 2, "No": 2}
    healthy = [s.id for step in steps for s in step[0].samples if s.labels["bright"] == "No"]
    assert len(set(healthy)) == len(healthy) == 10


def test_a_sample_is_usable_only_with_every_input_and_an_answer():
    first, second, third = PUBLIC.samples[:3]
    data = Dataset(
        [first, replace(second, inputs={"image": second.inputs["image"]}), replace(third, labels={"bright": "No"})]
    )
    assert [s.id for s in usable(data, BOTH)] == [first.id]
    assert [s.id for s in usable(data, BRIGHT)] == [first.id, second.id, third.id]
    assert [s.id for s in usable(data, BOTH, labelled=False)] == [first.id, third.id]


def test_a_pass_covers_the_public_set_once():
    assert [steps_in_pass(Dataset(PUBLIC.samples[:n]), 8) for n in (0, 8, 9, 20)] == [1, 1, 2, 3]
