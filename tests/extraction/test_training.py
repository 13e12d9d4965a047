import math
from dataclasses import replace

import pytest
import torch
from hospital_for_tests import BRIGHT, COLOUR, FAST, LEFT, SETTINGS, SICK, TASKS, hospital
from torch.nn import functional

from fedkim.aggregation import fedprox
from fedkim.data.sample import Dataset
from fedkim.errors import FedkimError
from fedkim.extraction import Extractor, predict_proba, train_site
from fedkim.extraction.batches import Batch
from fedkim.extraction.extractor import dropout
from fedkim.extraction.training import evenly_moving
from fedkim.parallel import ordered_map
from fedkim.state import State

DATA = hospital(12)


def start(tasks=TASKS, settings=SETTINGS, shapes=None) -> State:
    return Extractor(tasks=tasks, shapes=shapes or DATA.shapes(), settings=settings, seed=1).state()


def train(dataset=DATA, *, site="a", round=1, state=None, tasks=TASKS, settings=SETTINGS, penalty=None, seed=5):
    state = start(tasks, settings) if state is None else state
    return train_site(
        site=site,
        round=round,
        dataset=dataset,
        state=state,
        tasks=tasks,
        settings=settings,
        penalty=penalty,
        seed=seed,
    )


def test_an_update_says_what_it_started_from_what_it_learned_and_from_how_many():
    state = start()
    update = train(state=state)
    assert (update.site, update.round, update.base_digest) == ("a", 1, state.digest())
    assert list(update.state) == list(state)
    assert all(not torch.equal(update.state[key], state[key]) for key in state if key.endswith("weight"))
    assert update.num_examples == dict.fromkeys(state.components(), 12)
    assert {"loss", "loss.bright", "loss.left", "loss.fast", "loss.sick", "seconds"} <= set(update.metrics)
    losses = [update.metrics[f"loss.{task.name}"] for task in TASKS]
    assert update.metrics["loss"] == pytest.approx(sum(losses) / 4)


def test_dropout_is_at_work_in_training_alone():
    assert train().state.digest() != train(settings=replace(SETTINGS, dropout=0.5)).state.digest()
    bright = DATA.labelled("bright")
    models = [
        Extractor(tasks=TASKS, shapes=DATA.shapes(), settings=settings).load(start())
        for settings in (SETTINGS, replace(SETTINGS, dropout=0.5))
    ]
    assert (predict_proba(models[0], bright, BRIGHT) == predict_proba(models[1], bright, BRIGHT)).all()


def test_dropout_leaves_out_its_share_and_keeps_the_mean():
    ones = torch.ones(200, 200)
    thinned = dropout(0.3, torch.Generator().manual_seed(0))(ones)
    assert (thinned == 0).float().mean() == pytest.approx(0.3, abs=0.01)
    assert thinned.mean() == pytest.approx(1.0, abs=0.02)
    assert dropout(0.0, torch.Generator())(ones) is ones


def test_a_few_samples_are_learnt_by_heart():
    settings = replace(SETTINGS, local_epochs=30)
    state = start(settings=settings)
    before, update = train(state=state), train(state=state, settings=settings)
    assert update.metrics["loss"] < 0.5 * before.metrics["loss"]
    model = Extractor(tasks=TASKS, shapes=DATA.shapes(), settings=settings).load(update.state)
    for task in TASKS:
        labelled = DATA.labelled(task.name)
        chosen = predict_proba(model, labelled, task).argmax(1)
        right = [task.answers[answer] == sample.labels[task.name] for answer, sample in zip(chosen, labelled)]
        assert sum(right) >= 11, task.name


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        replace(SETTINGS, augment=True, balanced=True),
        replace(SETTINGS, dropout=0.5),
        replace(SETTINGS, task_weights="gradient"),
    ],
)
def test_the_same_seed_gives_the_same_bits_whatever_the_global_generator(settings):
    first = train(settings=settings).state.digest()
    torch.manual_seed(77)
    torch.rand(3)
    assert train(settings=settings).state.digest() == first
    assert train(settings=settings, seed=6).state.digest() != first
    assert train(settings=settings, round=2).state.digest() != first
    assert train(settings=settings, site="b").state.digest() != first


def test_training_leaves_the_global_generator_and_the_broadcast_alone():
    state = start()
    digest, random = state.digest(), torch.random.get_rng_state()
    train(state=state, settings=replace(SETTINGS, augment=True))
    assert state.digest() == digest
    assert torch.equal(torch.random.get_rng_state(), random)


def test_sites_side_by_side_in_threads_give_the_bits_of_one_after_another():
    state, settings = start(), replace(SETTINGS, augment=True, balanced=True)

    def one(site: str) -> str:
        return train(hospital(8, seed=len(site)), site=site, state=state, settings=settings).state.digest()

    sites = ["a", "bb", "ccc", "dddd"]
    assert list(ordered_map(one, sites, workers=2)) == [one(site) for site in sites]


def test_a_site_without_ecg_sends_no_ecg_and_reads_none():
    update = train(hospital(6, kinds=("image", "vitals", "labs")))
    assert not [key for key in update.state if "signal" in key or "fast" in key]
    assert "encoder.signal" not in update.num_examples
    slice_only = start().slice(update.num_examples)
    assert update.base_digest == slice_only.digest()
    again = train(hospital(6, kinds=("image", "vitals", "labs")), state=slice_only)
    assert again.state.digest() == update.state.digest()


def test_a_site_with_half_of_a_tasks_modalities_trains_the_whole_decoder():
    update = train(hospital(6, kinds=("vitals",)), tasks=[SICK])
    assert update.state.components() == ("decoder.sick", "encoder.vitals")
    assert update.state["decoder.sick.hidden.weight"].shape == start()["decoder.sick.hidden.weight"].shape


def test_an_epoch_lasts_until_the_largest_task_has_been_seen_once():
    small = hospital(4, kinds=("image",)).samples + hospital(21, kinds=("signal",)).samples
    assert train(Dataset(small)).metrics["steps"] == 3  # 21 signals in batches of 8
    assert train(Dataset(small), settings=replace(SETTINGS, local_epochs=2)).metrics["steps"] == 6


def test_the_penalty_starts_at_zero_and_grows_as_weights_drift():
    seen = []
    proximal = fedprox(proximal_mu=1.0).penalty

    def penalty(parameters, reference):
        value = proximal(parameters, reference)
        seen.append(value.item())
        return value

    train(penalty=penalty, settings=replace(SETTINGS, local_epochs=3))
    assert seen[0] == 0
    assert seen[1] > 0
    assert max(seen) == pytest.approx(max(seen[2:]))


def test_a_stronger_leash_keeps_a_site_nearer_to_the_broadcast():
    state, settings = start(), replace(SETTINGS, local_epochs=5)

    def drift(mu: float) -> float:
        penalty = fedprox(proximal_mu=mu).penalty if mu else None
        update = train(state=state, settings=settings, penalty=penalty)
        return math.sqrt(sum((update.state[key] - state[key]).square().sum().item() for key in state))

    free, weak, strong = drift(0), drift(1.0), drift(100.0)
    assert strong < weak < free
    assert strong < 0.7 * free


def test_every_task_pulls_with_the_same_weight():
    """Two questions about the picture and one about the signal: neither the picture's tasks share one pull, nor do three pull thrice."""
    tasks, data, trained = [BRIGHT, LEFT, FAST], hospital(8, kinds=("image", "signal")), {}

    def watched(parameters, reference):
        trained.update(parameters)
        return torch.zeros(())

    update = train(data, tasks=tasks, settings=replace(SETTINGS, gradient_clip=0.0), penalty=watched)
    assert update.metrics["steps"] == 1  # of every sample
    model = Extractor(tasks=tasks, shapes=data.shapes(), settings=SETTINGS).load(start(tasks))
    losses = []
    for task in tasks:
        samples = data.labelled(task.name).samples
        targets = torch.tensor([task.answers.index(sample.labels[task.name]) for sample in samples])
        losses.append(functional.cross_entropy(model(Batch.of(samples, task.modalities), task.name), targets))
    torch.stack(losses).mean().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(trained[name].grad, parameter.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", ["image", "signal", "vitals", "labs"])
def test_each_modality_is_augmented_if_the_recipe_says_so(kind):
    tasks = [{"image": BRIGHT, "signal": FAST}.get(kind, SICK)]
    given = {"dataset": hospital(6, kinds=(kind,)), "tasks": tasks, "state": start(tasks)}
    plain, augmented = train(**given), train(**given, settings=replace(SETTINGS, augment=True))
    assert plain.state.digest() != augmented.state.digest()


@pytest.mark.parametrize("balanced", [True, False])
def test_a_rare_answer_is_drawn_as_often_as_the_other_if_the_recipe_says_so(balanced):
    """Three epochs over two samples of one answer and six of the other, at a rate so low that the losses are the broadcast's."""
    rare = [sample for number, sample in enumerate(hospital(12, kinds=("image",))) if number % 2 or number < 4]
    settings = replace(SETTINGS, balanced=balanced, local_epochs=3, learning_rate=1e-12)
    update = train(Dataset(rare), tasks=[BRIGHT], settings=settings)
    model = Extractor(tasks=[BRIGHT], shapes=DATA.shapes(), settings=SETTINGS).load(start([BRIGHT]))
    losses = {"No": [], "Yes": []}
    for score, sample in zip(predict_proba(model, Dataset(rare), BRIGHT), rare, strict=True):
        answer = sample.labels["bright"]
        losses[answer].append(-math.log(score[BRIGHT.answers.index(answer)]))
    assert [len(losses[answer]) for answer in ("No", "Yes")] == [6, 2]
    of_answers = [sum(values) / len(values) for values in losses.values()]
    expected = sum(of_answers) / 2 if balanced else sum(losses["No"] + losses["Yes"]) / 8
    assert update.metrics["loss.bright"] == pytest.approx(expected, rel=1e-4)
    assert abs(of_answers[0] - of_answers[1]) > 0.01


def test_a_rounds_loss_is_the_mean_over_tasks_of_the_mean_over_their_samples():
    few, many = hospital(2, kinds=("signal",)).samples, hospital(8, kinds=("image",)).samples
    update = train(Dataset(few + many), tasks=[BRIGHT, FAST])
    means = [update.metrics["loss.bright"], update.metrics["loss.fast"]]
    assert update.metrics["loss"] == pytest.approx(sum(means) / 2)
    model = Extractor(tasks=[BRIGHT, FAST], shapes=DATA.shapes(), settings=SETTINGS).load(start([BRIGHT, FAST]))
    for task, samples in ((BRIGHT, many), (FAST, few)):
        scores = predict_proba(model, Dataset(samples), task)
        losses = [-math.log(score[task.answers.index(s.labels[task.name])]) for score, s in zip(scores, samples)]
        assert update.metrics[f"loss.{task.name}"] == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_weighed_by_gradients_no_task_moves_the_encoders_further_than_another():
    extractor = Extractor(tasks=TASKS, shapes=DATA.shapes(), settings=SETTINGS, seed=1)
    encoders = list(extractor.encoder.parameters())
    batch = Batch.of(DATA.samples, ("image",))
    easy, hard = (
        functional.cross_entropy(extractor(batch, task.name), torch.arange(len(DATA)) % 2) * scale
        for task, scale in ((BRIGHT, 50.0), (LEFT, 0.02))
    )

    def gradient(loss):
        found = torch.autograd.grad(loss, encoders, retain_graph=True, allow_unused=True)
        return torch.cat([torch.zeros(p.numel()) if g is None else g.flatten() for p, g in zip(encoders, found)])

    whole = gradient(evenly_moving([easy, hard], encoders))
    parts = [gradient(loss) / gradient(loss).norm() for loss in (easy, hard)]
    assert torch.nn.functional.cosine_similarity(whole, sum(parts), dim=0) == pytest.approx(1, abs=1e-4)
    assert evenly_moving([hard], encoders) is hard


def test_weights_by_gradients_are_the_recipes_choice_and_learn_too():
    plain, weighed = (replace(SETTINGS, local_epochs=30, task_weights=by) for by in ("equal", "gradient"))
    before, update = train(settings=replace(SETTINGS, local_epochs=1)), train(settings=weighed)
    assert update.metrics["loss"] < 0.5 * before.metrics["loss"]
    assert update.state.digest() != train(settings=plain).state.digest()
    alone = [train(tasks=[BRIGHT], settings=settings).state.digest() for settings in (plain, weighed)]
    assert alone[0] == alone[1]  # one task has nobody to make room for


def test_gradients_are_clipped_by_their_norm():
    tight = train(settings=replace(SETTINGS, gradient_clip=1e-12))
    state = start()
    moved = max((tight.state[key] - state[key]).abs().max().item() for key in tight.state)
    assert moved < 1e-6  # Adam's epsilon swallows gradients this small


def test_three_answers_are_learnt_too():
    data = hospital(9, kinds=("image",))
    update = train(data, tasks=[COLOUR], settings=replace(SETTINGS, local_epochs=40))
    assert update.metrics["loss.colour"] < math.log(3)


def test_a_loss_that_is_not_finite_names_site_task_and_round():
    good = hospital(4, kinds=("image", "signal"))
    bad = [
        replace(sample, inputs={"signal": sample.inputs["signal"] * math.nan}) if "signal" in sample.inputs else sample
        for sample in good
    ]
    with pytest.raises(FedkimError, match=r"site 'north', task 'fast', round 3, found a loss that isn't finite"):
        train(Dataset(bad), site="north", round=3)


def test_a_site_without_usable_rows_and_a_label_that_is_no_answer_are_refused():
    with pytest.raises(FedkimError, match="site 'a', found no usable sample"):
        train(hospital(3, kinds=("image",)), tasks=[FAST])
    odd = Dataset([replace(sample, labels={"bright": "perhaps"}) for sample in hospital(3, kinds=("image",))])
    with pytest.raises(FedkimError, match=r"site 'a', task 'bright', found a label.*expected No or Yes") as caught:
        train(odd)
    assert "perhaps" not in str(caught.value)
