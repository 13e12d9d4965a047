import pytest

from fedkim.m3oe import Route, routes_record
from fedkim.progress import Silent
from fedkim.run.pipeline import federate
from fedkim.run.routes import round_routes, tell_routes
from fedkim.store.run_store import RunStore
from small_recipe import small
from toy_server import TASKS, make_injector, stir


class Told(Silent):
    """Remembers the lines."""

    def __init__(self):
        self.lines = []

    def line(self, text):
        self.lines.append(text)


@pytest.fixture
def store(tmp_path):
    with RunStore.open(tmp_path / "run", small()) as store:
        yield store


def record(**weights):
    return routes_record([Route(task=task, modalities=("image",), weights=alpha) for task, alpha in weights.items()])


HEALTHY = record(bright=(0.5, 0.3, 0.2), fast=(0.2, 0.3, 0.5))
COLLAPSED = record(bright=(0.99, 0.005, 0.005), fast=(0.2, 0.3, 0.5))
SAME = record(bright=(0.5, 0.3, 0.2), fast=(0.5, 0.3, 0.2))


def test_every_route_of_a_round_is_an_event(store):
    tell_routes(HEALTHY, None, round=3, store=store, progress=Told())
    events = [{key: value for key, value in event.items() if key != "time"} for event in store.events]
    assert events[:2] == [
        {"event": "route", "round": 3, "task": "bright", "entropy": HEALTHY["entropy"]["bright"], "expert": 0, "value": 0.5},
        {"event": "route", "round": 3, "task": "fast", "entropy": HEALTHY["entropy"]["fast"], "expert": 2, "value": 0.5},
    ]  # fmt: skip
    assert events[2:] == [{"event": "router", "round": 3, "variation": 0.3, "low": 0.3, "high": 0.35}]


def test_a_collapse_is_an_event_in_every_round_and_a_line_in_its_first(store):
    told = Told()
    tell_routes(COLLAPSED, HEALTHY, round=2, store=store, progress=told)
    assert told.lines == [f"warning: {COLLAPSED['warnings'][0]}"]
    assert "bright (image) has collapsed" in told.lines[0]
    tell_routes(COLLAPSED, COLLAPSED, round=3, store=store, progress=told)
    assert len(told.lines) == 1
    collapsed = [(event["round"], event["task"]) for event in store.events if event["event"] == "collapsed"]
    assert collapsed == [(2, "bright"), (3, "bright")]
    tell_routes(COLLAPSED, HEALTHY, round=4, store=store, progress=told)
    assert len(told.lines) == 2  # it had recovered in between


def test_a_router_that_tells_no_task_from_another_is_told_too(store):
    told = Told()
    tell_routes(SAME, None, round=1, store=store, progress=told)
    assert "tells no task from another" in told.lines[0]
    assert [event["event"] for event in store.events][-1] == "indistinct"


def test_the_history_of_a_round_holds_each_seen_tasks_route():
    injector = stir(make_injector(), scale=0.5)
    told = round_routes(injector, [TASKS["bright"], TASKS["fast"]])
    assert set(told["routes"]["tasks"]) == {"bright", "fast"}
    assert told["routes"]["router"] == injector.network.base_model.router_digest()
    assert told["entropy"] == pytest.approx(
        (injector.route("bright").entropy + injector.route("fast").entropy) / 2, abs=1e-5
    )
    assert round_routes(make_injector(experts=0), [TASKS["bright"]]) == {}


def test_a_run_tells_its_routes_round_by_round(tmp_path):
    rounds = list(federate(small("federation.rounds=2"), out=tmp_path / "run"))
    events = [event for event in RunStore(tmp_path / "run").events if event["event"] == "route"]
    assert [(event["round"], event["task"]) for event in events] == [
        (number, task) for number in (1, 2) for task in ("lung_opacity", "ecg_abnormal")
    ]
    for finished in rounds:
        assert set(finished.injection["routes"]["tasks"]) == {"lung_opacity", "ecg_abnormal"}
