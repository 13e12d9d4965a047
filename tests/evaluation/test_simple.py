import numpy as np
import torch

from fedkim.data.sample import Sample
from fedkim.evaluation.simple import simple, statistics
from fedkim.tasks import Task

BRIGHT = Task(name="bright", question="Bright?", description="Bright or dark.", modalities=("image",))
STAY = Task(name="stay", question="Ill?", description="Ill or well.", modalities=("vitals", "outputs"))


def picture(number: int, label: str, level: float) -> Sample:
    pixels = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(number)) + level
    return Sample(
        id=f"p{number}", patient=f"p{number}", split="private", inputs={"image": pixels}, labels={"bright": label}
    )


def test_a_difference_of_the_mean_level_is_found():
    train = [picture(i, "Yes" if i % 2 else "No", float(i % 2)) for i in range(40)]
    held_out = [picture(100 + i, "Yes" if i % 2 else "No", float(i % 2)) for i in range(20)]
    table = simple(BRIGHT, train, held_out)
    np.testing.assert_allclose(table.sum(1), 1)
    assert ((table[:, 1] > 0.5) == [i % 2 == 1 for i in range(20)]).all()


def test_what_is_only_in_the_arrangement_is_not_found():
    """Left half against right half: every global statistic is the same in distribution."""

    def half(number: int) -> Sample:
        sample = picture(number, "Yes" if number % 2 else "No", 0.0)
        sample.inputs["image"][..., :8] += 1.0 if number % 2 else 0.0
        sample.inputs["image"][..., 8:] += 0.0 if number % 2 else 1.0
        return sample

    table = simple(BRIGHT, [half(i) for i in range(200)], [half(1000 + i) for i in range(200)])
    correct = (table[:, 1] > 0.5) == [i % 2 == 1 for i in range(200)]
    assert 0.35 < correct.mean() < 0.65


def test_training_samples_with_one_answer_give_no_row():
    assert simple(BRIGHT, [picture(i, "No", 0.0) for i in range(5)], [picture(9, "No", 0.0)]) is None


def test_nobody_to_score_gives_an_empty_table():
    train = [picture(i, "Yes" if i % 2 else "No", float(i % 2)) for i in range(10)]
    assert simple(BRIGHT, train, []).shape == (0, 2)


def test_a_series_gives_the_mean_of_each_column_in_the_order_of_the_modalities():
    vitals, outputs = torch.arange(12.0).view(3, 4), torch.ones(3, 2)
    sample = Sample(id="s", patient="s", split="test", inputs={"outputs": outputs, "vitals": vitals}, labels={})
    assert statistics(STAY, sample).tolist() == [4.0, 5.0, 6.0, 7.0, 1.0, 1.0]
