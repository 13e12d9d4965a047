"""The app that Flower distributes: two imports of the fedkim that is installed where they run, and no code of a run."""

from pathlib import Path

_PROJECT = """\
[project]
name = "fedkim-federation"
version = "1.0.0"
description = "Imports the locally installed fedkim"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "fedkim"

[tool.flwr.app.components]
serverapp = "fedkim_federation.server:app"
clientapp = "fedkim_federation.client:app"

[tool.flwr.app.config]
"""

_FILES = {
    "pyproject.toml": _PROJECT,
    "fedkim_federation/__init__.py": "",
    "fedkim_federation/server.py": "from fedkim.coordinator import server_app\n\napp = server_app.app\n",
    "fedkim_federation/client.py": "from fedkim.engines.flower import client_app\n\napp = client_app.app\n",
}


def write_app(folder: Path) -> Path:
    """Write the app; always the same bytes."""
    for name, text in _FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder
