"""The gate before Flower's SuperLink: who reaches which of its interfaces, by Flower's own app and in its own process."""

import asyncio
import ssl

import pytest

pytest.importorskip("flwr", reason="SKIPPED, NOT RUN: needs fedkim[flower]")

import httpx
from fastapi.routing import APIRoute, iter_route_contexts
from flwr.superlink.main import create_app

from fedkim.coordinator.federation_file import load_federation_file
from fedkim.coordinator.starting import _superlink
from fedkim.coordinator.superlink import FLEET, Gate
from fedkim.engines.flower.processes import Child, flower_environment, wait_for_port
from network import Federation
from small_recipe import small

HERE, ELSEWHERE = "10.0.0.5", "203.0.113.9"
PROTOBUF = {"content-type": "application/protobuf"}


@pytest.fixture(scope="module")
def app():
    """Flower's own, which asks sites for their keys."""
    made = create_app()
    made.state.enable_supernode_auth = True
    return made


def status(app, path, *, method="POST", caller=ELSEWHERE):
    async def call():
        transport = httpx.ASGITransport(
            app=app, client=(caller, 50_000) if caller else None, raise_app_exceptions=False
        )
        async with httpx.AsyncClient(transport=transport, base_url=f"https://{HERE}:8000") as client:
            return (await client.request(method, path, headers=PROTOBUF)).status_code

    return asyncio.run(call())


def routes(app):
    found = [context.route for context in iter_route_contexts(app.routes)]
    return [(next(iter(route.methods)), route.path) for route in found if isinstance(route, APIRoute)]


def test_callers_from_elsewhere_reach_the_fleet_interface_alone(app):
    everything = routes(app)
    paths = {path for _, path in everything}
    assert {"/v1/control/start-run", "/v1/runtime/acquire-task", "/v1/fleet/pull-messages", "/health"} <= paths
    for method, path in [*everything, ("GET", "/docs"), ("GET", "/openapi.json"), ("POST", "/v1/fleet")]:
        expected = 401 if path.startswith(FLEET) else 403
        assert status(Gate(app), path, method=method) == expected, path
    assert status(Gate(app), "/v1/fleet%2f..%2fcontrol/list-nodes") == 404  # behind the gate no path is tidied up


def test_without_the_gate_flower_asks_nobody_for_anything(app):
    assert status(app, "/v1/control/list-nodes") == 200


@pytest.mark.parametrize(
    ("caller", "expected"),
    [("127.0.0.1", 200), ("::1", 200), (HERE, 200), ("10.0.0.6", 403), ("not an address", 403), (None, 403)],
)
def test_the_coordinators_machine_reaches_everything(app, caller, expected):
    assert status(Gate(app), "/v1/control/list-nodes", caller=caller) == expected


def test_the_superlink_that_a_coordinator_starts_has_the_gate(tmp_path, monkeypatch):
    """It believes a proxy on its own machine about who calls, so one machine is enough to call from elsewhere."""
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "192.0.2.1")
    Federation(tmp_path, small("federation.sites=2"))
    file = load_federation_file(tmp_path / "federation.toml")
    file.state.mkdir()
    child = Child(
        "SuperLink", _superlink(file), file.state / "superlink.log", flower_environment(file.state / "flower")
    )
    child.start()
    try:
        wait_for_port("127.0.0.1", file.network.port, child, 60)
        trust = ssl.create_default_context(cafile=str(tmp_path / "tls" / "ca.crt"))
        with httpx.Client(base_url=f"https://127.0.0.1:{file.network.port}", verify=trust, headers=PROTOBUF) as client:
            elsewhere = {"x-forwarded-for": ELSEWHERE}
            assert client.post("/v1/control/list-nodes").status_code == 200
            assert client.post("/v1/control/list-nodes", headers=elsewhere).status_code == 403
            assert client.post("/v1/fleet/pull-messages", headers=elsewhere).status_code == 401
    finally:
        child.stop()
