import threading

import pytest

from fedkim.parallel import ordered_map


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_results_come_in_the_order_of_the_items(count, workers):
    assert list(ordered_map(lambda item: item * item, range(count), workers)) == [item**2 for item in range(count)]


def test_a_slow_item_is_not_overtaken():
    second_done = threading.Event()

    def work(item):
        if item == 0:
            assert second_done.wait(timeout=60)
        else:
            second_done.set()
        return item

    assert list(ordered_map(work, range(2), workers=2)) == [0, 1]


def test_no_more_items_are_begun_than_somebody_will_soon_take():
    begun = []
    results = ordered_map(str, (begun.append(item) or item for item in range(100)), workers=2)
    for taken in range(1, 98):
        assert next(results) == str(taken - 1)
        assert len(begun) == taken + 2


def test_an_exception_comes_in_its_turn_and_ends_the_work():
    begun = []

    def work(item):
        begun.append(item)
        if item == 3:
            raise ValueError(item)
        return item

    results = ordered_map(work, range(100), workers=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="3"):
        next(results)
    assert max(begun) <= 5
    assert list(results) == []


def test_whoever_stops_early_leaves_nothing_running():
    begun = []
    results = ordered_map(begun.append, range(100), workers=2)
    next(results)
    results.close()
    assert len(begun) <= 3
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fedkim")]
