"""Results of a hospital's run, scored from predictions as a run scores them."""

from dataclasses import replace

import numpy as np

from fedkim.evaluation.predictions import Predictions
from fedkim.evaluation.scoring import score_rows


def answered(patients, truth, *, groups=(), within=None, task="covid"):
    """Predictions of one sample a patient's name, better than chance."""
    random = np.random.default_rng(0)
    yes = np.clip(0.4 * np.array([word == "Yes" for word in truth]) + random.uniform(0.1, 0.5, len(truth)), 0, 1)
    return Predictions(
        task=task,
        split="test",
        samples=tuple(f"{patient}/{n}" for n, patient in enumerate(patients)),
        patients=tuple(patients),
        truth=tuple(truth),
        answers=("No", "Yes"),
        probabilities=np.stack([1 - yes, yes], axis=1),
        sites=("ward",) * len(truth),
        groups=tuple(groups),
        within=within,
    )


def entry_of(row, **changes):
    return {**score_rows({"injected": row, "base": replace(row)}, seen=True, draws=20), **changes}


def many(task="covid"):
    """Twenty patients with No, fifteen with Yes."""
    return entry_of(answered([f"p{n}" for n in range(35)], ["No"] * 20 + ["Yes"] * 15, task=task), task=task)


def run_of(**metrics):
    """A whole result of a hospital with two wards, one of three patients."""
    curve = dict.fromkeys(("covid", "mortality", "never scored"), 1 / 3)
    route = {"experts": 2, "tasks": {"covid": [0.25, 0.75]}, "nearest": {}, "warnings": []}
    site = {"loss": 0.123456, "seconds": 7.5, "bytes_sent": 9, "bytes_received": 9, "digest": "ab",
            "num_examples": {"encoder.image": 7}}  # fmt: skip
    return {
        "run_info": {"recipe": "mine", "seed": 0, "environment": {"torch": "2"}},
        "train_info": {
            "digest": "cd",
            "rounds": [
                {
                    "round": 1,
                    "sites": {"ward-a": dict(site), "ward-b": dict(site)},
                    "rejected": {"ward-c": "E-COUNT 7 examples of encoder.image, 5 registered"},
                    "injection": {"loss": [0.111111, 0.222222], "tasks": dict(curve), "entropy": 0.91, "routes": dict(route), "seconds": 3.0},
                    "development": dict(curve),
                    "development_small": {"covid": None, "mortality": 0.987654},
                    "seconds": 9.0,
                }
            ],
        },
        "metrics": metrics or {"covid": many(), "mortality": entry_of(answered(["p"] * 30, ["No", "Yes"] * 15))},
        "routes": route,
        "meta_info": {
            "synthetic": False,
            "data": "Saint Elsewhere",
            "sites": {
                "ward-a": {"patients": 40, "samples": 50, "components": ["encoder.image"]},
                "ward-b": {"patients": 3, "samples": 12, "components": ["encoder.image"]},
            },
            "statistics": {"ward-a": {"patients": 40, "tasks": {}, "modalities": {}, "features": {}}},
        },
    }  # fmt: skip
