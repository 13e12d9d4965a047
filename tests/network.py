"""A federation on loopback for tests and benchmarks: real processes, TLS, keys, the commands that a hospital types."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fedkim.cli import main
from fedkim.engines.flower.processes import free_port
from fedkim.recipe import Recipe
from fedkim.run.world import build_world

FEDKIM = [sys.executable, "-m", "fedkim"]
_LITTLE = {"min_cohort": 1, "min_contributors_per_component": 1, "max_rounds": 100}


class Federation:
    """A manifest and a site.toml for each site of a recipe's own partition, in one folder."""

    def __init__(self, folder: Path, recipe: Recipe, *, network: str = "", policy: dict | None = None):
        self.folder, self.recipe = folder, recipe
        self.processes: dict[str, subprocess.Popen] = {}
        self.manifest = folder / "federation.toml"
        (folder / "recipe.toml").write_text(recipe.to_toml())
        self.port = free_port()
        self.world = build_world(recipe)
        tls = self.fedkim("coordinator", "keys", "federation.toml", "--host", "127.0.0.1", "--host", "localhost")
        self.manifest.write_text(
            f'[recipe]\nfile = "recipe.toml"\nout = "run"\n\n[network]\nport = {self.port}\n{network}\n{tls}'
        )
        for site in self.world.owned:
            self.add(site, policy or {})

    def add(self, site: str, policy: dict) -> None:
        key = self.folder / f"{site}.key"
        self.fedkim("site", "keys", "--out", key.name)
        modalities = sorted(m for m in self.components(site, "encoder"))
        tasks = sorted(self.components(site, "decoder"))
        words = [word for name in modalities for word in ("--modalities", name)]
        words += [word for name in tasks for word in ("--tasks", name)]
        words += ["--name", site, "--key", f"{site}.key.pub", "--max-examples", "10000"]
        self.fedkim("coordinator", "add-site", "federation.toml", *words)
        table = {
            "recipe": "recipe.toml",
            "recipe_digest": self.recipe.digest(),
            "tasks": tasks,
            "modalities": modalities,
            **_LITTLE,
            **policy,
        }
        lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in table.items())
        (self.folder / f"{site}.toml").write_text(
            f'[site]\nname = "{site}"\n\n[data]\nsource = "recipe"\nshard = "{site}"\n\n[policy]\n{lines}\n\n'
            f'[coordinator]\naddress = "127.0.0.1:{self.port}"\ncertificate = "tls/ca.crt"\nkey = "{site}.key"\n'
        )

    def components(self, site: str, kind: str) -> list[str]:
        names = (name.split(".", 1) for name in self.world.owned[site])
        return [name for first, name in names if first == kind]

    def fedkim(self, *words: str) -> str:
        """One command in this process; names of files are meant in the federation's folder."""
        paths = [str(self.folder / word) if Path(word).suffix in (".toml", ".key", ".pub") else word for word in words]
        told = io.StringIO()
        with contextlib.redirect_stdout(told):
            assert main(paths) == 0, words
        return told.getvalue()

    def launch(self, name: str, *words: str) -> subprocess.Popen:
        with open(self.folder / f"{name}.out", "ab") as out:
            process = subprocess.Popen(
                [*FEDKIM, *words], cwd=self.folder, stdout=out, stderr=subprocess.STDOUT, env={**os.environ}
            )
        self.processes[name] = process
        return process

    def start(self, *sites: str) -> subprocess.Popen:
        coordinator = self.launch("coordinator", "coordinator", "start", "federation.toml")
        for site in sites or self.world.owned:
            self.join(site)
        return coordinator

    def join(self, site: str) -> subprocess.Popen:
        return self.launch(site, "site", "join", f"{site}.toml")

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        process = self.processes.pop(name)
        process.send_signal(number)
        process.wait(30)

    def standing(self) -> dict:
        path = self.folder / "run-network" / "standing.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def events(self) -> list[dict]:
        path = self.folder / "run-network" / "network.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def wait_for(self, met: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not met():
            assert time.monotonic() < end, f"not in {seconds} s: {self.standing()}; {self.events()[-5:]}; {self.logs()}"
            time.sleep(0.2)

    def logs(self) -> str:
        return "\n".join(
            f"== {path.relative_to(self.folder)}\n{path.read_text(errors='replace')[-1500:]}"
            for path in [*self.folder.glob("*.out"), *self.folder.glob("*/*.log")]
        )

    def __enter__(self) -> "Federation":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
