"""The smoke recipe made smaller still: two seen and two unseen tasks, a round in a quarter of a second."""

from pathlib import Path

from fedkim.recipe import Recipe, load

SMOKE = Path(__file__).parents[1] / "recipes" / "smoke.toml"
_SMALLER = (
    "data.image_patients=60",
    "data.signal_patients=60",
    "data.icu_patients=0",
    'tasks.seen=["lung_opacity","ecg_abnormal"]',
    'tasks.unseen=["pleural_effusion","ecg_qa"]',
    "federation.rounds=4",
    "extraction.width=16",
    "injection.steps_per_round=2",
    "injection.batch_size=4",
    "run.workers=1",
    "run.dtype=float32",
    "run.device=cpu",
)


def small(*overrides: str) -> Recipe:
    """The recipe with ``table.key=value`` overrides."""
    return load(SMOKE, *_SMALLER, *overrides)
