"""The exchange over a grid in this process: who is spoken to, what is taken, and that every wait ends."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

pytest.importorskip("flwr", reason="SKIPPED, NOT RUN: needs fedkim[flower]")

import flwr.app
import httpx

from fedkim.aggregation import Rejection, gate
from fedkim.data.hospital.site_file import HospitalData
from fedkim.engines import InProcess, participants
from fedkim.engines.flower import exchange as module
from fedkim.engines.flower import round_so_far
from fedkim.engines.flower.content import CODEC, pack, unpack
from fedkim.engines.flower.exchange import FlowerExchange
from fedkim.engines.flower.roster import Registered
from fedkim.engines.flower.round_so_far import RoundSoFar
from fedkim.engines.flower.waiting import Waiting
from fedkim.errors import FedkimError
from fedkim.extraction.training import DivergedError
from fedkim.run.world import build_world
from fedkim.site.answering import Answering
from fedkim.site.audit import AuditLog
from fedkim.site.keys import make_site_keys
from fedkim.site.participant import Participant
from fedkim.site.policy import Policy
from fedkim.state import State, Update
from fedkim.store.files import file_digest
from flower_grid import Clock, Grid
from small_recipe import small

RECIPE = small("federation.sites=3", "federation.partition=missing-modality")
KEYS = {}


@pytest.fixture(scope="module")
def world():
    return build_world(RECIPE)


@pytest.fixture(scope="module")
def hospitals(world, tmp_path_factory):
    """Three sites with their data, keys and logs, as `site join` would hold them."""
    folder = tmp_path_factory.mktemp("hospitals")
    (folder / "recipe.toml").write_text(RECIPE.to_toml())
    found = {}
    for name, owned in world.owned.items():
        KEYS[name] = make_site_keys(folder / f"{name}.key")
        parts = [part.split(".", 1) for part in owned]
        policy = Policy(
            recipe="recipe.toml",
            recipe_digest=RECIPE.digest(),
            tasks=tuple(part for kind, part in parts if kind == "decoder"),
            modalities=tuple(part for kind, part in parts if kind == "encoder"),
            min_cohort=1,
            min_contributors_per_component=1,
            max_rounds=1000,
        )
        site = Participant(
            path=folder / f"{name}.toml",
            name=name,
            data=HospitalData(source="recipe", shard=name),
            policy=policy,
            coordinator=None,
            records=folder / name,
            read=("", file_digest(folder / "recipe.toml")),
        )
        found[name] = Answering(site, AuditLog(site.audit))
    KEYS["stranger"] = make_site_keys(folder / "stranger.key")
    return found


@pytest.fixture
def federation(world, hospitals, monkeypatch):
    """``(exchange, grid, events)``; the clock moves only when the exchange sleeps."""
    grid, events = Grid(), []
    monkeypatch.setattr(module, "time", Clock())
    for number, (name, hospital) in enumerate(hospitals.items(), 1):
        hospital._last = None
        hospital._kept = {}
        grid.connect(number, KEYS[name], hospital.answer)

    def make(run="run", declared=None, **waiting):
        sites = {
            name: Registered(
                name=name, public_key=KEYS[name], declared=(declared or {}).get(name, dict.fromkeys(owned, 1000))
            )
            for name, owned in world.owned.items()
        }
        waits = Waiting(**{"deadline": 100.0, "grace": 10.0, "start_wait": 20.0, "attempts": 2, **waiting})
        return FlowerExchange(
            grid,
            sites,
            run=run,
            recipe=RECIPE.digest(),
            waiting=waits,
            seed=RECIPE.run.seed,
            tell=lambda event, **fields: events.append({"event": event, **fields}),
        )

    return make, grid, events


def in_process(world):
    return InProcess(
        world.sites,
        owned=world.owned,
        tasks=world.seen,
        settings=RECIPE.extraction,
        penalty=world.algorithm.penalty,
        participation=1.0,
        workers=1,
        seed=RECIPE.run.seed,
    )


def given(answers):
    """Who gave an update; whoever didn't is told with a reason."""
    answers = list(answers)
    sites = {answer.site for answer in answers if isinstance(answer, Update)}
    left = [answer for answer in answers if isinstance(answer, Rejection)]
    assert {*sites, *(rejection.site for rejection in left)} == {"site-1", "site-2", "site-3"}
    assert len(sites) + len(left) == 3
    assert all(rejection.code.startswith("E-") and rejection.reason for rejection in left)
    return sites


def told(events, event):
    return [(entry.get("site"), entry.get("reason")) for entry in events if entry["event"] == event]


def test_updates_over_the_grid_are_those_of_one_process_bit_for_bit(world, federation):
    make, _, events = federation
    exchange = make()
    assert exchange.wait_for_sites() == sorted(world.owned)
    mine = {update.site: update for update in exchange(1, world.initial)}
    for theirs in in_process(world)(1, world.initial):
        assert mine[theirs.site].state.digest() == theirs.state.digest()
        assert mine[theirs.site].num_examples == theirs.num_examples
        assert mine[theirs.site].base_digest == theirs.base_digest
    assert len(told(events, "reply")) == 3


def test_a_site_is_sent_its_own_components_alone(world, federation):
    make, grid, _ = federation
    list(make()(1, world.initial))
    assert len({tuple(owned) for owned in world.owned.values()}) > 1
    for (_, header, body), owned in zip(grid.pushed, world.owned.values()):
        assert State.from_bytes(body).components() == tuple(sorted(owned))
        assert sorted(header["components"]) == sorted(owned)


def test_the_same_sites_are_drawn_as_in_one_process(world, federation):
    make, *_ = federation
    exchange = make()
    exchange.participation = 0.5
    drawn = [sorted(update.site for update in exchange(number, world.initial)) for number in range(1, 4)]
    expected = [
        participants(list(world.owned), share=0.5, seed=RECIPE.run.seed, round=number) for number in range(1, 4)
    ]
    assert drawn == expected
    assert len({tuple(sites) for sites in drawn}) > 1


def test_the_contributors_that_are_told_are_those_of_the_round_less_whom_the_quorum_can_do_without(world, federation):
    make, grid, _ = federation
    owners = {
        name: sum(name in owned for owned in world.owned.values()) for owned in world.owned.values() for name in owned
    }
    assert set(owners.values()) == {2, 3}

    def told_by(exchange):
        grid.pushed.clear()
        list(exchange(1, world.initial))
        return {name: number for _, header, _ in grid.pushed for name, number in header["contributors"].items()}

    assert told_by(make()) == owners
    assert told_by(make(quorum=2)) == {name: number - 1 for name, number in owners.items()}
    assert set(told_by(make(quorum=1)).values()) == {1}, "whoever answers is one of them"
    few = make()
    few.participation = 0.3
    (alone,) = participants(list(world.owned), share=0.3, seed=RECIPE.run.seed, round=1)
    assert told_by(few) == dict.fromkeys(world.owned[alone], 1)


def test_a_site_that_would_be_alone_in_the_average_gives_nothing(world, federation, hospitals, monkeypatch):
    make, *_ = federation
    for hospital in hospitals.values():
        policy = replace(hospital.site.policy, min_contributors_per_component=2)
        monkeypatch.setattr(hospital, "site", replace(hospital.site, policy=policy))
    alone = make(attempts=1)
    alone.participation = 0.3
    with pytest.raises(FedkimError, match=r"\(E-POLICY-CONTRIBUTORS\)"):
        list(alone(1, world.initial))


def test_flowers_numpy_codec_is_never_called(world, federation, monkeypatch):
    def refuse(*_):
        raise AssertionError("decoded")

    for name in ("numpy", "from_numpy_ndarray", "from_torch_tensor"):
        monkeypatch.setattr(flwr.app.Array, name, refuse)
    make, *_ = federation
    assert len(list(make()(1, world.initial))) == 3


def test_asking_flower_to_decode_what_is_carried_is_an_error():
    content = pack({"round": 1}, b"\x00" * 10)
    with pytest.raises(TypeError, match=CODEC.replace(".", r"\.")):
        content.array_records["body"]["bytes"].numpy()
    assert unpack(content) == ({"round": 1}, b"\x00" * 10)


def test_only_registered_keys_get_a_message(world, federation):
    make, grid, _ = federation
    grid.connect(9, KEYS["stranger"], lambda header, body: pytest.fail("spoken to"))
    assert len(list(make()(1, world.initial))) == 3
    assert 9 not in {number for number, *_ in grid.pushed}


def test_a_site_that_hangs_costs_the_grace_once_the_quorum_is_there(world, federation):
    make, grid, events = federation
    grid.answers[2] = lambda header, body: None
    assert given(make(quorum=2)(1, world.initial)) == {"site-1", "site-3"}
    assert told(events, "absent") == [("site-2", "grace")]
    assert 10 <= module.time.now <= 15


def test_below_the_quorum_the_round_is_skipped_asked_again_and_then_ends_with_a_reason(world, federation):
    make, grid, events = federation
    grid.answers[1] = grid.answers[2] = lambda header, body: None
    got = []
    with pytest.raises(FedkimError, match=r"1 of 3 sites answered in 2 attempts.*site-1 \(no answer\), site-2"):
        got.extend(given(make(quorum=2)(1, world.initial)))
    assert [entry["step"] for entry in events if entry["event"] == "round-skipped"] == [1, 2]
    assert 200 <= module.time.now <= 210
    assert len([number for number, *_ in grid.pushed if number == 3]) == 1, "who has answered isn't asked again"


def test_error_replies_dont_count_and_the_site_is_asked_again_a_bounded_number_of_times(world, federation):
    make, grid, events = federation
    grid.answers[1] = lambda header, body: 5
    got = given(make(quorum=2)(1, world.initial))
    assert got == {"site-2", "site-3"}
    assert len([number for number, *_ in grid.pushed if number == 1]) <= round_so_far.MOST_QUESTIONS
    assert set(told(events, "transport-error")) == {("site-1", "flower-5")}


def test_a_site_whose_process_died_is_asked_again_when_another_connects(world, federation, hospitals):
    make, grid, _ = federation
    grid.answers[2] = lambda header, body: None
    exchange = make()
    rounds = exchange(1, world.initial)
    assert {next(rounds).site, next(rounds).site} == {"site-1", "site-3"}
    grid.connect(2, KEYS["site-2"], hospitals["site-2"].answer, activated="2")
    assert next(rounds).site == "site-2"


def test_the_start_waits_so_long_and_no_longer(world, federation):
    make, grid, _ = federation
    del grid.nodes[1]
    assert make(quorum=2).wait_for_sites() == ["site-2", "site-3"]
    assert module.time.now >= 20
    with pytest.raises(FedkimError, match=r"2 of 3 sites connected after 20 s.*missing: site-1"):
        make(quorum=3).wait_for_sites()


def _halved(sent):
    return State({key: tensor.half() for key, tensor in State.from_bytes(sent).items()}).to_bytes()


def spoiled(hospital, change):
    def answer(header, body):
        reply, sent = hospital.answer(header, body)
        return change(reply, sent)

    return answer


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda reply, sent: ({**reply, "nonce": "0" * 32}, sent), id="an answer to another question"),
        pytest.param(lambda reply, sent: ({**reply, "round": 7}, sent), id="of another round"),
        pytest.param(lambda reply, sent: ({**reply, "run": "another"}, sent), id="of another run"),
        pytest.param(lambda reply, sent: ({**reply, "site": "site-1"}, sent), id="in another's name"),
        pytest.param(lambda reply, sent: (reply, b"\xff" * 64), id="no safetensors"),
        pytest.param(lambda reply, sent: (reply, b""), id="no tensors"),
        pytest.param(lambda reply, sent: (reply, _halved(sent)), id="another type"),
        pytest.param(lambda reply, sent: (reply, b"\x00" * (1 << 22)), id="too long"),
        pytest.param(lambda reply, sent: ({**reply, "more": 1}, sent), id="a field more"),
        pytest.param(lambda reply, sent: ({"status": "ok"}, sent), id="fields missing"),
        pytest.param(lambda reply, sent: ({**reply, "seconds": 10**400}, sent), id="a number beyond all"),
        pytest.param(lambda reply, sent: ({**reply, "metrics": {"loss": 10**400}}, sent), id="a loss beyond all"),
        pytest.param(lambda reply, sent: ({**reply, "audit": "a" * 65}, sent), id="no head of a log"),
        pytest.param(lambda reply, sent: ({**reply, "metrics": {"loss.covid": 0.5}}, sent), id="no loss"),
        pytest.param(
            lambda reply, sent: (reply, State({"encoder.signal.x": torch.ones(2), "decoder.foreign.x": torch.ones(2)}).to_bytes()),
            id="another's component",
        ),
    ],
)  # fmt: skip
def test_what_isnt_the_answer_to_the_question_is_left_out_and_the_round_goes_on(change, world, federation, hospitals):
    make, grid, events = federation
    grid.answers[2] = spoiled(hospitals["site-2"], change)
    assert given(make(quorum=2)(1, world.initial)) == {"site-1", "site-3"}
    assert told(events, "rejected") == [("site-2", "E-MESSAGE")]


def test_more_examples_than_declared_are_the_gates_to_refuse(world, federation, hospitals):
    make, grid, _ = federation
    grid.answers[2] = spoiled(
        hospitals["site-2"],
        lambda reply, sent: ({**reply, "num_examples": dict.fromkeys(reply["num_examples"], 10**6)}, sent),
    )
    declared = {site: dict.fromkeys(owned, 1000) for site, owned in world.owned.items()}
    arrived = make(quorum=2)(1, world.initial)
    accepted, rejected = gate(arrived, round=1, state=world.initial, owned=world.owned, declared=declared)
    assert {update.site for update in accepted} == {"site-1", "site-3"}
    assert [(one.site, one.code) for one in rejected] == [("site-2", "E-COUNT")]


def test_a_header_nested_too_deep_is_one_sites_mistake_and_not_the_runs_end(world, federation, hospitals, monkeypatch):
    make, _, events = federation
    whole = unpack

    def deep(content):
        header, _ = whole(content)
        if header.get("site") == "site-2" and "status" in header:
            content.config_records["header"]["json"] = "[" * 100_000
        return whole(content)

    monkeypatch.setattr(module, "unpack", deep)
    assert given(make(quorum=2)(1, world.initial)) == {"site-1", "site-3"}
    assert told(events, "rejected") == [("site-2", "E-MESSAGE")]


def test_replayed_answers_are_never_taken_twice(world, federation, hospitals):
    make, grid, events = federation
    old = []

    def replay(header, body):
        if not old:
            old.append(hospitals["site-2"].answer(header, body))
        return old[0]

    grid.answers[2] = replay
    exchange = make(quorum=2)
    assert len(list(exchange(1, world.initial))) == 3
    for number in range(2, 6):
        assert given(exchange(number, world.initial)) == {"site-1", "site-3"}
    assert told(events, "rejected") == [("site-2", "E-MESSAGE")] * 4


def test_a_component_that_didnt_change_isnt_sent_again(world, federation):
    make, grid, _events = federation
    exchange = make()
    updates = list(exchange(1, world.initial))
    before = len(grid.pushed)
    list(exchange(2, world.initial))
    assert [len(body) for _, _, body in grid.pushed[before:]] == [0, 0, 0]
    trained = next(update for update in updates if update.site == "site-1").state
    before = len(grid.pushed)
    list(exchange(3, world.initial.updated(trained.slice(["encoder.signal"]))))
    owned = world.owned["site-1"]
    assert "encoder.signal" in owned
    assert grid.pushed[before][2] == b"", "the site's own update comes back to it by name"


def test_a_site_that_lost_its_memory_gets_the_whole_slice(world, federation, hospitals):
    make, grid, _ = federation
    exchange = make()
    list(exchange(1, world.initial))
    hospitals["site-1"]._kept = {}
    hospitals["site-1"]._last = None
    before = len(grid.pushed)
    assert len(list(exchange(2, world.initial))) == 3
    assert [len(body) > 0 for number, _, body in grid.pushed[before:] if number == 1] == [False, True]


def test_differences_in_bfloat16_halve_the_upload_and_keep_the_step(world, federation):
    make, _grid, events = federation
    exact = {update.site: update for update in make(run="a")(1, world.initial)}
    events.clear()
    exchange = make(run="b")
    exchange.uploads = "bfloat16"
    for update in exchange(1, world.initial):
        for key, tensor in update.state.items():
            step = exact[update.site].state[key] - world.initial[key]
            off = (tensor - exact[update.site].state[key]).abs()
            assert tensor.dtype == torch.float32
            assert bool((off <= step.abs() * 2**-8 + tensor.abs() * 2**-23).all())
    full = sum(update.state.num_bytes for update in exact.values())
    headers = sum(len(update.state.to_bytes()) for update in exact.values()) - full
    received = sum(event["received"] for event in events if event["event"] == "reply")
    assert received - headers == pytest.approx(full / 2, rel=0.05)


def test_a_refusal_is_told_by_its_code_and_nothing_leaves(world, federation, hospitals):
    make, _, events = federation
    hospital = hospitals["site-2"]
    site = hospital.site
    hospital.site = replace(site, policy=replace(site.policy, min_cohort=10_000))
    try:
        assert given(make(quorum=2)(1, world.initial)) == {"site-1", "site-3"}
    finally:
        hospital.site = site
    assert told(events, "refused") == [("site-2", "E-POLICY-COHORT")]


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda update: replace(update, metrics={**update.metrics, "loss": float("nan")}), "E-FINITE"),
        (lambda update: replace(update, num_examples={**update.num_examples, "encoder.image": 0}), "E-COUNT"),
        (lambda update: replace(update, state=State(dict(list(update.state.items())[1:]))), "E-KEYS"),
        (lambda update: replace(update, state=State({k: t * torch.nan for k, t in update.state.items()})), "E-FINITE"),
    ],
)
def test_what_the_gate_would_reject_doesnt_leave_the_site(spoil, code, world, federation, hospitals, monkeypatch):
    make, _, events = federation
    site = next(name for name, owned in world.owned.items() if "encoder.image" in owned)
    train = hospitals[site].train
    monkeypatch.setattr(hospitals[site], "train", lambda *given: spoil(train(*given)))
    left = len(hospitals[site].audit.answered("spoiled"))
    assert site not in given(make(run="spoiled", quorum=2)(1, world.initial))
    assert told(events, "refused") == [(site, code)]
    assert len(hospitals[site].audit.answered("spoiled")) == left


@pytest.mark.parametrize(
    ("error", "code", "logged"),
    [
        (ZeroDivisionError("Jane Canary Doe"), "E-FAILED", "ZeroDivisionError"),
        (FedkimError("a table", found="none"), "E-TRAINING", "a table, found none"),
        (DivergedError("site", code="E-DIVERGED"), "E-DIVERGED", "site"),
    ],
)
def test_a_failure_leaves_as_its_code_and_is_logged_without_a_value(
    error, code, logged, world, federation, hospitals, monkeypatch, capsys
):
    def fail(*_):
        raise error

    make, _, events = federation
    monkeypatch.setattr(hospitals["site-2"], "train", fail)
    assert given(make(quorum=2)(1, world.initial)) == {"site-1", "site-3"}
    assert told(events, "failed") == [("site-2", code)]
    assert not told(events, "refused")
    out = capsys.readouterr().out
    assert logged in out
    assert "Canary" not in out


def test_refusals_end_a_round_at_once_with_their_codes(world, federation):
    make, grid, _ = federation
    known = ("run", "round", "site", "nonce")
    for number in (1, 2, 3):
        grid.answers[number] = lambda header, body: (
            {**{name: header[name] for name in known}, "status": "refused", "code": "E-POLICY-RECIPE"},
            b"",
        )
    with pytest.raises(FedkimError, match=r"0 of 3 .*site-1 \(E-POLICY-RECIPE\)"):
        list(make()(1, world.initial))
    assert module.time.now < 5


def test_a_worker_that_is_being_started_is_asked_again_after_a_while(world, federation, hospitals):
    make, grid, events = federation
    away = []

    def answer(header, body):
        away.append(header)
        known = {name: header[name] for name in ("run", "round", "site", "nonce")}
        if len(away) < 3:
            return {**known, "status": "failed", "code": "E-WORKER"}, b""
        return hospitals["site-2"].answer(header, body)

    grid.answers[2] = answer
    assert len(list(make()(1, world.initial))) == 3
    assert told(events, "worker-away") == [("site-2", None)] * 2
    assert module.time.now > round_so_far.AGAIN * 2


def test_a_worker_that_reads_its_data_for_long_is_waited_for_and_no_question_is_counted(
    world, federation, hospitals, monkeypatch
):
    make, grid, _ = federation
    asked = []

    def answer(header, body):
        asked.append(module.time.now)
        known = {name: header[name] for name in ("run", "round", "site", "nonce")}
        if module.time.now < 90:  # of the deadline's 100 seconds
            return {**known, "status": "failed", "code": "E-WORKER"}, b""
        return hospitals["site-2"].answer(header, body)

    grid.answers[2] = answer
    monkeypatch.setattr(round_so_far, "LONGEST_WAIT", 7.0)
    assert len(list(make()(1, world.initial))) == 3
    assert len(asked) > round_so_far.MOST_QUESTIONS
    assert max(later - sooner for sooner, later in pairwise(asked)) < 12


def test_a_reply_that_flower_cannot_unpack_is_its_sites_alone(world, federation):
    make, grid, events = federation
    whole = grid.pull_messages

    def pull(identities):
        found = whole(identities)  # Flower deletes what it hands out, before it is unpacked
        if any(grid.pushed[int(message.metadata.reply_to_message_id.split("-")[1])][0] == 1 for message in found):
            raise KeyError("an object that names a child of nobody")
        return found

    grid.pull_messages = pull
    assert given(make(quorum=2)(1, world.initial)) == {"site-2", "site-3"}
    assert set(told(events, "transport-error")) == {("site-1", "pull-KeyError")}
    with pytest.raises(FedkimError, match=r"site-1 \(E-MESSAGE\)"):
        list(make(quorum=3)(2, world.initial))
    asked = [number for number, header, _ in grid.pushed if header["round"] == 2 and number == 1]
    assert len(asked) == 2 * round_so_far.MOST_UNREADABLE, "in each of two attempts"


def test_a_question_that_cannot_be_handed_over_is_tried_again(world, federation):
    make, grid, events = federation
    whole, failures = grid.push_messages, []

    def push(messages):
        if messages[0].metadata.dst_node_id == 3 and len(failures) < 2:
            failures.append(messages)
            raise OSError("no room on the disk")
        return whole(messages)

    grid.push_messages = push
    assert len(list(make()(1, world.initial))) == 3
    assert told(events, "transport-error") == [("site-3", "push-OSError")] * 2


def http_500():
    """What Flower's Grid raises when the SuperLink has an error of its own."""
    request = httpx.Request("POST", "https://127.0.0.1")
    return httpx.HTTPStatusError("500", request=request, response=httpx.Response(500, request=request))


def reasons(answers):
    return {answer.site: (answer.code, answer.reason) for answer in answers if isinstance(answer, Rejection)}


def known(header):
    return {name: header[name] for name in ("run", "round", "site", "nonce")}


def test_where_flower_cannot_say_who_is_connected_it_goes_by_what_it_said_last(world, federation):
    make, grid, events = federation
    whole, looks = grid.get_nodes, []

    def look():
        looks.append(None)
        if len(looks) in (1, 3):  # as the sites are waited for, and as the round begins
            raise http_500()
        return whole()

    grid.get_nodes = look
    exchange = make()
    assert exchange.wait_for_sites() == ["site-1", "site-2", "site-3"]
    assert len(list(exchange(1, world.initial))) == 3
    assert told(events, "transport-error") == [(None, "nodes-HTTPStatusError")] * 2
    assert module.time.now < 3, "a round doesn't wait for the next roll call"


def test_an_outage_of_the_superlink_is_no_sites_fault_and_ends_no_attempt(world, federation):
    make, grid, events = federation
    whole = grid.pull_messages

    def pull(identities):
        if module.time.now < 20:
            raise http_500()
        return whole(identities)

    grid.pull_messages = pull
    assert given(make(attempts=1)(1, world.initial)) == {"site-1", "site-2", "site-3"}
    assert {reason for _, reason in told(events, "transport-error")} == {"pull-HTTPStatusError"}


def test_what_was_wrong_with_an_earlier_answer_isnt_said_of_a_site_that_gives_none(world, federation):
    make, grid, _ = federation
    whole, spoilt = grid.pull_messages, []

    def pull(identities):
        found = whole(identities)
        if found and not spoilt and grid.pushed[int(identities[0].split("-")[1])][0] == 1:
            spoilt.append(found)
            grid.answers[1] = lambda header, body: None
            raise KeyError("an object that names a child of nobody")
        return found

    grid.pull_messages = pull
    assert reasons(make(quorum=2)(1, world.initial)) == {"site-1": ("E-ABSENT", "no answer in time")}


def test_a_question_that_is_no_request_is_told_as_such_on_both_sides(world, federation, hospitals, capsys):
    make, grid, events = federation
    grid.answers[2] = lambda header, body: hospitals["site-2"].answer({**header, "more": "Jane Canary Doe"}, body)
    assert reasons(make(quorum=2)(1, world.initial))["site-2"][0] == "E-REQUEST"
    assert told(events, "refused") == [("site-2", "E-REQUEST")]
    out = capsys.readouterr().out
    assert "a request's header, found other fields" in out
    assert "Canary" not in out


def test_a_site_whose_worker_is_down_all_round_is_left_out_for_that(world, federation):
    make, grid, _ = federation
    grid.answers[2] = lambda header, body: ({**known(header), "status": "failed", "code": "E-WORKER"}, b"")
    assert reasons(make(quorum=2)(1, world.initial)) == {"site-2": ("E-WORKER", "its worker isn't running")}


def test_a_site_that_always_lacks_something_is_left_out_for_that(world, federation):
    make, grid, events = federation
    grid.answers[2] = lambda header, body: ({**known(header), "status": "need"}, b"")
    assert reasons(make(quorum=2)(1, world.initial)) == {"site-2": ("E-QUESTIONS", "asked too often")}
    assert told(events, "absent") == [("site-2", "asked-too-often")]
    assert len([number for number, *_ in grid.pushed if number == 2]) == round_so_far.MOST_QUESTIONS


@pytest.mark.parametrize("refused", [[], [None]])
def test_a_question_that_flower_doesnt_take_is_tried_again_and_after_some_times_no_more(refused, world, federation):
    make, grid, events = federation
    whole, refusals = grid.push_messages, []

    def push(messages, times):
        if messages[0].metadata.dst_node_id == 3 and len(refusals) < times:
            refusals.append(messages)
            return refused
        return whole(messages)

    grid.push_messages = lambda messages: push(messages, 2)
    assert given(make(attempts=1)(1, world.initial)) == {"site-1", "site-2", "site-3"}
    assert told(events, "transport-error") == [("site-3", "push-refused")] * 2
    grid.push_messages = lambda messages: push(messages, 100)
    assert reasons(make(quorum=2)(2, world.initial)) == {"site-3": ("E-PUSH", "Flower doesn't take the question")}
    refusals.clear()
    with pytest.raises(FedkimError, match=r"site-3 \(E-PUSH\)"):
        list(make(attempts=1)(3, world.initial))
    assert len(refusals) == round_so_far.MOST_QUESTIONS


@pytest.mark.parametrize("part", ["push_messages", "pull_messages"])
def test_a_site_that_could_not_be_reached_until_the_deadline_is_not_said_to_have_been_silent(part, world, federation):
    make, grid, _ = federation
    whole = getattr(grid, part)

    def fail(given):
        first = given[0]
        node = first.metadata.dst_node_id if part == "push_messages" else grid.pushed[int(first.split("-")[1])][0]
        if node == 1:
            raise httpx.ConnectError("away")
        return whole(given)

    setattr(grid, part, fail)
    assert reasons(make(quorum=2)(1, world.initial)) == {
        "site-1": ("E-TRANSPORT", "the connection to the SuperLink failed")
    }


def test_the_head_of_the_log_is_kept_of_an_update_that_was_refused_too(world, federation, hospitals):
    make, grid, events = federation

    def spoilt(header, body):
        answer, weights = hospitals["site-2"].answer(header, body)
        return answer, weights[:-1]

    grid.answers[2] = spoilt
    assert "site-2" in reasons(make(quorum=2)(1, world.initial))
    (rejected,) = [entry for entry in events if entry["event"] == "rejected"]
    last = hospitals["site-2"].site.audit.read_text(encoding="utf-8").splitlines()[-1]
    assert rejected["digest"] == json.loads(last)["hash"]


def test_the_first_wait_is_the_shortest_and_however_often_a_site_fails_none_is_longer_than_the_longest():
    ours = RoundSoFar(number=1, slices={})
    waits = []
    for _ in range(2000):
        assert ours.count_question("site-1")
        ours.later("site-1", 100.0)
        waits.append(ours.not_before["site-1"] - 100.0)
    assert waits[:3] == [round_so_far.AGAIN, 2 * round_so_far.AGAIN, 4 * round_so_far.AGAIN]
    assert waits[-1] == max(waits) == round_so_far.LONGEST_WAIT
