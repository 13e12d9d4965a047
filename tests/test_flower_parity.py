"""The same bits over a network: coordinator and sites as processes, TLS, node authentication, against one process."""

import json

import pytest

from fedkim.run import run_recipe
from network import Federation
from small_recipe import small

pytest.importorskip("flwr", reason="SKIPPED, NOT RUN: needs fedkim[flower]")


@pytest.mark.slow
@pytest.mark.parametrize("sites", [3, 5])
def test_flower_digest_parity(sites, tmp_path):
    """Three rounds with missing modalities end in the same weights; what left stands in each site's audit log."""
    recipe = small(
        f"federation.sites={sites}",
        "federation.rounds=3",
        "federation.partition=missing-modality",
        "evaluation.blind=false",
    )
    alone = run_recipe(recipe, out=tmp_path / "in-process")
    with Federation(tmp_path, recipe) as federation:
        assert len({tuple(owned) for owned in federation.world.owned.values()}) > 1, "no modality is missing"
        coordinator = federation.start()
        federation.wait_for(lambda: coordinator.poll() is not None, 900)
        assert coordinator.returncode == 0, federation.logs()
        standing, events = federation.standing(), federation.events()
        assert standing["state"] == "finished"
        assert standing["digest"] == alone["train_info"]["digest"]
        status = json.loads(federation.fedkim("status", "federation.toml", "--json"))
        for site in federation.world.owned:
            replies = [event for event in events if event["event"] == "reply" and event["site"] == site]
            assert [event["round"] for event in replies] == [1, 2, 3]
            assert "whole: 3 lines" in federation.fedkim(
                "site", "audit", "verify", f"{site}.toml", "--head", replies[-1]["digest"]
            )
            assert status["sites"][site]["received"] == sum(event["received"] for event in replies)
