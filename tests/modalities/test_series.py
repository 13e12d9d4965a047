import math

import numpy as np
import pandas as pd
import pytest
import torch

from fedkim.errors import FedkimError
from fedkim.modalities import series
from fedkim.modalities.concepts import CONCEPTS, INPUTS, LABS, OUTPUTS, VITALS

HR = VITALS[0]
COLUMN = {concept.name: number for number, concept in enumerate(VITALS)}


def table(**columns) -> pd.DataFrame:
    return pd.DataFrame({"hour": range(24), **columns})


def prepare(frame: pd.DataFrame, concepts) -> torch.Tensor:
    """By hand: one row an hour, one column a concept, then the preprocessing."""
    hourly = (frame.set_index("hour") if "hour" in frame else frame).reindex(range(24))
    return series.prepare_values(hourly.reindex(columns=[c.name for c in concepts]).to_numpy(np.float64), concepts)


def test_every_measurement_has_one_place_and_an_order_of_magnitude_that_makes_sense():
    names = [concept.name for group in CONCEPTS.values() for concept in group]
    assert len(names) == len(set(names)) == 48
    assert [len(group) for group in CONCEPTS.values()] == [7, 39, 1, 1]
    for group in CONCEPTS.values():
        for concept in group:
            typical = math.expm1(concept.mean) if concept.log else concept.mean
            assert concept.low < typical < concept.high, concept.name
            assert concept.sd > 0
            assert concept.unit


def test_values_are_standardised_forward_filled_and_flagged():
    hr = [np.nan] * 24
    hr[3], hr[10] = 103.0, 67.0
    tensor = prepare(table(hr=hr), VITALS)
    assert tensor.shape == (24, 14)
    values, flags = tensor[:, COLUMN["hr"]], tensor[:, 7 + COLUMN["hr"]]
    assert values.tolist() == [0.0] * 3 + [1.0] * 7 + [-1.0] * 14  # (103 − 85) / 18 and (67 − 85) / 18
    assert flags.nonzero().flatten().tolist() == [3, 10]
    assert not tensor[:, [n for n in range(14) if n not in (0, 7)]].any()


def test_skewed_quantities_are_scaled_by_their_logarithm():
    urine = OUTPUTS[0]
    tensor = prepare(table(urine=[90.0] * 12 + [91 * 2.8 - 1] * 12), OUTPUTS)
    torch.testing.assert_close(tensor[:, 0], torch.tensor([0.0] * 12 + [1.0] * 12), rtol=0, atol=1e-6)
    assert urine.log


def test_implausible_values_count_as_not_observed():
    hr = [80.0] * 24
    hr[5], hr[6] = 0.0, 9999.0
    frame = table(hr=hr, sbp=[120.0] * 24)
    tensor = prepare(frame, VITALS)
    assert (tensor[:, 7] == 0).nonzero().flatten().tolist() == [5, 6]
    assert len(tensor[:, 0].unique()) == 1


def test_extremes_are_clipped_at_five():
    tensor = prepare(table(o2sat=[30.0] * 24), VITALS)
    assert tensor[:, COLUMN["o2sat"]].unique().tolist() == [-5.0]


def test_order_of_rows_and_columns_and_index_or_column_hour_do_not_matter():
    rng = np.random.default_rng(0)
    frame = table(hr=rng.normal(85, 10, 24), temp=rng.normal(37, 0.5, 24), sbp=rng.normal(120, 9, 24))
    expected = prepare(frame, VITALS)
    assert torch.equal(prepare(frame.sample(frac=1, random_state=1)[["sbp", "hour", "temp", "hr"]], VITALS), expected)
    assert torch.equal(prepare(frame.set_index("hour"), VITALS), expected)


def test_a_window_ends_at_the_last_row_whatever_its_hour():
    frame = pd.DataFrame({"hour": range(40), "hr": np.arange(60.0, 100.0)})
    day = series.read_table(frame)["vitals"]
    assert day[23, 0] == pytest.approx((83 - HR.mean) / HR.sd)
    late = series.read_table(frame, until_hour=36)["vitals"]
    assert late[23, 0] == pytest.approx((95 - HR.mean) / HR.sd)
    early = series.read_table(frame, until_hour=6)["vitals"]
    assert early[23, 0] == pytest.approx((65 - HR.mean) / HR.sd)
    assert not early[:18].any()
    assert early[18:, 7].all()


def test_values_that_nobody_can_show_are_told_by_concept_and_never_repeated(tmp_path):
    frame = table(crea=[97.25] * 24, hr=[80.0] * 24, hgb=[11.0] * 23 + [500.0])  # creatinine in µmol/L
    path = write(tmp_path, frame)
    for told in (series.implausible(frame, "labs"), series.implausible(path, "labs")):
        assert len(told) == 2
        assert any(line.startswith("crea: 24 of 24 values outside") and "mg/dL" in line for line in told)
        assert any(line.startswith("hgb: 1 of 24 values outside") for line in told)
        assert "97.25" not in "".join(told)
    assert series.implausible(path, "vitals") == []
    assert [line.split(":")[0] for line in series.implausible(path, "labs", until_hour=23)] == [
        "crea"
    ]  # hgb comes later


def test_a_window_never_sees_the_hours_after_its_end():
    frame = pd.DataFrame({"hour": range(40), "hr": np.arange(60.0, 100.0)})
    changed = frame.assign(hr=frame["hr"].where(frame["hour"] < 20, 200.0))
    assert torch.equal(*(series.read_table(table, until_hour=20)["vitals"] for table in (frame, changed)))
    assert not torch.equal(*(series.read_table(table, until_hour=21)["vitals"] for table in (frame, changed)))


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_reading_a_table_equals_preparing_its_stay(tmp_path, ending):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "stay_id": np.repeat([7, 8], 30),
            "hour": list(range(30)) * 2,
            "hr": rng.normal(85, 10, 60),
            "crea": rng.gamma(2, 0.6, 60),
            "fio2": 40.0,
        }
    )
    path = tmp_path / f"t{ending}"
    frame.to_csv(path, index=False) if ending == ".csv" else frame.to_parquet(path)
    tensors = series.read_table(path, stay=8)
    assert list(tensors) == ["vitals", "labs", "inputs"]  # no urine column: the caller must miss 'outputs'
    eighth = frame[frame["stay_id"] == 8]
    for name, tensor in tensors.items():
        expected = prepare(eighth, CONCEPTS[name])
        torch.testing.assert_close(tensor, expected, rtol=0, atol=1e-6)


def test_the_published_layout_with_time_since_admission_is_read(tmp_path):
    frame = pd.DataFrame({"stay_id": 1, "time": pd.to_timedelta(range(25), unit="h"), "hr": 85.0})
    frame.to_parquet(tmp_path / "dyn.parquet")
    tensor = series.read_table(tmp_path / "dyn.parquet")["vitals"]
    assert tensor[:, 7].sum() == 24


def write(tmp_path, frame: pd.DataFrame):
    frame.to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


@pytest.mark.parametrize(
    ("frame", "arguments", "message"),
    [
        (pd.DataFrame({"stay_id": [1, 2], "hour": [0, 0], "hr": 80.0}), {}, "2 stays, expected one; say which stay"),
        (pd.DataFrame({"stay_id": [1, 1], "hour": [0, 1], "hr": 80.0}), {"stay": 3}, "no stay 3"),
        (pd.DataFrame({"hour": [0, 0], "hr": 80.0}), {}, "an hour twice"),
        (pd.DataFrame({"hr": [80.0]}), {}, "neither column hour nor time"),
        (pd.DataFrame({"hour": [0], "pulse": 80.0}), {}, "none of the known columns"),
        (pd.DataFrame({"hour": [0], "hr": "fast"}), {}, "column 'hr', found text, expected numbers in beats/min"),
        (
            pd.DataFrame({"hour": [0], "crea [g/L]": 90.0}),
            {},
            "'crea', found unit 'g/L', expected mg/dL, or one that converts: umol/l",
        ),
        (pd.DataFrame({"hour": [0], "hr": 80.0, "hr [beats/min]": 80.0}), {}, "'hr', found it twice"),
        (pd.DataFrame({"hour": [0], "hr": 1e6}), {}, "no plausible measurement"),
        (pd.DataFrame({"hour": [30], "hr": 80.0}), {}, "no plausible measurement"),
    ],
)
def test_bad_tables_are_named(tmp_path, frame, arguments, message):
    with pytest.raises(FedkimError, match=message):
        series.read_table(write(tmp_path, frame), **arguments)


def test_bad_files_are_named(tmp_path):
    with pytest.raises(FedkimError, match="no such file"):
        series.read_table(tmp_path / "absent.csv")
    with pytest.raises(FedkimError, match="ending"):
        series.read_table(tmp_path / "t.xlsx")
    (tmp_path / "broken.parquet").write_text("hello")
    with pytest.raises(FedkimError, match="unreadable"):
        series.read_table(tmp_path / "broken.parquet")


def test_a_unit_in_the_header_is_accepted_when_it_is_right(tmp_path):
    path = write(tmp_path, pd.DataFrame({"hour": range(24), "crea [mg/dL]": 1.1}))
    assert series.read_table(path)["labs"][:, len(LABS) :].sum() == 24


def test_augmentation_blanks_a_fifth_and_keeps_the_mean():
    batch = torch.ones(200, 24, 2 * len(INPUTS))
    changed = series.augment(batch, torch.Generator().manual_seed(0))
    assert (changed == 0).float().mean() == pytest.approx(0.2, abs=0.02)
    assert changed.mean() == pytest.approx(1.0, abs=0.02)
