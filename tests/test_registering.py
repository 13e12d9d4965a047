"""Flower's list of nodes against the manifest's, with Flower's own SuperLink."""

import json
import socket
import tomllib
from dataclasses import replace

import pytest

pytest.importorskip("flwr", reason="SKIPPED, NOT RUN: needs fedkim[flower]")

from fedkim.coordinator.federation_file import load_federation_file
from fedkim.coordinator.registering import register
from fedkim.coordinator.standing import read_standing
from fedkim.coordinator.starting import CONNECTION, _superlink, _write_connection, start
from fedkim.engines.flower.processes import Child, flower_environment, program, run_to_end, wait_for_port
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
        _write_connection(file, environment)

        def nodes():
            listing = [program("flwr"), "supernode", "list", CONNECTION, "--format", "json"]
            told = run_to_end(listing, environment, "listing")
            return {node["node-id"] for node in json.loads(told)["nodes"] if node["status"] != "unregistered"}

        yield file, environment, nodes
    finally:
        child.stop()


@pytest.mark.slow
def test_who_came_is_registered_once_who_left_no_more_and_a_removed_key_never_again(link):
    file, environment, nodes = link
    said = []
    register(file, environment, CONNECTION, said.append)
    both = nodes()
    assert len(both) == 2
    assert said == ["site-1 is registered", "site-2 is registered"]
    first, second = file.sites["site-1"], file.sites["site-2"]
    noted = replace(second, public_key=second.public_key + " of the ward upstairs")  # a comment is no other key
    register(replace(file, sites={"site-1": first, "upstairs": noted}), environment, CONNECTION, said.append)
    assert nodes() == both, "a name isn't a key either"
    left = replace(file, sites={"site-1": first})
    register(left, environment, CONNECTION, said.append)
    register(left, environment, CONNECTION, said.append)  # as after a start that died before it could tell
    assert len(nodes()) == 1
    assert nodes() < both
    assert said[2:] == ["1 keys that left the manifest are registered no more"]
    with pytest.raises(FedkimError, match=r"key of site-2, found one that was registered here before"):
        register(file, environment, CONNECTION, said.append)
    assert len(nodes()) == 1


def test_a_port_of_another_program_is_told_before_anything_starts(tmp_path):
    Federation(tmp_path, small("federation.sites=2"))
    file = load_federation_file(tmp_path / "federation.toml")
    with socket.socket() as other:
        other.bind(("127.0.0.1", file.network.port))
        other.listen()
        with pytest.raises(FedkimError, match=rf"port {file.network.port} of 127.0.0.1, found another program"):
            start(file, print)
    assert file.state.stat().st_mode & 0o777 == 0o700


def test_a_start_that_fails_early_says_so_and_lets_the_next_one_begin(tmp_path, monkeypatch):
    Federation(tmp_path, small("federation.sites=2"))
    file = load_federation_file(tmp_path / "federation.toml")

    def missing():
        raise FedkimError("Flower", found="not installed")

    monkeypatch.setattr("fedkim.coordinator.starting.require_flower", missing)
    for _ in range(2):  # the lock of the first isn't in the second one's way
        with pytest.raises(FedkimError, match="Flower, found not installed"):
            start(file, print)
        assert read_standing(file.state)["state"] == "failed"


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("0.0.0.0", "127.0.0.1:8000"),
        ("localhost", "127.0.0.1:8000"),
        ("::1", "[::1]:8000"),
        ("::", "[::1]:8000"),
        ("2001:db8::7", "[2001:db8::7]:8000"),
        ("fedkim.example.org", "fedkim.example.org:8000"),
    ],
)
def test_programs_of_the_coordinators_machine_speak_to_the_address_that_is_listened_on(host, address, tmp_path):
    Federation(tmp_path, small("federation.sites=2"))
    file = load_federation_file(tmp_path / "federation.toml")
    file.state.mkdir()
    file = replace(file, network=replace(file.network, host=host, port=8000))
    environment = flower_environment(file.state / "flower")
    _write_connection(file, environment)
    text = (file.state / "flower" / "config.toml").read_text()
    assert tomllib.loads(text)["superlink"][CONNECTION]["address"] == address
