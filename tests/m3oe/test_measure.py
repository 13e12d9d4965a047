"""The benchmarks' arithmetic: paired ratios, verdicts, kept bytes."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

_path = Path(__file__).parents[2] / "benchmarks" / "measure.py"
_spec = importlib.util.spec_from_file_location("benchmarks_measure", _path)
measure = importlib.util.module_from_spec(_spec)
sys.modules["benchmarks_measure"] = measure
_spec.loader.exec_module(measure)


@pytest.mark.parametrize(
    ("above", "target", "at_least", "verdict"),
    [
        ([1.0, 1.01, 1.02] * 5, 1.05, False, "meets"),
        ([1.0, 1.05, 1.2] * 5, 1.05, False, "within noise"),
        ([1.1, 1.15, 1.2] * 5, 1.05, False, "falls short"),
        ([2.0, 2.1, 2.2] * 5, 1.5, True, "meets"),
        ([1.4, 1.5, 2.2] * 5, 1.5, True, "within noise"),
        ([1.1, 1.2, 1.3] * 5, 1.5, True, "falls short"),
    ],
)
def test_a_verdict_reads_on_which_side_of_the_target_the_quartiles_lie(above, target, at_least, verdict):
    figure = measure.ratio("x", above, [1.0] * 15, target=target, at_least=at_least)
    assert figure.verdict == verdict
    assert figure.low <= figure.median <= figure.high


def test_ratios_are_paired_so_that_a_slow_minute_cancels():
    slow = [1.0] * 8 + [10.0] * 8
    figure = measure.ratio("x", [2 * second for second in slow], slow, target=2.5)
    assert (figure.low, figure.median, figure.high) == (2, 2, 2)
    assert figure.verdict == "meets"


def test_counted_figures_meet_or_fall_short():
    assert measure.exact("x", 60, target=50, at_least=True).verdict == "meets"
    assert measure.exact("x", 40, target=50, at_least=True).verdict == "falls short"
    assert measure.exact("x", 1.0).verdict == ""


def test_the_summary_repeats_every_target_with_its_verdict_and_counts_them(capsys):
    report = measure.Report(measure.Settings())
    report.add(
        measure.exact("cheap", 1.0, target=1.05),
        measure.exact("dear", 2.0, target=1.05),
        measure.exact("as it is", 3.0),
        measure.ratio("noisy", [1.0, 1.05, 1.2] * 5, [1.0] * 15, target=1.05),
    )
    capsys.readouterr()
    report.summary()
    *lines, counts = capsys.readouterr().out.strip().splitlines()
    assert [line.split()[0] for line in lines] == ["targets", "cheap", "dear", "noisy"]
    verdicts = ("meets", "falls short", "within noise")
    assert all(verdict in line for verdict, line in zip(verdicts, lines[1:], strict=True))
    assert counts == "1 of 3 meet their target, 1 of 3 within noise, 1 of 3 fall short"


def test_few_pairs_are_told():
    assert "only 3 pairs" in measure.ratio("x", [1.0] * 3, [1.0] * 3, target=1.05).line()


def test_variants_take_turns_and_warm_up():
    order: list[str] = []
    seconds = measure.take_turns(
        {name: (lambda name=name: order.append(name)) for name in "ab"}, device="cpu", rounds=2, warm_up=1
    )
    assert order == ["a", "b", "a", "b", "b", "a"]
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}


def test_kept_bytes_count_each_activation_once_and_no_parameter():
    x = torch.randn(5, 8, requires_grad=True)
    weight = torch.randn(8, 4, requires_grad=True)

    def run() -> torch.Tensor:
        hidden = (x @ weight).relu()  # relu keeps its output [5, 4]; the product keeps x and the weight
        return hidden * hidden.detach()

    assert measure.kept_bytes(run, [x, weight]) == 5 * 4 * 4
