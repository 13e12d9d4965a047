import numpy as np
import pandas as pd
import pytest
import torch

from fedkim.errors import FedkimError
from fedkim.modalities import series
from fedkim.modalities.series_columns import name_and_unit


def save(folder, frame: pd.DataFrame, name: str = "t.csv"):
    path = folder / name
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path)
    return path


def same(first, second) -> bool:
    return list(first) == list(second) and all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)


WIDE = pd.DataFrame({"hour": range(24), "hr": np.arange(60.0, 84.0), "crea": 1.1, "urine": 50.0})


def long_table(**units) -> pd.DataFrame:
    rows = [
        {"hour": hour, "concept": name, "value": WIDE.loc[hour, name] / factor, "unit": unit}
        for name, (unit, factor) in units.items()
        for hour in range(24)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def expected(tmp_path):
    return series.read_table(save(tmp_path, WIDE, "wide.csv"))


def test_a_long_table_is_the_wide_one_whatever_its_units_and_order(tmp_path, expected):
    table = long_table(hr=("bpm", 1), crea=("µmol/L", 1 / 88.42), urine=("mL", 1))
    assert same(series.read_table(save(tmp_path, table.sample(frac=1, random_state=0))), expected)
    assert same(series.read_table(save(tmp_path, table, "t.parquet")), expected)


def test_an_hour_of_a_long_table_is_the_median_of_states_and_the_sum_of_amounts(tmp_path, expected):
    parts = [long_table(hr=("bpm", 1), crea=("mg/dL", 1), urine=("mL", 2)) for _ in range(2)]
    outlier = pd.DataFrame({"hour": 5.9, "concept": ["crea"], "value": 9.0, "unit": "mg/dL"})
    assert same(series.read_table(save(tmp_path, pd.concat([*parts, outlier]))), expected)


def test_a_unit_in_the_header_or_declared_is_converted(tmp_path, expected):
    other = WIDE.assign(crea=WIDE["crea"] * 88.42)
    assert same(series.read_table(save(tmp_path, other.rename(columns={"crea": "crea [umol/L]"}))), expected)
    assert same(series.read_table(save(tmp_path, other, "u.csv"), units={"crea": "µmol/L"}), expected)
    assert not same(series.read_table(save(tmp_path, other, "v.csv")), expected)


def test_a_row_s_own_unit_goes_before_the_declared_one_and_an_empty_cell_takes_it(tmp_path, expected):
    table = long_table(hr=("bpm", 1), crea=("µmol/L", 1 / 88.42), urine=("", 1))
    for name in ("t.csv", "t.parquet"):
        assert same(series.read_table(save(tmp_path, table, name), units={"crea": "mg/dL", "urine": "mL"}), expected)
        assert same(series.read_table(save(tmp_path, table, name), units="yaib"), expected)
        with pytest.raises(FedkimError, match=r"'urine', found no unit, .*--units yaib"):
            series.read_table(save(tmp_path, table, name))
    nothing = table.assign(unit=table["unit"].replace("", None))
    assert same(series.read_table(save(tmp_path, nothing, "n.parquet"), units={"urine": "mL"}), expected)


def test_the_unit_of_a_header_is_what_its_last_brackets_hold():
    parts = {
        "crea": ("crea", None),
        " crea ( mg/dL ) ": ("crea", "mg/dL"),
        "crea [mg/dL].1": ("crea", "mg/dL"),
        "crea.1": ("crea", None),
        "Herzfrequenz (HF) [1/min]": ("Herzfrequenz (HF)", "1/min"),
        "plt [10^3/(uL)]": ("plt", "10^3/(uL)"),
        "x)": ("x)", None),
    }
    assert {header: name_and_unit(header) for header in parts} == parts


def test_an_ending_and_names_of_columns_may_be_in_capitals_and_the_latter_are_told(tmp_path, expected):
    for name in ("T.CSV", "T.PARQUET"):
        path = save(tmp_path, WIDE, name.lower()).rename(tmp_path / name)
        assert same(series.read_table(path), expected)
        assert series.overlooked(path) == []
    told = ["'HR' isn't read; did you mean 'hr'?"]
    assert series.overlooked(save(tmp_path, WIDE.rename(columns={"hr": "HR [beats/min]"}))) == told
    assert series.overlooked(long_table(hr=("bpm", 1), crea=("mg/dL", 1)).replace("hr", "HR")) == told


TWO_STAYS = pd.concat([WIDE.assign(stay_id=1), WIDE.assign(stay_id=2, hr=140.0)])
LONG = long_table(hr=("bpm", 1), crea=("mg/dL", 1), urine=("mL", 1))


@pytest.mark.parametrize(
    ("table", "header"),
    [
        (TWO_STAYS, {"stay_id": "Stay_ID"}),
        (TWO_STAYS, {"stay_id": " stay_id"}),
        (pd.concat([LONG.assign(stay_id=1), LONG.assign(stay_id=2)]), {"stay_id": "STAY_ID"}),
        (WIDE, {"hour": "Hour"}),
        (LONG, {"unit": "Unit"}),
        (LONG, {"value": "Value"}),
    ],
)
def test_a_column_that_tells_rows_apart_isn_t_passed_over_for_its_capitals(tmp_path, table, header):
    ((meant, written),) = header.items()
    other = table.rename(columns=header)
    for given in (other, save(tmp_path, other), save(tmp_path, other, "t.parquet")):
        with pytest.raises(FedkimError, match=rf"found a column '{written}', expected '{meant}'; rename it"):
            series.read_table(given, units="yaib")


@pytest.mark.parametrize(("surplus", "refused"), [(",", False), (",,", True), (",7", True)])
def test_a_cell_behind_the_last_column_shifts_no_name(tmp_path, expected, surplus, refused):
    header, *rows = WIDE.to_csv(index=False).splitlines()
    path = tmp_path / "t.csv"
    path.write_text("\n".join([header, *(row + surplus for row in rows)]))
    if refused:
        with pytest.raises(FedkimError, match="rows with more cells than the header"):
            series.read_table(path)
    else:
        assert same(series.read_table(path), expected)


def test_a_stay_is_called_by_its_whole_number_however_it_is_kept(tmp_path, expected):
    path = save(tmp_path, TWO_STAYS.assign(stay_id=TWO_STAYS["stay_id"].astype(float)), "t.parquet")
    assert same(series.read_table(path, stay=1), expected)


def test_words_that_mean_nothing_in_a_table_are_left_alone(tmp_path, expected):
    beside = WIDE.assign(Unit="ICU 3", Time="08:00", Value=1)
    assert same(series.read_table(save(tmp_path, beside)), expected)
    assert same(series.read_table(beside), expected)


@pytest.mark.parametrize("index", [["hour"], ["stay_id", "hour"]])
def test_hours_and_stays_of_a_parquet_file_may_be_its_index(tmp_path, expected, index):
    frame = WIDE.assign(stay_id="007").set_index(index)
    assert same(series.read_table(save(tmp_path, frame, "t.parquet"), stay="007"), expected)
    assert same(series.read_table(frame, stay="007"), expected)
    with pytest.raises(FedkimError, match="neither column hour nor time"):
        series.read_table(save(tmp_path, WIDE.drop(columns="hour"), "without.parquet"))


def test_a_header_s_own_unit_goes_before_the_declared_one(tmp_path, expected):
    path = save(tmp_path, WIDE.rename(columns={"crea": "crea (mg/dL)"}))
    assert same(series.read_table(path, units={"crea": "µmol/L"}), expected)


def test_a_changed_file_is_read_again(tmp_path, expected):
    path = save(tmp_path, WIDE.assign(hr=100.0))
    first = series.read_table(path)
    save(tmp_path, WIDE.assign(hr=101.25))
    assert not same(series.read_table(path), first)


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_stays_of_one_table_do_not_mix(tmp_path, name):
    both = pd.concat([WIDE.assign(stay_id="007"), WIDE.assign(stay_id="8", hr=90.0)])
    path = save(tmp_path, both.sample(frac=1, random_state=1), name)
    assert series.read_table(path, stay="007")["vitals"][0, 0] == pytest.approx((60 - 85) / 18)
    assert series.read_table(path, stay=8)["vitals"][0, 0] == pytest.approx((90 - 85) / 18)
    with pytest.raises(FedkimError, match="no stay 7"):
        series.read_table(path, stay=7)


def test_an_empty_window_is_refused_unless_it_may_be(tmp_path):
    path = save(tmp_path, pd.DataFrame({"hour": [40], "hr": 80.0}))
    with pytest.raises(FedkimError, match="no plausible measurement") as caught:
        series.read_table(path)
    assert caught.value.code == "E-SERIES-EMPTY"
    assert not series.read_table(path, require_measurement=False)["vitals"].any()


SECRET = "Schmidt-4711"


@pytest.mark.parametrize(
    ("frame", "arguments", "code"),
    [
        (long_table(crea=(SECRET, 1)), {}, "E-UNIT-UNKNOWN"),
        (long_table(crea=("x", 1)).drop(columns="unit"), {}, "E-UNIT-MISSING"),
        (long_table(crea=("mg/dL", 1)).assign(value=SECRET), {}, "E-SERIES-TEXT"),
        (long_table(crea=("mg/dL", 1)).assign(concept=SECRET), {}, "E-SERIES-COLUMN"),
        (WIDE.assign(hr=SECRET), {}, "E-SERIES-TEXT"),
        (WIDE.assign(hour=SECRET), {}, "E-SERIES-HOURS"),
        (pd.concat([WIDE, WIDE]), {}, "E-SERIES-HOURS"),
        (WIDE.assign(stay_id=[SECRET, *"b" * 23]), {}, "E-SERIES-STAY"),
        (WIDE.rename(columns={"urine": "hr.1"}), {}, "E-SERIES-COLUMN"),
        (WIDE, {"units": {"creatinine": "mg/dL"}}, ""),
        (WIDE, {"units": "metric"}, ""),
    ],
)
def test_what_cannot_be_read_is_refused_by_code_and_no_cell_is_repeated(tmp_path, frame, arguments, code):
    with pytest.raises(FedkimError) as caught:
        series.read_table(save(tmp_path, frame), **arguments)
    assert caught.value.code == code
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_with_semicolons_is_told_so(tmp_path):
    (tmp_path / "t.csv").write_text("hour;hr\n0;80\n")
    with pytest.raises(FedkimError, match="looks like ';'"):
        series.read_table(tmp_path / "t.csv")


def test_a_sensor_that_fell_off_is_no_half_of_an_hours_median(tmp_path, expected):
    table = long_table(hr=("bpm", 1), crea=("mg/dL", 1), urine=("mL", 1))
    off = table[table["concept"] == "hr"].assign(value=0.0)  # beside each heart rate a zero
    assert same(series.read_table(save(tmp_path, pd.concat([table, off]))), expected)
    alone = save(tmp_path, table.assign(value=table["value"].where(table["concept"] != "crea", 97.0)), "crea.csv")
    assert [line.split(":")[0] for line in series.implausible(alone, "labs")] == ["crea"]  # still told


def test_a_row_of_nobody_in_a_long_table_is_left_out(tmp_path, expected):
    table = long_table(hr=("bpm", 1), crea=("mg/dL", 1), urine=("mL", 1)).assign(stay_id="7")
    nobody = table.iloc[:1].assign(stay_id=None, value=0.0)
    assert same(series.read_table(save(tmp_path, pd.concat([table, nobody]), "t.parquet"), stay="7"), expected)


def test_a_frame_s_index_may_have_a_column_s_name(expected):
    table = long_table(hr=("bpm", 1), crea=("mg/dL", 1), urine=("mL", 1))
    for frame in (table.set_index("hour"), table.set_index("hour", drop=False), table.set_index("concept", drop=False)):
        assert same(series.read_table(frame), expected)


@pytest.mark.parametrize("hour", [1.5, np.nan, np.inf, 1e300, "24", [24]])
def test_a_window_that_ends_at_no_whole_hour_is_refused(hour, tmp_path):
    for table in (WIDE, save(tmp_path, WIDE)):
        with pytest.raises(FedkimError, match=r"until_hour, found .*, expected a whole number of hours"):
            series.read_table(table, until_hour=hour)


def test_whole_hours_are_whole_whatever_their_type(expected):
    for hour in (24, 24.0, np.int64(24)):
        assert same(series.read_table(WIDE, until_hour=hour), expected)


@pytest.mark.parametrize("table", [WIDE, long_table(hr=("bpm", 1)), WIDE.assign(stay_id="7")])
@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_table_of_a_header_alone_is_told_to_have_no_rows(table, name, tmp_path):
    with pytest.raises(FedkimError, match="found no rows") as caught:
        series.read_table(save(tmp_path, table.iloc[:0], name))
    assert caught.value.code == "E-SERIES-EMPTY"


def test_infinity_is_told_as_any_other_value_that_nobody_has(tmp_path):
    for value in (-1.0, np.inf, -np.inf):
        path = save(tmp_path, WIDE.assign(hr=[value, *WIDE["hr"][1:]]), f"{value}.csv")
        (told,) = series.implausible(path, "vitals")
        assert told.startswith("hr: 1 of 24 values outside")
