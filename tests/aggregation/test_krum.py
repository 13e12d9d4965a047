import torch
from rounds_of_updates import aggregated

from fedkim.aggregation.krum import closest, krum, multi_krum, squared_distances


def drawn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def split(rows):
    return [{"a.w": row[:7].reshape(7, 1), "a.b": row[7:]} for row in rows]


def test_distances_are_those_of_the_plain_formula():
    rows, before = drawn(1, 6, 200_000), drawn(2, 200_000)
    expected = (rows[:, None].double() - rows[None].double()).square().sum(-1)
    found = squared_distances(split([before])[0], split(rows))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-9)


def test_small_distances_far_from_zero_and_beside_a_huge_liar_are_kept():
    before = torch.full((50,), 1000.0)
    rows = before + 1e-3 * torch.arange(6.0)[:, None]
    rows[5] = 1e30
    found = squared_distances(split([before])[0], split(rows))
    expected = (rows[:, None].double() - rows[None].double()).square().sum(-1)
    torch.testing.assert_close(found[:5, :5], expected[:5, :5], rtol=1e-6, atol=0)


def test_krum_gives_one_sites_weights_unchanged_and_the_most_central_one():
    rows = torch.tensor([0.0, 1.0, 1.1, 1.2, 2.0, 50.0])[:, None].repeat(1, 4)
    # squared distances to the three nearest, a coordinate: 1.05 for the second, 0.83 for the third, 0.69 for the fourth
    assert aggregated(krum(), rows).tolist() == rows[3].tolist()


def test_scores_are_sums_over_the_nearest_neighbours():
    rows = torch.tensor([0.0, 1.0, 2.0, 4.0, 8.0])[:, None].repeat(1, 8)
    # f = 1, two neighbours; over 8 coordinates: 1+4, 1+1, 1+4, 4+9, 16+36
    assert closest(split([torch.zeros(8)])[0], split(rows), byzantine=1, number=5) == [1, 0, 2, 3, 4]


def test_multi_krum_averages_the_selected_and_never_so_many_that_a_liar_could_be_among_them():
    rows = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 90.0])[:, None].repeat(1, 4)
    three = rows[1:4].mean(0)
    for selected in (0, 3, 6):  # n − f − 2 = 3
        torch.testing.assert_close(aggregated(multi_krum(selected=selected), rows), three)
    assert torch.equal(aggregated(multi_krum(selected=1), rows), aggregated(krum(), rows))
