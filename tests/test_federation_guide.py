"""The guide's own commands and files, typed into a shell in the guide's order, by a coordinator and two hospitals."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="SKIPPED, NOT RUN: needs fedkim[flower]")

from fedkim.engines.flower.processes import free_port
from network import Federation
from small_recipe import small

GUIDE = (Path(__file__).parents[1] / "docs" / "federation.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


@pytest.mark.slow
def test_a_hospital_joins_by_the_guides_commands(tmp_path):
    """Everything in the guide runs as it is written; the second hospital replaces the first one's name by its own."""
    port, recipe = free_port(), small("federation.sites=2", "federation.rounds=1", "evaluation.blind=false")
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    site, manifest = (text.replace("8000", str(port)) for text in blocks("toml"))
    commands = [line for block in blocks("shell") for line in block.splitlines()]
    federation = object.__new__(Federation)
    federation.folder, federation.processes = tmp_path, {}

    def run(line: str) -> str:
        words = [sys.executable, "-m", *line.split()]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        return done.stdout

    def command(start: str) -> str:
        (line,) = (line for line in commands if line.startswith(f"fedkim {start}"))
        return line

    tls = run(command("coordinator keys"))
    assert tls.strip() in manifest
    (tmp_path / "federation.toml").write_text(manifest)
    digest = run(command("site approve")).splitlines()[-1].split('"')[1]
    with federation:
        for name in ("site-1", "site-2"):
            (tmp_path / f"{name}.toml").write_text(site.replace("RECIPE_DIGEST", digest).replace("site-1", name))
            assert run(command("site keys").replace("site-1", name)).startswith("ecdsa-sha2-nistp384")
            run(command(f"coordinator add-site federation.toml --name {name}"))
        rehearsal = run(command("site dry-run"))
        assert "encoder.image" in rehearsal
        assert "nothing was sent (synthetic data)" in rehearsal
        assert "would refuse" not in rehearsal
        coordinator = federation.launch("coordinator", *command("coordinator start").split()[1:])
        for name in ("site-1", "site-2"):
            federation.launch(name, *command("site join").replace("site-1", name).split()[1:])
        federation.wait_for(lambda: coordinator.poll() is not None, 900)
        assert coordinator.returncode == 0, federation.logs()
    assert "finished (flower): round 1 of 1 committed" in run(command("status"))
    head = json.loads(run(command("status") + " --json"))["sites"]["site-1"]["audit"]
    assert "whole: 1 lines, 1 replies with" in run(command("site audit").replace("HEAD", head))
    assert "stop federation.toml" in command("stop")
