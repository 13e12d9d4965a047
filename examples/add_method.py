"""A method of your own in a matrix: FEDKIM with twice as many experts of half the rank, chosen for and compared like the others."""

from fedkim.experiments.methods import METHODS, Method

METHODS["fedkim-many"] = Method(
    name="fedkim-many",
    title="FEDKIM, 24 experts of rank 4",
    settings=("m3oe.experts=24", "m3oe.rank=4"),
    ours=True,
    chooses=True,  # False: it takes the settings that were chosen for FEDKIM
)
