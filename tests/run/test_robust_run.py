"""Robust rules from a recipe: a whole round, what the log says, and what is refused before it."""

import pytest

from fedkim.errors import FedkimError
from fedkim.run import federate
from fedkim.run.world import build_world
from fedkim.store.events import Events
from small_recipe import small

ONE_TASK = (
    'tasks.seen=["covid"]',
    'tasks.unseen=["pleural_effusion"]',
    "data.signal_patients=0",
    "federation.rounds=1",
)


def test_a_run_with_a_rule_and_the_penalty_differs_from_one_without_either(tmp_path):
    digests = {}
    for name, settings in {"fedavg": [], "median": [], "fedprox-median": ["federation.proximal_mu=1.0"]}.items():
        recipe = small(
            *ONE_TASK,
            "federation.sites=3",
            f"federation.algorithm={name}",
            *settings,
            "extraction.local_epochs=3",
        )
        (finished,) = federate(recipe, out=tmp_path / name)
        digests[name] = finished.aggregated.digest()
        told = [entry["event"] for entry in Events(tmp_path / name / "events.jsonl")]
        assert "short_of_sites" not in told
    assert len(set(digests.values())) == 3


def test_a_component_with_too_few_sites_is_named_in_the_log(tmp_path):
    recipe = small(*ONE_TASK, "federation.sites=2", "federation.algorithm=median", "federation.too_few=mean")
    list(federate(recipe, out=tmp_path / "run"))
    told = [entry for entry in Events(tmp_path / "run" / "events.jsonl") if entry["event"] == "short_of_sites"]
    assert {entry["component"] for entry in told} == {"encoder.image", "decoder.covid"}
    assert {(entry["round"], entry["sites"], entry["reason"]) for entry in told} == {(1, 2, "mean")}


@pytest.mark.parametrize(
    "overrides",
    [
        ("federation.sites=2", "federation.algorithm=median"),
        ("federation.sites=6", "federation.algorithm=krum", "federation.participation=0.5"),
        ("federation.trainers=centralised", "federation.algorithm=median"),
    ],
)
def test_what_could_never_be_aggregated_as_promised_is_refused_before_the_first_round(overrides):
    with pytest.raises(FedkimError, match=r"in a round, expected at least \d for algorithm"):
        build_world(small(*ONE_TASK, *overrides))
