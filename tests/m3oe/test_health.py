"""Entropy, usage, collapse and nearest routes."""

import json
import math

import pytest
import torch

from fedkim.errors import FedkimError
from fedkim.m3oe import Route, balance_penalty, nearest_route, router_health, routes_record
from fedkim.m3oe.route import entropy, total_variation


def route(task: str, *weights: float) -> Route:
    return Route(task=task, modalities=("image",), weights=weights, router="abc")


def test_entropy_is_one_for_the_even_mixture_and_zero_for_one_expert():
    assert route("a", 0.25, 0.25, 0.25, 0.25).entropy == pytest.approx(1)
    assert route("a", 0.0, 1.0).entropy == pytest.approx(0)
    assert route("a", 0.5, 0.5, 0.0, 0.0).entropy == pytest.approx(math.log(2) / math.log(4))
    assert route("a", 1.0).entropy == 1
    assert route("a").entropy == 1  # no adapter, nothing to collapse


def test_total_variation_counts_the_share_of_weight_that_moved():
    assert float(total_variation(torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.5, 0.2, 0.3]))) == pytest.approx(0.3)


def test_a_routes_record_is_plain_json_with_its_entropy():
    first = route("effusion", 0.7, 0.3)
    expected = {"task": "effusion", "modalities": ["image"], "weights": [0.7, 0.3], "router": "abc"}
    assert json.loads(json.dumps(first.to_json())) == {**expected, "entropy": first.entropy}


def test_a_collapsed_route_is_named():
    health = router_health([route("effusion", 0.99, 0.005, 0.005), route("sepsis", 0.4, 0.3, 0.3)])
    assert len(health.warnings) == 1
    assert "effusion (image) has collapsed" in health.warnings[0]
    assert "expert 0 holds 99%" in health.warnings[0]
    assert (health.collapsed, health.indistinct) == (("effusion",), False)
    assert health.usage == pytest.approx((0.695, 0.1525, 0.1525))
    assert health.entropy["sepsis (image)"] > 0.9


def test_a_router_that_ignores_the_descriptions_is_told():
    health = router_health([route("effusion", 0.5, 0.3, 0.2), route("sepsis", 0.5, 0.3, 0.2)])
    assert health.mean_variation == 0
    assert health.indistinct
    assert "tells no task from another" in health.warnings[0]


@pytest.mark.parametrize("weights", [(1.0,), (1 / 3, 1 / 3, 1 / 3)])
def test_routes_that_no_router_chose_are_nothing_to_warn_about(weights):
    health = router_health([route("effusion", *weights), route("sepsis", *weights)])
    assert (health.warnings, health.indistinct, health.collapsed) == ((), False, ())


def test_the_record_of_a_run_judges_the_seen_and_places_the_unseen():
    seen = [route("opacity", 0.98, 0.01, 0.01), route("mortality", 0.1, 0.2, 0.7)]
    record = routes_record(seen, [route("effusion", 0.9, 0.05, 0.05)])
    assert json.loads(json.dumps(record)) == record
    assert list(record["tasks"]) == list(record["entropy"]) == ["opacity", "mortality", "effusion"]
    assert (record["experts"], record["router"], record["collapsed"]) == (3, "abc", ["opacity"])
    assert record["usage"] == pytest.approx([0.54, 0.105, 0.355])  # of the seen ones
    assert record["nearest"] == {"effusion": {"task": "opacity", "total_variation": pytest.approx(0.08)}}
    assert record["total_variation"] == pytest.approx((0.88 + 0.08 + 0.8) / 3)
    assert len(record["warnings"]) == 1


def test_different_mixed_routes_are_healthy():
    health = router_health([route("effusion", 0.5, 0.3, 0.2), route("sepsis", 0.2, 0.3, 0.5)])
    assert health.warnings == ()
    assert health.mean_variation == pytest.approx(0.3)


def test_the_nearest_seen_route_has_the_smallest_variation():
    seen = [route("opacity", 0.7, 0.2, 0.1), route("mortality", 0.1, 0.2, 0.7)]
    nearest, distance = nearest_route(route("effusion", 0.6, 0.3, 0.1), seen)
    assert nearest.task == "opacity"
    assert distance == pytest.approx(0.1)
    assert route("effusion", 0.6, 0.3, 0.1).distance(nearest) == pytest.approx(0.1)


def test_balance_penalty_is_zero_for_shared_work_and_pushes_towards_it():
    specialists = torch.eye(3)
    assert float(balance_penalty(specialists)) == pytest.approx(0, abs=1e-6)
    leaning = torch.tensor([[0.6, 0.4, 0.0], [0.8, 0.0, 0.2]])
    uniform = torch.full((3,), 1 / 3)
    divergence = torch.nn.functional.kl_div(uniform.log(), leaning.mean(0), reduction="sum")
    assert float(balance_penalty(leaning)) == pytest.approx(float(divergence), rel=1e-6)
    assert float(balance_penalty(leaning)) == pytest.approx(
        math.log(3) * (1 - float(entropy(leaning.mean(0)))), rel=1e-5
    )
    logits = torch.tensor([[2.0, 0.0, 0.0], [2.0, 0.0, 0.0]], requires_grad=True)
    penalty = balance_penalty(logits.softmax(-1))
    penalty.backward()
    assert penalty.item() > 0.1
    assert (logits.grad[:, 0] > 0).all()  # descending lowers the expert that has too much
    assert float(entropy(torch.tensor([1.0, 0.0]))) == pytest.approx(0, abs=1e-6)


def test_routes_of_different_sizes_are_not_compared():
    with pytest.raises(FedkimError, match=r"numbers of experts \[2, 3\]"):
        router_health([route("a", 0.5, 0.5), route("b", 0.3, 0.3, 0.4)])
    with pytest.raises(FedkimError, match="no seen route"):
        nearest_route(route("a", 0.5, 0.5), [])
