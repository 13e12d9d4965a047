import json
import math
from dataclasses import asdict, replace

import pytest
import torch
from torch.nn import functional

from fedkim.data.sample import Dataset
from fedkim.errors import FedkimError
from fedkim.injection import InjectionReport
from fedkim.injection.batches import MicroBatch, plan_round, stack_inputs
from fedkim.injection.lessons import Lessons
from fedkim.state import State
from toy_server import GRADE, NUMBERS, TASKS, WIDTH, make_injector, make_trainer, patients, stir

PUBLIC = patients()


def encoders_of(injector) -> State:
    """The injector's encoders as a broadcast would hold them, with memory of their own."""
    return State({key: value.clone() for key, value in injector.tensors().items() if key.startswith("encoder.")})


def fitted(*, rounds=1, injector=None, **settings):
    injector = injector or make_injector()
    trainer, state, reports = make_trainer(injector, **settings), encoders_of(injector), []
    for number in range(1, rounds + 1):
        state, report = trainer.fit(state, round=number)
        reports.append(report)
    return injector, trainer, state, reports


MIXED = ("bright", "grade", "fast")
"""Two questions about the picture, of different length and with answers of one and of several tokens, and one about the signal."""


@pytest.mark.parametrize("seen", [("bright", "fast"), MIXED])
def test_the_number_of_workers_changes_no_bit(seen):
    one, _, state_one, report_one = fitted(injector=make_injector(dropout=0.1), workers=1, micro_batch=2, seen=seen)
    two, _, state_two, report_two = fitted(injector=make_injector(dropout=0.1), workers=2, micro_batch=2, seen=seen)
    assert one.tensors().digest() == two.tensors().digest()
    assert state_one.digest() == state_two.digest()
    assert report_one[0].losses == report_two[0].losses


def test_another_seed_gives_other_weights():
    assert fitted()[0].tensors().digest() != fitted(seed=1)[0].tensors().digest()


def test_what_a_patient_shows_is_learned():
    injector, _, _, (report,) = fitted(seen=("bright",), steps_per_round=12, batch_size=4)
    assert sum(report.losses[-3:]) < 0.35 * sum(report.losses[:3])
    assert report.steps == 12
    fresh = patients(10, split="test", seed=9).samples
    segments = injector.align(injector.encode("bright", stack_inputs(fresh, ("image",))))
    tails = [injector.tokens.prompt(TASKS["bright"].question)] * len(fresh)
    with injector.answering("bright"):
        final = injector.logits(segments, tails, keep=1)[:, -1]
    margin = final[:, injector.tokens.answer("Yes")[0]] - final[:, injector.tokens.answer("No")[0]]
    assert [bool(m > 0) for m in margin] == [s.labels["bright"] == "Yes" for s in fresh]


def test_the_first_loss_is_the_cross_entropy_of_answer_and_eos_computed_by_hand():
    injector = make_injector()
    trainer = make_trainer(injector, batch_size=4, micro_batch=2)
    state = encoders_of(injector)
    (step,) = plan_round(trainer.pools, TASKS, round=1, steps=1, batch_size=4, micro_batch=2, balanced=True, seed=0)
    reference, total = make_injector(), 0.0
    llm = reference.llm
    with torch.no_grad():
        for batch in step:
            for name, sample in zip(batch.tasks, batch.samples):
                task = TASKS[name]
                segments = reference.align(reference.encode(name, stack_inputs([sample], task.modalities)))
                prompt = llm.encode(f"Question: {task.question}\nAnswer:")
                answer = [*llm.encode(f" {sample.labels[name]}"), llm.end_token]
                words = llm.embedding.weight
                row = torch.cat([words[[llm.begin_token]], *(s[0] for s in segments), words[prompt + answer]])
                with reference.using(name):
                    surprise = -llm.model(inputs_embeds=row[None]).logits[0].log_softmax(-1)
                start = len(row) - len(answer)
                total += sum(float(surprise[start - 1 + i, t]) for i, t in enumerate(answer)) / len(answer)
    _, report = trainer.fit(state, round=1)
    assert report.losses[0] == pytest.approx(total / 4, abs=1e-4)


def test_a_pass_is_over_what_a_step_may_draw():
    """Labels alone without a teacher; with one, inputs that nobody has labelled too."""
    people = patients(40)
    public = Dataset(one if number < 16 else replace(one, labels={}) for number, one in enumerate(people))
    given = {"public": public, "seen": ("bright",), "steps_per_round": 0}
    assert make_trainer(make_injector(), **given).steps_per_round == 2
    assert make_trainer(make_injector(), **given, teacher="decoder").steps_per_round == 5
    assert make_trainer(make_injector(), **given, teacher="decoder", unlabelled=False).steps_per_round == 2


def test_encoders_stay_unless_they_are_to_be_trained():
    for train_encoders in (True, False):
        injector = make_injector()
        before = encoders_of(injector)
        trainer = make_trainer(injector, train_encoders=train_encoders)
        after, _ = trainer.fit(before, round=1)
        same = [torch.equal(after[key], before[key]) for key in before]
        assert not any(same) if train_encoders else all(same)
        assert any(key.startswith("exp_avg.encoder") for key in trainer.optimizer.tensors()) == train_encoders


def test_the_round_starts_from_the_aggregated_encoders_not_from_the_servers_own():
    injector = make_injector()
    before = encoders_of(injector)
    trainer = make_trainer(injector, train_encoders=False)
    aggregated = State({key: value + 1 for key, value in before.items()})
    after, _ = trainer.fit(aggregated, round=1)
    assert after.digest() == aggregated.digest()


def test_decoders_and_foreign_tensors_pass_through_unchanged():
    injector = make_injector()
    decoder = torch.randn(2, WIDTH)
    state = encoders_of(injector).updated({"decoder.bright.head.weight": decoder})
    after, _ = make_trainer(injector).fit(state, round=1)
    assert set(after) == set(state)
    assert torch.equal(after["decoder.bright.head.weight"], decoder)


def test_a_rounds_state_keeps_its_values_while_later_rounds_train():
    injector = make_injector()
    trainer = make_trainer(injector)
    aggregated = encoders_of(injector)
    first, _ = trainer.fit(aggregated, round=1)
    digests = aggregated.digest(), first.digest()
    trainer.fit(first, round=2)
    assert (aggregated.digest(), first.digest()) == digests


@pytest.mark.parametrize("seen", [("bright", "fast"), MIXED])
def test_a_trainer_stored_and_read_back_goes_on_bit_for_bit(seen):
    whole, trainer, state, _ = fitted(rounds=2, workers=2, seen=seen)
    injector, first, state, _ = fitted(rounds=1, workers=2, seen=seen)
    tensors, moments = (
        State.from_bytes(injector.tensors().to_bytes()),
        State.from_bytes(first.optimizer.tensors().to_bytes()),
    )
    resumed = make_injector(seed=5)
    resumed.load(tensors, whole=True)
    second = make_trainer(resumed, seen=seen)
    second.optimizer.load(moments)
    assert second.optimizer.tensors().digest() == first.optimizer.tensors().digest()
    second.fit(state, round=2)
    assert resumed.tensors().digest() == whole.tensors().digest()
    assert second.optimizer.tensors().digest() == trainer.optimizer.tensors().digest()


def test_forgotten_moments_would_be_noticed():
    whole, _, _, _ = fitted(rounds=2)
    injector, _, state, _ = fitted(rounds=1)
    make_trainer(injector).fit(state, round=2)
    assert injector.tensors().digest() != whole.tensors().digest()


def test_encoder_moments_start_anew_each_round_and_the_others_go_on():
    _, trainer, _, _ = fitted(rounds=2, seen=("bright",), steps_per_round=3)
    steps = {key: int(value) for key, value in trainer.optimizer.tensors().items() if key.startswith("step.")}
    by_group = {key.split(".")[1]: set() for key in steps}
    for key, value in steps.items():
        by_group[key.split(".")[1]].add(value)
    assert by_group == {"adapter": {6}, "router": {6}, "align": {6}, "encoder": {3}}


def test_rates_rise_over_the_warm_up_and_fall_to_the_end():
    trainer = make_trainer(make_injector(), rounds=5, steps_per_round=4, warmup=0.2)
    factors = [trainer.optimizer.factor(number) for number in range(20)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4:] == pytest.approx([(20 - n) / 16 for n in range(4, 20)])
    level = make_trainer(make_injector(), rounds=5, steps_per_round=4, warmup=0.2, schedule="constant")
    assert [level.optimizer.factor(number) for number in range(4, 20)] == [1.0] * 16


@pytest.mark.parametrize(("own", "alignment"), [(0.0, 4e-3), (8e-3, 8e-3)])
def test_each_group_has_a_rate_of_its_own_and_the_alignment_the_adapters_unless_told(own, alignment):
    _, trainer, _, _ = fitted(
        learning_rate=4e-3,
        alignment_learning_rate=own,
        router_learning_rate=2e-3,
        encoder_learning_rate=1e-3,
        warmup=0.0,
        steps_per_round=1,
    )
    rates = {group["group"]: group["lr"] for group in trainer.optimizer.adam.param_groups}
    expected = {"adapter": 4e-3, "router": 2e-3, "align": alignment, "encoder": 1e-3}
    assert rates == pytest.approx(expected)


def test_every_step_is_taken_at_the_schedules_rate():
    _, trainer, _, _ = fitted(rounds=2, steps_per_round=4, warmup=0.0, learning_rate=4e-3)
    (last,) = (group["lr"] for group in trainer.optimizer.adam.param_groups if group["group"] == "adapter")
    assert last == pytest.approx(4e-3 / 7)  # the run's eighth step, one before the rate is 0


@pytest.mark.parametrize(("most", "taken"), [(0.25, 0.25), (1e6, 3.0), (0.0, 3.0)])
def test_a_gradient_longer_than_allowed_is_cut_to_that_length_over_all_groups(most, taken):
    optimizer = make_trainer(make_injector(), gradient_clip=most).optimizer
    numbers = sum(parameter.numel() for parameter in optimizer.parameters)
    for parameter in optimizer.parameters:
        parameter.grad = torch.full_like(parameter, 3.0 / math.sqrt(numbers))
    lengths = []
    optimizer.adam.step = lambda: lengths.append(
        math.sqrt(sum(parameter.grad.square().sum().item() for parameter in optimizer.parameters))
    )
    optimizer.step(0)
    assert lengths == [pytest.approx(taken, rel=1e-4)]


@pytest.mark.parametrize("micro_batch", [1, 2, 3])
def test_micro_batches_of_any_size_add_up_to_the_gradient_of_the_batch(micro_batch):
    def gradients(size):
        injector = make_injector()
        trainer, seen = make_trainer(injector, batch_size=5, steps_per_round=1, micro_batch=size, seen=("bright",)), []
        parameters = trainer.optimizer.parameters
        trainer.optimizer.step = lambda number: seen.extend(
            None if p.grad is None else p.grad.clone() for p in parameters
        )
        _, report = trainer.fit(encoders_of(injector), round=1)
        return seen, report.losses

    whole, losses = gradients(5)
    parts, parts_losses = gradients(micro_batch)
    assert parts_losses == pytest.approx(losses, abs=1e-5)
    assert any(gradient is not None and gradient.norm() > 1e-3 for gradient in whole)
    for together, summed in zip(whole, parts, strict=True):
        torch.testing.assert_close(summed, together, atol=1e-6, rtol=1e-4)


def test_a_loss_that_is_not_finite_ends_with_one_line():
    samples = list(PUBLIC)
    samples[0].inputs["image"][:] = float("nan")
    try:
        with pytest.raises(FedkimError, match="injection in round 1, found a loss that is not finite"):
            fitted(seen=("bright",), public=Dataset(samples), steps_per_round=3)
    finally:
        samples[0].inputs["image"][:] = patients().samples[0].inputs["image"]


def test_a_task_with_one_answer_in_the_public_split_is_named():
    only_yes = PUBLIC.where(lambda sample: sample.labels["bright"] == "Yes")
    with pytest.raises(FedkimError, match=r"task 'bright', found 6 usable public samples with fewer than two"):
        make_trainer(make_injector(), public=only_yes)


def test_nothing_to_train_is_an_error():
    with pytest.raises(FedkimError, match="nothing to train"):
        make_trainer(make_injector(experts=0, blind=True))


def test_tasks_and_steps_are_reported():
    told = []
    injector = make_injector()
    _, report = make_trainer(injector).fit(
        encoders_of(injector), round=1, on_step=lambda report: told.append((report.steps, report.losses[-1]))
    )
    assert told == list(enumerate(report.losses, start=1))
    assert set(report.tasks) == {"bright", "fast"}
    assert sum(report.tasks.values()) / 2 == pytest.approx(sum(report.losses) / report.steps)


@pytest.mark.parametrize("stop", [1, 3])
def test_a_round_taken_up_at_any_step_ends_in_the_same_bits(stop):
    """What is kept half-way (injector, moments, losses) is all that the rest of the round depends on."""
    whole = make_injector()
    trainer = make_trainer(whole, steps_per_round=4)
    first, _ = trainer.fit(encoders_of(whole), round=1)
    kept = {}

    def keep(report):
        if report.steps == stop:
            tensors = {name: tensor.clone() for name, tensor in whole.tensors().items()}
            moments = {name: tensor.clone() for name, tensor in trainer.optimizer.tensors().items()}
            kept.update(tensors=tensors, moments=moments, report=json.loads(json.dumps(asdict(report))))

    end, report = trainer.fit(first, round=2, on_step=keep)
    other = make_injector()
    resumed = make_trainer(other, steps_per_round=4)
    other.load(kept["tensors"], whole=True)
    resumed.optimizer.load(kept["moments"])
    again, told = resumed.fit(first, round=2, begun=InjectionReport(**kept["report"]))
    assert again.digest() == end.digest()
    assert other.tensors().digest() == whole.tensors().digest()
    assert resumed.optimizer.tensors().digest() == trainer.optimizer.tensors().digest()
    assert told == report


def test_taking_moments_back_leaves_none_of_those_that_were_there():
    """After the first step of a round an encoder that it didn't use has no moments: the last round's mustn't come back."""
    injector = make_injector()
    trainer = make_trainer(injector, steps_per_round=4)
    trainer.fit(encoders_of(injector), round=1)
    before = trainer.optimizer.tensors()
    kept = State({name: tensor for name, tensor in before.items() if ".encoder.image" not in name})
    assert len(kept) < len(before)
    trainer.optimizer.load(kept)
    assert trainer.optimizer.tensors().digest() == kept.digest()


def test_answers_of_several_tokens_are_trained_too():
    _, _, _, (report,) = fitted(seen=("grade",), steps_per_round=8)
    assert len(make_injector().tokens.answer(GRADE.answers[1])) > 1
    assert sum(report.losses[-2:]) < 0.7 * sum(report.losses[:2])


# the balance of the router ------------------------------------------------------------------------------------


def test_the_balance_term_adds_the_gradient_of_the_divergence_from_uniform():
    injector = make_injector()
    trainer = make_trainer(injector, entropy_weight=0.5)
    router = trainer.optimizer.groups["router"]
    for parameter in trainer.optimizer.parameters:
        parameter.grad = None
    trainer._add_balance()
    mean = (injector.route_weights("bright") + injector.route_weights("fast")) / 2
    uniform = torch.full_like(mean, 1 / len(mean))
    expected = torch.autograd.grad(0.5 * functional.kl_div(uniform.log(), mean, reduction="sum"), list(router.values()))
    for parameter, gradient in zip(router.values(), expected):
        assert torch.allclose(parameter.grad, gradient, atol=1e-7)
    assert all(p.grad is None for p in trainer.optimizer.groups["adapter"].values())


def test_following_the_balance_term_brings_a_leaning_route_back_to_uniform():
    injector = stir(make_injector(), scale=0.4)
    trainer = make_trainer(injector, entropy_weight=1.0)

    def entropy():
        mean = torch.stack([injector.route_weights(name) for name in ("bright", "fast")]).mean(0).tolist()
        return -sum(weight * math.log(weight) for weight in mean) / math.log(len(mean))

    path = [entropy()]
    for _ in range(20):
        for parameter in trainer.optimizer.groups["router"].values():
            parameter.grad = None
        trainer._add_balance()
        with torch.no_grad():
            for parameter in trainer.optimizer.groups["router"].values():
                if parameter.grad is not None:
                    parameter.sub_(0.0005 * parameter.grad)
        path.append(entropy())
    assert path[0] < 0.8
    assert path == sorted(path)
    assert path[-1] > path[0] + 0.1


# several questions in a micro-batch ----------------------------------------------------------------------------


def test_a_mixed_micro_batch_has_the_loss_and_gradient_of_its_questions_one_by_one():
    injector = make_injector()
    dim = replace(TASKS["bright"], name="dim", question="Is the picture rather dim?", description="How dim it is.")
    injector.tasks["dim"] = dim
    injector._descriptions["dim"] = (injector.llm.embed(dim.description), injector._descriptions["bright"][1])
    trainer = make_trainer(injector, seen=("bright",))
    samples = [replace(s, labels={**s.labels, "dim": "No"}) for s in PUBLIC.samples[:4]]
    tasks = ("bright", "bright", "dim", "dim")

    def gradient(rows):
        batch = MicroBatch(tasks=tuple(tasks[r] for r in rows), samples=tuple(samples[r] for r in rows), number=0)
        loss, by_task = trainer._loss(batch, torch.Generator(), None)
        return loss, torch.autograd.grad(loss, trainer.optimizer.parameters, allow_unused=True), by_task

    loss, whole, by_task = gradient(range(4))
    alone = [gradient([row]) for row in range(4)]
    assert loss.item() == pytest.approx(sum(value.item() for value, _, _ in alone) / 4, abs=1e-5)
    assert {task: len(values) for task, values in by_task.items()} == {"bright": 2, "dim": 2}
    for index, together in enumerate(whole):
        parts = [grads[index] for _, grads, _ in alone]
        assert (together is None) == all(part is None for part in parts)
        if together is not None:
            torch.testing.assert_close(
                together, sum(part for part in parts if part is not None) / 4, atol=1e-5, rtol=1e-3
            )


# blind, teacher, guide ------------------------------------------------------------------------------------------


def test_blind_training_on_distinct_rows_has_the_gradient_of_all_rows():
    injector = make_injector(blind=True)
    trainer = make_trainer(injector, batch_size=8, micro_batch=8, seen=("bright",))
    ((batch,),) = plan_round(
        trainer.pools, TASKS, round=1, steps=1, batch_size=8, micro_batch=8, balanced=False, seed=0
    )
    parameters = [p for name, p in injector.parameters()["adapter"].items() if "m3oe_B" in name]
    generator = torch.Generator()
    short, by_row = trainer._loss(batch, generator, None)
    assert len(by_row["bright"]) == 8
    compact = torch.autograd.grad(short, parameters)
    labels = [[*injector.tokens.answer(s.labels["bright"]), injector.llm.end_token] for s in batch.samples]
    tails = [injector.tokens.prompt(TASKS["bright"].question) + ids for ids in labels]
    with injector.using("bright"):
        logits = injector.logits([], tails, keep=3)[:, :-1]
        long = functional.cross_entropy(logits.flatten(0, 1), torch.tensor(labels).flatten())
        full = torch.autograd.grad(long, parameters)
    assert short.item() == pytest.approx(long.item(), abs=1e-5)
    for a, b in zip(compact, full):
        assert torch.allclose(a, b, atol=1e-6)


def truth(task, features):
    """A teacher who is sure of the sign of the mixed features' mean."""
    tokens = next(iter(features.values()))
    margin = 3.0 * tokens.mean((1, 2))
    return torch.stack([-margin, margin], dim=-1).log_softmax(-1)


def test_a_teachers_answers_are_learned_whatever_the_labels_say():
    def taught(public):
        injector = make_injector()
        trainer = make_trainer(
            injector, public=public, train_encoders=False, steps_per_round=10, batch_size=4, seen=("bright",)
        )
        _, report = trainer.fit(encoders_of(injector), round=1, teacher=truth)
        return injector.tensors().digest(), report.losses

    digest, losses = taught(PUBLIC)
    assert sum(losses[-3:]) < 0.6 * sum(losses[:3])
    swapped = {"Yes": "No", "No": "Yes"}
    other = Dataset(replace(s, labels={"bright": swapped[s.labels["bright"]]}) for s in PUBLIC)
    assert taught(other) == (digest, losses)


def test_each_row_of_a_mixed_micro_batch_gets_its_own_decoders_answer():
    injector = make_injector()
    asked = []

    def opposite(task, features):
        asked.append((task, len(next(iter(features.values())))))
        return truth(task, features).flip(-1) if task == "dim" else truth(task, features)

    injector.tasks["dim"] = replace(TASKS["bright"], name="dim")
    lessons = Lessons(injector, {"bright": PUBLIC.samples, "dim": PUBLIC.samples}, opposite, mixup="taught")
    tasks = ("dim", "bright", "dim", "bright", "bright")
    features = injector.encode("bright", stack_inputs(PUBLIC.samples[:5], ("image",)))
    asked.clear()
    mixed, targets = lessons.give(tasks, features, torch.Generator().manual_seed(1))
    assert sorted(asked) == [("bright", 3), ("dim", 2)]
    for row, (task, target) in enumerate(zip(tasks, targets)):
        alone = opposite(task, {"image": mixed["image"][row : row + 1]}) - lessons.centres[task]
        torch.testing.assert_close(target, alone.softmax(-1)[0])


def test_a_teacher_needs_answers_of_one_token():
    injector = make_injector()
    trainer = make_trainer(injector, train_encoders=False, seen=("grade",))

    def three(task, features):
        return torch.zeros(len(next(iter(features.values()))), 3).log_softmax(-1)

    with pytest.raises(FedkimError, match="answers of several tokens"):
        trainer.fit(encoders_of(injector), round=1, teacher=three)


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [({"teacher": "decoder"}, 'injection.teacher = "none"'), ({"mixup": "always"}, 'injection.mixup = "taught"')],
)
def test_answers_of_several_tokens_are_refused_before_any_site_trains(settings, remedy):
    settings = {"train_encoders": False, "seen": ("grade",), **settings}
    with pytest.raises(FedkimError, match="answers of several tokens") as caught:
        make_trainer(make_injector(), **settings)
    assert str(caught.value).endswith(f"set {remedy}")
    assert make_trainer(make_injector(blind=True), **settings).pools  # which learns the labels word for word


def test_a_guide_sets_the_alignments_constants_from_the_public_features():
    injector = make_injector()
    trainer = make_trainer(injector, guidance=2.0, train_encoders=False, seen=("bright",), steps_per_round=1)
    direction = torch.randn(WIDTH, generator=torch.Generator().manual_seed(3))
    asked = []

    def guide(task, features):
        asked.append(task)
        return dict.fromkeys(features, direction[None])

    trainer.fit(encoders_of(injector), round=1, guide=guide)
    assert asked == ["bright"]
    image = injector.alignment["image"]
    features = injector.encode("bright", stack_inputs(PUBLIC.samples, ("image",)))["image"].detach()
    assert torch.allclose(image.center, features.flatten(0, 1).mean(0), atol=1e-5)
    louder = direction * image.spread
    assert torch.allclose(louder @ image.emphasis, 3.0 * louder, atol=1e-4)
    assert torch.equal(injector.alignment["signal"].emphasis, torch.eye(WIDTH))


def test_inputs_are_stacked_by_modality_in_the_tasks_order():
    stacked = stack_inputs(PUBLIC.samples[:3], ("image", "text", "signal"))
    assert list(stacked) == ["image", "signal"]
    assert stacked["image"].shape == (3, NUMBERS)
