"""Rounds of updates for the tests of the rules."""

import torch

from fedkim.state import State, Update

NAME = "encoder.image"
WEIGHT, BIAS = f"{NAME}.weight", f"{NAME}.bias"


def update(site, tensors, count=10):
    state = State(tensors)
    return Update(
        site=site, round=1, base_digest="", state=state, num_examples=dict.fromkeys(state.components(), count)
    )


def updates_of(rows, counts=None):
    """A site for each row of a matrix [S, D]: all but the last coordinate in a weight, the last in a bias."""
    counts = counts or [10] * len(rows)
    return [
        update(f"site-{index:02d}", {WEIGHT: row[:-1].clone(), BIAS: row[-1:].clone()}, count)
        for index, (row, count) in enumerate(zip(rows, counts))
    ]


def state_of(row):
    return State({WEIGHT: row[:-1].clone(), BIAS: row[-1:].clone()})


def row_of(state):
    return torch.cat([state[WEIGHT], state[BIAS]])


def aggregated(algorithm, rows, counts=None, *, before=None, order=None):
    """What an algorithm makes of a matrix of updates, as a row."""
    before = torch.zeros_like(rows[0]) if before is None else before
    updates = updates_of(rows, counts)
    updates = [updates[index] for index in order] if order else updates
    return row_of(algorithm.aggregate(state_of(before), updates, State())[0])
