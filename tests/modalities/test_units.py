import numpy as np
import pytest

from fedkim.errors import FedkimError
from fedkim.modalities.units import BY_NAME, CONVERSIONS, conversion, suspicion


@pytest.mark.parametrize(
    ("concept", "value", "unit", "expected"),
    [
        ("crea", 88.42, "µmol/L", 1.0),
        ("crea", 0.08842, "mmol/L", 1.0),
        ("glu", 5.55, "mmol/L", 100.0),
        ("bun", 7.14, "mmol/L", 20.0),
        ("bili", 17.1, "umol/l", 1.0),
        ("temp", 98.6, "°F", 37.0),
        ("temp", 37.0, "C", 37.0),
        ("hgb", 105, "g/L", 10.5),
        ("hgb", 6.2, "mmol/L", 10.0),
        ("fio2", 0.21, "fraction", 21.0),
        ("po2", 13.3, "kPa", 100.0),
        ("lact", 18.0, "mg/dL", 2.0),
        ("tnt", 14, "ng/L", 0.014),
        ("plt", 250_000, "/µL", 250.0),
        ("plt", 250, "10⁹/L", 250.0),
        ("wbc", 11, "K/uL", 11.0),
        ("mg", 0.82, "mmol/L", 2.0),
        ("ca", 2.1, "mmol/L", 8.4),
        ("phos", 1.1, "mmol/L", 3.4),
        ("fgn", 3.0, "g/L", 300.0),
        ("urine", 0.09, "L", 90.0),
        ("k", 4.1, "mmol/L", 4.1),
    ],
)
def test_the_same_state_of_a_patient_in_another_unit_becomes_the_concepts_own(concept, value, unit, expected):
    rule = conversion(concept, unit)
    assert value * rule.factor + rule.offset == pytest.approx(expected, rel=0.01)


def test_every_concept_has_its_own_unit_and_no_rule_turns_a_value_around():
    for name, concept in BY_NAME.items():
        assert conversion(name, concept.unit).factor == 1
    assert set(CONVERSIONS) <= set(BY_NAME)
    assert all(rule.factor > 0 for rules in CONVERSIONS.values() for rule in rules.values())


def test_a_unit_of_something_else_is_refused():
    with pytest.raises(FedkimError, match="'kg' of 'crea', expected mg/dL, or one that converts: umol/l") as caught:
        conversion("crea", "kg")
    assert caught.value.code == "E-UNIT-UNKNOWN"


@pytest.mark.parametrize(
    ("concept", "factor", "code"),
    [("crea", 88.42, "E-UNIT"), ("fio2", 0.01, "E-UNIT"), ("temp", 2.67, "E-UNIT"), ("ca", 0.25, "E-UNIT"),
     ("glu", 1 / 18.016, "W-UNIT"), ("bili", 17.1, "W-UNIT"), ("lact", 9.0, "W-UNIT")],
)  # fmt: skip
def test_values_in_another_unit_are_suspected_and_right_ones_are_not(concept, factor, code):
    record = BY_NAME[concept]
    spread = np.random.default_rng(0).normal(record.mean, record.sd / 4, 500)
    values = np.expm1(spread) if record.log else spread
    assert suspicion(record, values) is None
    assert suspicion(record, values * factor)[0] == code


def test_a_few_values_are_no_ground_for_suspicion():
    assert suspicion(BY_NAME["crea"], np.full(9, 97.0)) is None
    assert suspicion(BY_NAME["crea"], np.array([np.nan] * 500)) is None
