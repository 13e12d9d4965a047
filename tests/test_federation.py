import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

import fedkim.run.rounds as rounds_module
from fedkim.aggregation import ALGORITHMS, Algorithm, Rejection
from fedkim.errors import FedkimError
from fedkim.federation import federate
from fedkim.run import federate as federate_recipe
from fedkim.run import pipeline, run_recipe
from fedkim.run.network import Network
from fedkim.state import State, Update
from fedkim.store.run_store import RunStore
from small_recipe import small

ENCODER, HEAD = "encoder.image.weight", "decoder.square.weight"
OWNED = {"a": ("encoder.image", "decoder.square"), "b": ("encoder.image", "decoder.square"), "c": ("decoder.square",)}
START = State({ENCODER: torch.zeros(3), HEAD: torch.zeros(2)})


def site_update(site, round, state, *, shift=1.0, examples=10, **changes) -> Update:
    """What a site sends that moves every weight it owns by ``shift``."""
    own = state.slice(OWNED[site])
    moved = State({key: value + shift for key, value in own.items()})
    counts = dict.fromkeys(own.components(), examples)
    update = Update(site=site, round=round, base_digest=own.digest(), state=moved, num_examples=counts)
    return replace(update, **changes)


def walk(exchange, *, rounds=2, inject=None, start=START, **settings):
    commits = []
    walked = federate(
        rounds=range(1, rounds + 1),
        state=start,
        memory=State(),
        owned=OWNED,
        exchange=exchange,
        algorithm=ALGORITHMS["fedavg"](),
        inject=inject or (lambda number, gathered: (gathered.aggregated, {})),
        commit=commits.append,
        **settings,
    )
    return walked, commits


def everyone(number, state):
    return [site_update(site, number, state) for site in OWNED]


def test_each_round_broadcasts_what_injection_left_and_hands_on_what_was_aggregated():
    given, aggregated = [], []

    def exchange(number, state):
        given.append(float(state[ENCODER][0]))
        return everyone(number, state)

    def inject(number, gathered):
        state = gathered.aggregated
        aggregated.append(float(state[ENCODER][0]))
        return state.updated({ENCODER: state[ENCODER] + 10}), {"note": number}

    walked, _ = walk(exchange, inject=inject)
    finished = list(walked)
    assert given == [0.0, 11.0]
    assert aggregated == [1.0, 12.0]
    assert [float(r.aggregated[ENCODER][0]) for r in finished] == [1.0, 12.0]
    assert [float(r.state[ENCODER][0]) for r in finished] == [11.0, 22.0]
    assert [r.injection["note"] for r in finished] == [1, 2]


def test_a_component_is_the_mean_of_its_owners_weighted_by_their_examples():
    def exchange(number, state):
        return [
            site_update("a", number, state, shift=1.0, examples=30),
            site_update("b", number, state, shift=5.0, examples=10),
            site_update("c", number, state, shift=9.0, examples=40),
        ]

    walked, _ = walk(exchange, rounds=1)
    (finished,) = walked
    assert finished.state[ENCODER].tolist() == [2.0] * 3
    assert finished.state[HEAD].tolist() == [5.5] * 2


def test_a_rejected_update_leaves_the_round_going():
    def exchange(number, state):
        poisoned = State({key: value * float("nan") for key, value in state.slice(OWNED["b"]).items()})
        return [
            site_update("a", number, state, shift=3.0),
            replace(site_update("b", number, state), state=poisoned),
            replace(site_update("c", number, state), round=number + 1),
        ]

    walked, commits = walk(exchange, rounds=1)
    (finished,) = walked
    assert [c.site for c in finished.contributions] == ["a"]
    assert {r.site for r in finished.rejections} == {"b", "c"}
    assert finished.state[ENCODER].tolist() == [3.0] * 3
    assert commits == [finished]


def test_a_round_below_the_quorum_changes_nothing_and_is_committed_as_skipped():
    def exchange(number, state):
        return everyone(number, state)[: 1 if number == 2 else 3]

    injected = []
    walked, commits = walk(
        exchange,
        rounds=3,
        quorum=2,
        inject=lambda number, gathered: (injected.append(number) or gathered.aggregated, {}),
    )
    first, second, third = walked
    assert [first.skipped, second.skipped, third.skipped] == [False, True, False]
    assert second.state is first.state
    assert injected == [1, 3]
    assert second.aggregated is first.aggregated
    assert [finished.number for finished in commits] == [1, 2, 3]
    assert third.state[ENCODER].tolist() == [2.0] * 3


def test_what_was_averaged_last_comes_through_skipped_rounds_and_a_new_process():
    def tune(number, gathered):
        return gathered.aggregated.updated({ENCODER: gathered.aggregated[ENCODER] + 10}), {}

    tuned = {"inject": tune}
    (first, second), _ = (list(part) for part in walk(lambda n, state: everyone(n, state) if n == 1 else [], **tuned))
    assert second.aggregated is first.aggregated  # not what the injection made of it
    assert second.state is first.state
    (third,), _ = (
        list(part)
        for part in walk(
            lambda n, state: [], rounds=1, start=first.state, aggregated=first.aggregated, skipped_before=1
        )
    )
    assert third.aggregated is first.aggregated


def test_a_run_whose_rounds_were_all_skipped_is_not_scored(tmp_path):
    recipe = small("federation.rounds=2", "federation.patience=3")

    def nobody(round, state):
        return []

    world, *_ = pipeline.load_parts(recipe)
    declared = {site: dict(counts) for site, counts in world.declared.items()}
    with pytest.raises(FedkimError, match=r"2 committed rounds, 2 of them skipped.*begin anew"):
        run_recipe(recipe, out=tmp_path / "run", network=Network(declared=declared, exchange=nobody))
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_skipped_round_remembers_who_gave_what_could_have_been_averaged():
    walked, _ = walk(lambda number, state: everyone(number, state)[:1], rounds=1, quorum=2)
    (finished,) = walked
    assert [(c.site, c.num_examples) for c in finished.contributions] == [("a", dict.fromkeys(OWNED["a"], 10))]
    assert finished.aggregated[ENCODER].tolist() == [0.0] * 3


def test_of_an_update_s_counts_only_those_of_its_components_are_remembered():
    def exchange(number, state):
        update = site_update("a", number, state)
        return [replace(update, num_examples={**update.num_examples, "x" * 100: 1, "encoder.else": 10**400})]

    walked, _ = walk(exchange, rounds=1)
    (finished,) = walked
    assert finished.contributions[0].num_examples == dict.fromkeys(OWNED["a"], 10)


def test_rounds_skipped_in_a_row_end_the_federation_with_the_reasons():
    walked, commits = walk(lambda number, state: [site_update("a", 7, state)], rounds=9)
    message = r"round 3, found 0 usable updates \(a: sent for round 7, this is round 3\), 3 rounds in a row, expected"
    with pytest.raises(FedkimError, match=message):
        list(walked)
    assert [finished.number for finished in commits] == [1, 2]
    silent, _ = walk(lambda number, state: [], patience=1)
    with pytest.raises(FedkimError, match=r"found 0 usable updates \(no site answered\), expected at least 1; mend"):
        next(silent)
    few, _ = walk(lambda number, state: everyone(number, state)[:1], quorum=2, patience=1)
    with pytest.raises(
        FedkimError, match=r"found 1 usable updates \(no other site answered\), expected at least 2; mend"
    ) as caught:
        next(few)
    # the quorum is part of the recipe, whose run alone is resumed
    assert "then the same command resumes; a lower federation.quorum begins anew" in str(caught.value)


def test_patience_does_not_start_anew_in_a_new_process():
    walked, commits = walk(lambda number, state: [], skipped_before=2)
    with pytest.raises(FedkimError, match=r"3 rounds in a row"):
        next(walked)
    assert commits == []


def test_a_resumed_run_counts_the_rounds_that_it_skipped_before_it_stopped(tmp_path, monkeypatch):
    recipe = small("federation.rounds=4", "federation.patience=2")
    monkeypatch.setattr(rounds_module.InProcess, "__call__", lambda self, round, state: iter(()))
    started = federate_recipe(recipe, out=tmp_path / "run")
    assert next(started).skipped
    started.close()
    with pytest.raises(FedkimError, match=r"round 2, found 0 usable updates .*2 rounds in a row"):
        next(iter(federate_recipe(recipe, out=tmp_path / "run")))


def test_a_good_round_between_makes_the_count_of_skipped_ones_start_anew():
    walked, _ = walk(lambda number, state: everyone(number, state) if number % 3 == 0 else [], rounds=8)
    assert [finished.skipped for finished in walked] == [True, True, False, True, True, False, True, True]


def test_a_site_that_failed_is_a_rejection_and_the_round_goes_on():
    failure = Rejection(site="b", code="E-DIVERGED", reason="a loss that isn't finite")
    walked, _ = walk(lambda number, state: [site_update("a", number, state), failure], rounds=1)
    (finished,) = walked
    assert finished.rejections == [failure]
    assert [c.site for c in finished.contributions] == ["a"]


def test_what_was_gathered_is_kept_and_a_recalled_round_asks_no_site():
    kept = {}
    whole, _ = walk(everyone, rounds=2, keep=kept.__setitem__)
    *_, last = whole

    def nobody(number, state):
        raise AssertionError("the sites were asked again")

    again, _ = walk(nobody, rounds=2, recall=kept.get)
    *_, recalled = again
    assert recalled == last


def test_a_round_is_committed_before_it_is_yielded_and_nothing_runs_ahead():
    started = []

    def exchange(number, state):
        started.append(number)
        return everyone(number, state)

    walked, commits = walk(exchange, rounds=3)
    for number in (1, 2):
        finished = next(walked)
        assert finished.number == number
        assert commits[-1] is finished
        assert started == list(range(1, number + 1))


def test_starting_at_a_later_round_with_the_committed_state_ends_the_same():
    whole, _ = walk(everyone, rounds=4)
    states = [finished.state for finished in whole]
    rest = federate(
        rounds=range(3, 5),
        state=states[1],
        memory=State(),
        owned=OWNED,
        exchange=everyone,
        algorithm=ALGORITHMS["fedavg"](),
        inject=lambda number, gathered: (gathered.aggregated, {}),
        commit=lambda finished: None,
    )
    assert [r.state.digest() for r in rest] == [state.digest() for state in states[2:]]


# with a recipe's parts -----------------------------------------------------------------------------------------


def digest_of(folder):
    return RunStore(folder).latest().manifest["digest"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Four rounds in one go."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, list(federate_recipe(small(), out=folder))


@pytest.fixture
def sent(monkeypatch):
    """Every update that a site sends, in order."""
    updates = []
    train = rounds_module.InProcess.__call__

    def listening(self, round, state):
        for update in train(self, round, state):
            updates.append(update)
            yield update

    monkeypatch.setattr(rounds_module.InProcess, "__call__", listening)
    return updates


def test_a_stopped_run_resumes_to_the_digest_of_an_unbroken_one(whole, tmp_path):
    folder, rounds = whole
    broken = tmp_path / "run"
    started = federate_recipe(small("run.workers=2"), out=broken)
    next(started), next(started)
    started.close()
    resumed = list(federate_recipe(small(), out=broken))
    assert [r.number for r in resumed] == [3, 4]
    assert digest_of(broken) == digest_of(folder)
    assert resumed[-1].state.digest() == rounds[-1].state.digest()
    assert resumed[-1].aggregated.digest() == rounds[-1].aggregated.digest()


def test_the_same_seed_gives_the_same_digest_and_another_seed_another(whole):
    _, rounds = whole
    again = federate_recipe(small())
    assert [next(again).state.digest() for _ in range(2)] == [r.state.digest() for r in rounds[:2]]
    other = next(iter(federate_recipe(small("run.seed=1"))))
    assert other.state.digest() != rounds[0].state.digest()


def test_the_rounds_of_a_run_keep_their_own_states(sent):
    rounds = list(federate_recipe(small()))
    assert len({r.state.digest() for r in rounds}) == len(rounds)
    for before, after in pairwise(rounds):
        for update in (update for update in sent if update.round == after.number):
            assert update.base_digest == before.state.slice(update.state.components()).digest()


def test_injection_changes_the_encoders_and_no_decoder(whole):
    _, rounds = whole
    for finished in rounds:
        changed = {
            key.split(".")[0]
            for key in finished.state
            if not torch.equal(finished.state[key], finished.aggregated[key])
        }
        assert changed == {"encoder"}


def test_where_only_one_site_takes_part_the_others_components_stay():
    recipe = small("federation.participation=0.4", "federation.rounds=2")
    first, second = federate_recipe(recipe)
    assert [len(first.contributions), len(second.contributions)] == [1, 1]
    sent = set(second.contributions[0].components)
    for key, value in second.aggregated.items():
        if ".".join(key.split(".")[:2]) not in sent:
            assert torch.equal(value, first.state[key])


def test_a_site_without_a_modality_leaves_its_encoder_to_the_others_exactly(sent):
    recipe = small(
        "federation.partition=missing-modality", "federation.missing=0.3", "federation.sites=4", "run.seed=6"
    )
    finished = next(iter(federate_recipe(recipe)))
    senders = {u.site for u in sent if "encoder.signal" in u.state.components()}
    assert len(senders) == 2
    for key in finished.aggregated:
        if not key.startswith("encoder.signal"):
            continue
        parts = [(u.num_examples["encoder.signal"], u.state[key]) for u in sent if u.site in senders]
        total = sum(count for count, _ in parts)
        mean = sum(tensor.double() * (count / total) for count, tensor in parts)
        assert torch.equal(finished.aggregated[key], mean.to(torch.float32))


def test_a_poisoned_site_is_named_in_the_history_and_the_run_goes_on(tmp_path, monkeypatch):
    recipe = small("federation.rounds=1")
    train = rounds_module.InProcess.__call__

    def poisoned(self, round, state):
        for update in train(self, round, state):
            yield replace(update, round=99) if update.site == "site-2" else update

    monkeypatch.setattr(rounds_module.InProcess, "__call__", poisoned)
    (finished,) = federate_recipe(recipe, out=tmp_path / "run")
    assert [c.site for c in finished.contributions] == ["site-1"]
    (entry,) = RunStore(tmp_path / "run").latest().manifest["history"]
    assert "sent for round 99" in entry["rejected"]["site-2"]
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    assert [event["site"] for event in events if event["event"] == "rejected"] == ["site-2"]


@pytest.mark.parametrize(("times", "limit", "rejected"), [(8, 5.0, {"site-2": "E-NORM"}), (8, 20.0, {}), (50, 0.0, {})])
def test_how_far_a_site_may_move_is_the_recipes_to_say(times, limit, rejected, monkeypatch):
    train = rounds_module.InProcess.__call__

    def hurried(self, round, state):
        for update in train(self, round, state):
            far = {key: state[key] + times * (value - state[key]) for key, value in update.state.items()}
            yield replace(update, state=State(far)) if update.site == "site-2" else update

    monkeypatch.setattr(rounds_module.InProcess, "__call__", hurried)
    (finished,) = federate_recipe(small("federation.rounds=1", "federation.sites=3", f"federation.norm_limit={limit}"))
    assert {rejection.site: rejection.code for rejection in finished.rejections} == rejected


@pytest.mark.parametrize(("quorum", "skipped"), [(1, False), (2, True)])
def test_how_many_updates_make_a_round_is_the_recipes_to_say(quorum, skipped, monkeypatch):
    train = rounds_module.InProcess.__call__

    def late(self, round, state):
        for update in train(self, round, state):
            yield replace(update, round=99) if update.site == "site-2" else update

    monkeypatch.setattr(rounds_module.InProcess, "__call__", late)
    (finished,) = federate_recipe(small("federation.rounds=1", f"federation.quorum={quorum}"))
    assert finished.skipped == skipped


@pytest.mark.parametrize(
    ("returns", "found"),
    [
        (lambda state, memory: None, "NoneType"),
        (lambda state, memory: state, "State"),
        (lambda state, memory: (dict(state), memory), "tuple"),
        (lambda state, memory: (State(list(state.items())[1:]), memory), "no tensor"),
        (lambda state, memory: (State({**state, "encoder.x.y": torch.ones(1)}), memory), "tensor 'encoder.x.y'"),
        (lambda state, memory: (State({k: v[None] for k, v in state.items()}), memory), "of another shape or type"),
        (lambda state, memory: (State({k: v * torch.nan for k, v in state.items()}), memory), "isn't finite"),
    ],
)
def test_what_a_plug_ins_algorithm_returns_is_checked_before_it_becomes_the_state(monkeypatch, returns, found):
    def odd():
        return Algorithm(name="odd", aggregate=lambda previous, updates, memory: returns(previous, memory))

    monkeypatch.setitem(ALGORITHMS, "odd", odd)
    with pytest.raises(FedkimError, match=rf"aggregation by 'odd', found .*{found}"):
        list(federate_recipe(small("federation.algorithm=odd", "federation.rounds=1")))


def test_memory_of_the_algorithm_survives_a_stop(tmp_path):
    """A plug-in algorithm that remembers a sum ends the same whether or not the run was stopped."""

    def summing():
        inner = ALGORITHMS["fedavg"]()

        def aggregate(previous, updates, memory):
            mean, _ = inner.aggregate(previous, updates, State())
            held = {key: value * 0.5 + memory.get(key, torch.zeros_like(value)) for key, value in mean.items()}
            return State({key: value * 0.5 + held[key] * 0.1 for key, value in mean.items()}), State(held)

        return replace(inner, name="summing", aggregate=aggregate)

    ALGORITHMS["summing"] = summing
    try:
        recipe = small("federation.algorithm=summing", "federation.rounds=2")
        unbroken = list(federate_recipe(recipe))[-1].state.digest()
        started = federate_recipe(recipe, out=tmp_path / "run")
        next(started)
        started.close()
        assert list(federate_recipe(recipe, out=tmp_path / "run"))[-1].state.digest() == unbroken
    finally:
        del ALGORITHMS["summing"]
