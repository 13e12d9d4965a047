"""Our rules beside Flower's own strategies on honest updates: an implementation by other hands."""

import pytest
import torch
from benchmarks.attacks import Reply, flower_aggregate
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rounds_of_updates import NAME, aggregated, row_of, updates_of

from fedkim.aggregation import ROBUST, fedavg

strategies = pytest.importorskip("flwr.serverapp.strategy", reason="SKIPPED, NOT RUN: needs the extra 'flower'")

PAIRS = {
    "FedAvg": (lambda n: fedavg(), lambda n: strategies.FedAvg()),
    "FedMedian": (lambda n: ROBUST["median"](), lambda n: strategies.FedMedian()),
    "FedTrimmedAvg": (lambda n: ROBUST["trimmed-mean"](trim_share=0.2), lambda n: strategies.FedTrimmedAvg(beta=0.2)),
    "Krum": (lambda n: ROBUST["krum"](byzantine=1), lambda n: strategies.Krum(num_malicious_nodes=1)),
    "MultiKrum": (
        lambda n: ROBUST["multi-krum"](byzantine=1, selected=n - 3),
        lambda n: strategies.MultiKrum(num_malicious_nodes=1, num_nodes_to_select=n - 3),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**31), sites=st.integers(5, 12), size=st.integers(2, 60), spread=st.sampled_from([0.01, 1.0])
)
def test_the_same_comes_out_as_of_flowers_strategy(name, seed, sites, size, spread):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(size, generator=generator) + spread * torch.randn(sites, size, generator=generator)
    # Flower's multi-Krum weighs the selected by their counts, ours doesn't: a count is a claim
    counts = [20] * sites if name == "MultiKrum" else torch.randint(5, 50, (sites,), generator=generator).tolist()
    if "Krum" in name:  # Flower takes ‖x‖² + ‖y‖² − 2x·y in float32, where close sites' distances cancel
        assume(margin(rows, 1 if name == "Krum" else sites - 3) > 2e-2)
    ours, theirs = (make(sites) for make in PAIRS[name])
    flowers = row_of(flower_aggregate(theirs, [Reply(update, NAME) for update in updates_of(rows, counts)]))
    torch.testing.assert_close(aggregated(ours, rows, counts), flowers, atol=1e-6, rtol=1e-6)


def margin(rows, number):
    """How far the scores of the last one believed and the first one not lie apart, in shares of the latter; one liar of n."""
    rows = rows.double()
    distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").square().sort(dim=1).values
    scores = distances[:, 1 : len(rows) - 2].sum(dim=1).sort().values
    return float((scores[number] - scores[number - 1]) / scores[number])
