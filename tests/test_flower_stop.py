"""Ending a federation on purpose, and going on."""

import pytest

pytest.importorskip("flwr", reason="SKIPPED, NOT RUN: needs fedkim[flower]")

from fedkim.run import run_recipe
from network import Federation
from small_recipe import small


@pytest.mark.slow
def test_a_stopped_federation_says_so_and_the_same_start_resumes_to_the_same_bits(tmp_path):
    recipe = small("federation.sites=2", "federation.rounds=3", "evaluation.blind=false")
    alone = run_recipe(recipe, out=tmp_path / "in-process")["train_info"]["digest"]
    with Federation(tmp_path, recipe) as federation:
        coordinator = federation.start()
        rounds = tmp_path / "run" / "rounds"
        federation.wait_for(lambda: (rounds / "round-0001.json").exists(), 240)
        assert "asked process" in federation.fedkim("stop", "federation.toml")
        federation.wait_for(lambda: coordinator.poll() is not None, 30)
        assert coordinator.returncode == 143
        assert federation.standing()["state"] == "stopped"
        assert "stopped (flower): round" in federation.fedkim("status", "federation.toml")
        assert all(federation.processes[site].poll() is None for site in recipe_sites(federation)), "sites wait for it"
        again = federation.launch("coordinator", "coordinator", "start", "federation.toml")
        federation.wait_for(lambda: again.poll() is not None, 240)
        assert again.returncode == 0, federation.logs()
        assert federation.standing()["digest"] == alone


def recipe_sites(federation):
    return list(federation.world.owned)
