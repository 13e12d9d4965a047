from dataclasses import replace

import pytest

from fedkim.engines.flower.messages import Request
from fedkim.errors import FedkimError
from fedkim.site.policy import Policy, objection, policy_from

POLICY = Policy(
    recipe="recipe.toml", recipe_digest="abc", tasks=("covid",), modalities=("image",), min_cohort=20, max_rounds=3
)
REQUEST = Request(
    run="run",
    round=1,
    site="ward",
    nonce="0",
    recipe="abc",
    base="",
    components={"encoder.image": "1", "decoder.covid": "2"},
    contributors={"encoder.image": 2, "decoder.covid": 3},
)
COHORTS = {"encoder.image": 20, "decoder.covid": 20}


def code(request=REQUEST, policy=POLICY, cohorts=COHORTS, answered=()):
    found = objection(policy, request, site="ward", cohorts=cohorts, answered=set(answered))
    return found.code if found else None


def test_what_the_policy_allows_is_answered():
    assert code() is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"site": "other"}, "E-POLICY-SITE"),
        ({"recipe": "abd"}, "E-POLICY-RECIPE"),
        ({"recipe": ""}, "E-POLICY-RECIPE"),
        ({"round": 0}, "E-POLICY-ROUNDS"),
        ({"components": {"encoder.image": "1"}}, "E-POLICY-COMPONENT"),
        ({"components": {**REQUEST.components, "encoder.signal": "3"}}, "E-POLICY-COMPONENT"),
        ({"components": {}}, "E-POLICY-COMPONENT"),
        ({"contributors": {"encoder.image": 1, "decoder.covid": 3}}, "E-POLICY-CONTRIBUTORS"),
        ({"contributors": {}}, "E-POLICY-CONTRIBUTORS"),
    ],
)
def test_each_limit_refuses(change, expected):
    assert code(replace(REQUEST, **change)) == expected


def test_too_few_patients_behind_one_component_refuse_all():
    assert code(cohorts={**COHORTS, "decoder.covid": 19}) == "E-POLICY-COHORT"


def test_rounds_are_counted_and_an_answered_one_may_be_asked_for_again():
    answered = [(1, "a"), (2, "b"), (3, "c")]
    assert code(replace(REQUEST, round=4, base="d"), answered=answered) == "E-POLICY-ROUNDS"
    assert code(replace(REQUEST, round=3, base="c"), answered=answered) is None
    assert code(replace(REQUEST, round=9, base="d"), answered=answered[:2]) is None


def test_one_round_from_ever_other_weights_is_no_way_around_the_limit():
    answered = [(1, "a"), (1, "b"), (1, "c")]
    assert code(replace(REQUEST, round=1, base="d"), answered=answered) == "E-POLICY-ROUNDS"
    assert code(replace(REQUEST, round=1, base="b"), answered=answered) is None


TABLE = {"recipe": "r.toml", "recipe_digest": "abc", "tasks": ["covid"], "modalities": ["image"]}


def test_a_table_becomes_a_policy_with_cautious_defaults():
    policy = policy_from(TABLE, source="site.toml")
    assert (policy.min_cohort, policy.min_contributors_per_component, policy.max_bytes) == (20, 2, 16_000_000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_cohort": 0}, "at least 1"),
        ({"min_cohort": True}, "whole number"),
        ({"max_bytes": 1.5}, "whole number"),
        ({"tasks": "covid"}, "a list"),
        ({"max_rouds": 3}, "did you mean 'max_rounds'"),
        ({"recipe_digest": ""}, "text"),
    ],
)
def test_a_mistake_is_no_permission(change, message):
    with pytest.raises(FedkimError, match=message):
        policy_from({**TABLE, **change}, source="site.toml")


@pytest.mark.parametrize("missing", list(TABLE))
def test_without_what_decides_nothing_may_leave(missing):
    with pytest.raises(FedkimError, match="nothing may leave"):
        policy_from({name: value for name, value in TABLE.items() if name != missing}, source="site.toml")
