"""A small run end to end gives the numbers it gave when they were written down; a change that means to move them writes anew.

``python tests/run/test_golden.py`` writes ``tests/fixtures/golden_run.json``.
"""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from fedkim.aggregation.clipping import distance
from fedkim.run import federate
from fedkim.run.world import build_world
from small_recipe import small

GOLDEN = Path(__file__).parents[1] / "fixtures" / "golden_run.json"


def numbers():
    """By round: each site's loss, the injection's losses, how far aggregation and injection moved each component."""
    recipe, told = small("federation.rounds=2"), []
    before = build_world(recipe).initial
    for finished in federate(recipe):
        told.append(
            {
                "sites": {one.site: one.metrics["loss"] for one in finished.contributions},
                "injection": list(finished.injection["loss"]),
                "aggregated": moved(before, finished.aggregated),
                "injected": moved(finished.aggregated, finished.state),
            }
        )
        before = finished.state
    return told


def moved(before, after):
    return {name: distance(before.slice([name]), after.slice([name])) for name in before.components()}


def test_a_small_run_gives_the_numbers_that_were_written_down():
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    for told, expected in zip(numbers(), golden, strict=True):
        assert told["sites"] == pytest.approx(expected["sites"], rel=1e-3)
        assert told["injection"] == pytest.approx(expected["injection"], rel=1e-3)
        assert told["aggregated"] == pytest.approx(expected["aggregated"], rel=1e-2)
        assert told["injected"] == pytest.approx(expected["injected"], rel=1e-2)


if __name__ == "__main__":
    rounded = json.loads(json.dumps(numbers()), parse_float=lambda text: float(f"{float(text):.6g}"))
    GOLDEN.write_text(json.dumps(rounded, indent=1) + "\n", encoding="utf-8")
