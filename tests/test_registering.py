"""Flower's list of nodes against the manifest's, with Flower's own SuperLink."""

import json
from dataclasses import replace

import pytest

pytest.importorskip("flwr", reason="SKIPPED, NOT RUN: needs fedkim[flower]")

from fedkim.coordinator.federation_file import load_federation_file
from fedkim.coordinator.registering import flwr, register
from fedkim.coordinator.starting import CONNECTION, _superlink, _write_connection
from fedkim.engines.flower.processes import Child, flower_environment, wait_for_port
from fedkim.errors import FedkimError
from network import Federation
from small_recipe import small


@pytest.fixture
def link(tmp_path):
    """``(file, environment, nodes)``: a manifest of two sites, a SuperLink that listens, and the nodes that it would serve."""
    Federation(tmp_path, small("federation.sites=2"))
    file = load_federation_file(tmp_path / "federation.toml")
    file.state.mkdir()
    environment = flower_environment(file.state / "flower")
    child = Child("SuperLink", _superlink(file), file.state / "superlink.log", environment)
    child.start()
    try:
        wait_for_port("127.0.0.1", file.network.port, child, 60)
        _write_connection(file, environment, "127.0.0.1")

        def nodes():
            told = flwr(["supernode", "list", CONNECTION, "--format", "json"], environment, "listing")
            return {node["node-id"] for node in json.loads(told)["nodes"] if node["status"] != "unregistered"}

        yield file, environment, nodes
    finally:
        child.stop()


def noted(file):
    return json.loads((file.state / "registered.json").read_text())


@pytest.mark.slow
def test_who_came_is_registered_once_who_left_no_more_and_a_removed_key_never_again(link):
    file, environment, nodes = link
    said = []
    register(file, environment, CONNECTION, said.append)
    first = noted(file)
    assert nodes() == {note["node"] for note in first.values()}
    register(file, environment, CONNECTION, said.append)
    assert noted(file) == first, "nothing to do"

    # the process died between Flower's answer and the note
    (file.state / "registered.json").write_text(json.dumps(first | {"site-2": {**first["site-2"], "node": ""}}))
    register(file, environment, CONNECTION, said.append)
    assert noted(file) == first
    assert said == ["site-1 is registered", "site-2 is registered"]

    # it died before Flower was asked
    left = replace(file, sites={"site-1": file.sites["site-1"]})
    register(left, environment, CONNECTION, said.append)
    assert set(noted(file)) == {"site-1"}
    assert nodes() == {first["site-1"]["node"]}
    (file.state / "registered.json").write_text(
        json.dumps(noted(file) | {"site-3": {"public_key": file.sites["site-2"].public_key, "node": ""}})
    )
    register(left, environment, CONNECTION, said.append)
    assert set(noted(file)) == {"site-1"}
    assert said[2:] == ["site-2 is registered no more"]

    with pytest.raises(FedkimError, match=r"registered here before, and removed.*new key"):
        register(file, environment, CONNECTION, said.append)
    assert set(noted(file)) == {"site-1"}
