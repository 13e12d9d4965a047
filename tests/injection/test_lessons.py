import pytest
import torch

from fedkim.errors import FedkimError
from fedkim.injection.lessons import Lessons, _within_tasks
from fedkim.randomness import generator_for
from fedkim.run import federate
from fedkim.run.server import load_language_model, make_injector, make_trainer
from fedkim.run.world import build_world
from small_recipe import small


@pytest.fixture(scope="module")
def parts():
    recipe = small("federation.rounds=1", "injection.mixup=always")
    world = build_world(recipe)
    injector = make_injector(world, load_language_model(recipe))
    return world, injector, make_trainer(world, injector)


def rows(trainer, count=3):
    tasks, samples = [], []
    for name, pool in trainer.pools.items():
        tasks += [name] * count
        samples += pool[:count]
    return tasks, samples


def test_partners_are_a_permutation_within_each_task():
    tasks = ["a", "b", "a", "b", "a", "c"]
    partner = _within_tasks(tasks, [5, 4, 3, 2, 1, 0]).tolist()
    assert sorted(partner) == list(range(6))
    assert all(tasks[row] == tasks[other] for row, other in enumerate(partner))
    assert partner[5] == 5
    assert all(partner[row] != row for row in range(5))


def test_mixed_labels_carry_the_shares_of_the_mixed_features(parts):
    _, injector, trainer = parts
    task = "lung_opacity"
    samples = trainer.pools[task][:6]
    lessons = Lessons(injector, trainer.pools, None, mixup="always")
    features = {"image": torch.tensor([float(s.labels[task] == "Yes") for s in samples])[:, None, None].expand(6, 2, 3)}
    mixed, targets = lessons.give([task] * 6, features, generator_for(0, "test"), samples)
    yes = torch.stack(targets)[:, 1]
    assert torch.allclose(mixed["image"][:, 0, 0], yes)  # features that are the label itself mix as the label does
    assert torch.allclose(torch.stack(targets).sum(1), torch.ones(6))


def test_without_mixup_a_row_keeps_its_features_and_a_teacher_its_answer(parts):
    _, injector, trainer = parts
    task = "lung_opacity"
    samples = trainer.pools[task][:4]

    def teacher(name, features):
        said = torch.stack([torch.zeros(len(features["image"])), features["image"][:, 0, 0]], dim=1)
        return said.log_softmax(-1)

    lessons = Lessons(injector, {task: trainer.pools[task]}, teacher, mixup="never")
    features = {"image": torch.arange(4.0)[:, None, None].expand(4, 2, 3)}
    kept, targets = lessons.give([task] * 4, features, generator_for(0, "test"), samples)
    assert torch.equal(kept["image"], features["image"])
    expected = (teacher(task, features) - lessons.centres[task]).softmax(-1)
    assert torch.allclose(torch.stack(targets), expected)
    assert (torch.stack(targets)[:, 1].diff() > 0).all()


def test_the_public_mean_is_over_every_tasks_inputs_and_counts_each_once(parts):
    _, injector, trainer = parts

    def teacher(name, features):
        return torch.zeros(len(features["image"]), 2).log_softmax(-1)

    def mean(**pools):
        return Lessons(injector, pools, teacher, mixup="rotated").means["image",]["image"]

    whole = trainer.unlabelled["lung_opacity"]
    alone = mean(lung_opacity=whole)
    assert torch.equal(mean(lung_opacity=whole, pleural_effusion=whole), alone)  # bit for bit
    first, last = whole[:5], whole[3:]
    for pools in ({"lung_opacity": first, "pleural_effusion": last}, {"pleural_effusion": last, "lung_opacity": first}):
        assert torch.allclose(mean(**pools), alone, atol=1e-6)
    assert not torch.allclose(mean(lung_opacity=first), alone, atol=1e-6)


@pytest.mark.parametrize(("how", "variance"), [("taught", 2 / 3), ("rotated", 1.0)])
def test_rotated_mix_ups_vary_as_much_as_inputs_and_those_along_lines_less(parts, how, variance):
    _, injector, trainer = parts

    def teacher(name, features):
        return torch.zeros(len(features["image"]), 2).log_softmax(-1)

    lessons = Lessons(injector, {"lung_opacity": trainer.pools["lung_opacity"]}, teacher, mixup=how)
    lessons.means = {("image",): {"image": torch.full((1, 2, 3), 5.0)}}
    random = torch.Generator().manual_seed(0)
    features = {"image": 5 + torch.randn(20_000, 2, 3, generator=random)}
    mixed, _ = lessons.give(["lung_opacity"] * 20_000, features, random)
    assert mixed["image"].var().item() == pytest.approx(variance, abs=0.03)
    assert mixed["image"].mean().item() == pytest.approx(5.0, abs=0.03)
    if how == "rotated":  # in a small batch too, where a row could have been its own partner
        rows = [
            lessons.give(["lung_opacity"] * 4, {"image": features["image"][i : i + 4]}, random)[0]["image"]
            for i in range(0, 8000, 4)
        ]
        assert torch.cat(rows).var().item() == pytest.approx(1.0, abs=0.04)
        alone, _ = lessons.give(["lung_opacity"], {"image": features["image"][:1]}, random)
        assert torch.equal(alone["image"], features["image"][:1])


def test_mix_ups_of_labels_are_not_rotated():
    with pytest.raises(FedkimError, match="rotated"):
        small("injection.mixup=rotated")


def test_each_ingredient_changes_the_weights_and_none_by_default():
    def digest(*overrides):
        return next(done.injection["loss"] for done in federate(small("federation.rounds=1", *overrides)))

    taught = ("injection.teacher=decoder", "injection.train_encoders=false")
    plain = digest()
    assert digest("injection.mixup=never") == plain
    assert digest("injection.unlabelled=false") == plain
    assert digest("injection.mixup=always") != plain
    usual = digest(*taught)
    assert digest(*taught, "injection.mixup=always") == usual
    assert digest(*taught, "injection.mixup=never") != usual
    assert digest(*taught, "injection.mixup=rotated") != usual
    assert digest("injection.evidence=decoder") != plain
