"""Figures of constructed cells."""

import re

from test_claims import cell, scores

from fedkim.experiments.claims import decide
from fedkim.experiments.figures import claims, learning, rho
from fedkim.experiments.our_tables import rho_table


def injected(method, *, after):
    """A cell of ten rounds, whose injection begins after some of them."""
    one = cell(method, 10)
    one.record["train_info"]["rounds"] = [
        {"round": number, "sites": {}, "injection": {"loss": [1.0 / number]} if number > after else {}}
        for number in range(1, 11)
    ]
    return one


def test_a_learning_curve_stands_at_the_rounds_that_had_an_injection():
    late = injected("fedkim", after=8)
    assert late.injection_losses == {9: 1 / 9, 10: 1 / 10}
    drawn = str(learning(scores([late])))
    assert "FEDKIM: 0.111 at 9<" in drawn
    assert "FEDKIM: 0.100 at 10<" in drawn
    assert " at 1<" not in drawn


def test_a_figure_names_its_axis_and_every_line_by_itself():
    drawn = str(learning(scores([injected("fedkim", after=0), injected("fedplug", after=0)])))
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", drawn)
    assert {"FEDKIM", "FedPlug", "nats a token", "round"} <= set(texts)


def test_a_claim_that_is_far_off_leaves_room_for_the_others():
    cells = [cell("fedkim", seed, after=0.81) for seed in (10, 11)]  # the base model is 40 points below the majority
    drawn = str(claims(decide(scores(cells))))
    texts = re.findall(r"<text[^>]*>([^<]*)", drawn)
    assert [text for text in texts if text.endswith(" →")] == ["+40.0 →"]
    assert "2" in texts  # the scale is that of the near ones
    assert "20" not in texts


def test_a_claim_far_below_0_is_written_at_the_edge_too():
    fedplug = [cell("fedplug", seed, seen=0.95, unseen=0.95) for seed in (10, 11)]
    others = [
        cell(method, seed, seen=0.5 + seed / 1000, unseen=0.5)
        for seed in (10, 11)
        for method in ("fedkim", "fedplug-lora", "fedplug-lora-matched")
    ]
    drawn = str(claims(decide(scores(fedplug + others))))
    assert any(text.endswith(" ←") for text in re.findall(r"<text[^>]*>([^<]*)", drawn))
    assert all(0 <= float(x) <= 720 for x in re.findall(r'(?:cx|x1|x2)="([-\d.]+)"', drawn))


def test_a_curve_over_rho_is_of_the_seeds_that_all_of_its_points_have():
    cells = [cell("fedkim", seed, unseen=0.8 - seed / 1000, rho=1.0) for seed in (10, 11)]
    cells.append(cell("fedkim", 10, unseen=0.5, rho=0.0, variation="rho-0"))
    drawn = str(rho(scores(cells)))
    assert "FEDKIM, 1 of 2 seeds" in drawn
    assert "2 seeds: 79.000 at 1<" in drawn
    ((_, at_0, at_1), *_) = rho_table(scores(cells)).rows
    assert at_0.endswith("(seeds: 1)")
    assert "seeds" not in at_1
