"""Sentences that must read the same wherever they stand: reports, README, model cards, the shell."""

PRIVACY = "No differential privacy and no secure aggregation in this version: the coordinator sees each site's update."

NOT_A_DEVICE = "Research software. Not a medical device: no diagnosis, no treatment and no triage may rest on it."

SIMULATED = (
    "The hospitals were simulated: parts of one data set in one process on one machine, each trained on its part alone."
)

NETWORKED = (
    "The hospitals took part over a network: each trained in an installation of its own, on data that stayed there."
)

SYNTHETIC = (
    "Synthetic phantom data. Every image, signal and series here was drawn by a program from made-up factors. "
    "The scores show that the method works as built; they say nothing about patients."
)
