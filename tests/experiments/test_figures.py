"""Figures of constructed cells."""

import re

from test_claims import cell, scores

from fedkim.experiments.claims import decide
from fedkim.experiments.figures import claims, learning


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
