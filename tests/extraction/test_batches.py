from collections import Counter
from itertools import chain, islice

import pytest
import torch

from fedkim.data.sample import Sample
from fedkim.errors import FedkimError
from fedkim.extraction.batches import MOST_REPEATS, Batch, shared_batches


def draw(answers, steps, *, balanced=False, batch_size=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return list(islice(shared_batches(answers, batch_size=batch_size, balanced=balanced, generator=generator), steps))


def flat(batches):
    return list(chain.from_iterable(batches))


ALTERNATING = {number: "Yes" if number % 4 == 0 else "No" for number in range(12)}


def test_an_epoch_sees_every_sample_once_and_in_a_new_order_each_time():
    batches = draw({"a": ALTERNATING}, 6)
    first, second = flat(batches[:3]), flat(batches[3:])
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second


def test_tasks_that_label_the_same_samples_share_a_batch_of_the_plain_size():
    batches = draw({"a": ALTERNATING, "b": dict.fromkeys(range(12), "No")}, 3)
    assert [len(batch) for batch in batches] == [4, 4, 4]
    assert sorted(flat(batches)) == list(range(12))


def test_tasks_with_nothing_in_common_each_get_a_full_batch():
    batches = draw({"a": ALTERNATING, "b": dict.fromkeys(range(100, 130), "No")}, 3)
    for batch in batches:
        assert len(batch) == 8
        assert sum(number < 100 for number in batch) == 4
    assert sorted(number for batch in batches for number in batch if number < 100) == list(range(12))


def test_a_partly_labelled_task_still_meets_its_samples_in_every_batch():
    batches = draw({"a": dict.fromkeys(range(100), "No"), "rare": {3: "No", 50: "Yes"}}, 20)
    assert all(len(batch) == 8 for batch in batches)
    assert all({3, 50} & set(batch) for batch in batches)


def test_balanced_batches_hold_the_answers_equally_often():
    uneven = {number: "Yes" if number < 10 else "No" for number in range(60)}
    for batch in draw({"a": uneven}, 10, balanced=True, batch_size=8):
        assert Counter(uneven[number] for number in batch) == {"Yes": 4, "No": 4}
    drawn = Counter(flat(draw({"a": uneven}, 50, balanced=True, batch_size=8)))
    positives = [drawn[number] for number in range(10)]
    assert max(positives) - min(positives) <= 1  # each is drawn in turn, none is favoured


def test_a_lone_positive_is_drawn_oftener_but_not_for_half_of_every_batch():
    rare = {number: "Yes" if number == 0 else "No" for number in range(100)}
    drawn = Counter(flat(draw({"a": rare}, 250, balanced=True, batch_size=8)))
    natural = 2000 / 100
    assert MOST_REPEATS * natural <= drawn[0] <= 2.1 * MOST_REPEATS * natural


def test_batches_depend_on_the_generator_alone():
    assert draw({"a": ALTERNATING}, 5, seed=3) == draw({"a": ALTERNATING}, 5, seed=3)
    assert draw({"a": ALTERNATING}, 5, seed=3) != draw({"a": ALTERNATING}, 5, seed=4)


def test_inputs_of_two_shapes_are_refused():
    samples = [
        Sample(id=str(size), patient="p", split="private", inputs={"image": torch.zeros(1, size, size)}, labels={})
        for size in (32, 64)
    ]
    with pytest.raises(FedkimError, match=r"'image', found shapes \(1, 32, 32\) and \(1, 64, 64\)"):
        Batch.of(samples, ("image",))
