"""Figures of constructed cells."""

from test_claims import cell, scores

from fedkim.experiments.figures import learning


def test_a_learning_curve_stands_at_the_rounds_that_had_an_injection():
    late = cell("fedkim", 10)
    late.record["train_info"]["rounds"] = [
        {"round": number, "sites": {}, "injection": {"loss": [1.0 / number]} if number > 8 else {}}
        for number in range(1, 11)
    ]
    assert late.injection_losses == {9: 1 / 9, 10: 1 / 10}
    drawn = str(learning(scores([late])))
    assert "FEDKIM: 0.111 at 9<" in drawn
    assert "FEDKIM: 0.100 at 10<" in drawn
    assert " at 1<" not in drawn
