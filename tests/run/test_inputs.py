"""One patient's files as a model's inputs."""

import math

import pytest
import torch

from fedkim.errors import FedkimError
from fedkim.modalities.series import CONCEPTS, read_table
from fedkim.run.inputs import Window, lead_warnings, patient_inputs, require_units, table_warnings
from fedkim.tasks import TASKS

SIZE = 32
GROUPS = {name: (24, 2 * len(group)) for name, group in CONCEPTS.items()}
SHAPES = {"image": (1, SIZE, SIZE), "signal": (1, 1000), **GROUPS}
HEADER = "hour,hr [beats/min],crea [mg/dL],fio2 [1],urine [mL]"


def read(task, window=None, **given):
    return patient_inputs(TASKS[task], given, window or Window(), image_size=SIZE, shapes=SHAPES)


def table(path, hours=24, header=HEADER, row="80,1.1,0.5,60"):
    path.write_text("\n".join([header, *(f"{hour},{row}" for hour in range(hours))]) + "\n")
    return path


@pytest.mark.parametrize(
    ("content", "found"), [(None, "no such file"), (b"no picture", "no picture format"), (b"", "no picture format")]
)
def test_a_file_that_is_no_image_is_named(tmp_path, content, found):
    path = tmp_path / "x.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FedkimError, match=f"{path}.*{found}"):
        read("covid", image=path)


def test_a_table_is_read_for_each_of_its_groups(tmp_path):
    path = table(tmp_path / "stay.csv")
    inputs = read("mortality", **dict.fromkeys(GROUPS, path))
    for group, tensor in read_table(path).items():
        assert torch.equal(inputs[group], tensor)


def test_a_group_without_a_column_is_zeros_as_in_the_training(tmp_path):
    path = table(tmp_path / "stay.csv", header="hour,hr [beats/min]", row="80")
    inputs = read("mortality", **dict.fromkeys(GROUPS, path))
    assert {name: bool(tensor.any()) for name, tensor in inputs.items()} == {name: name == "vitals" for name in inputs}
    assert all(tuple(tensor.shape) == GROUPS[name] for name, tensor in inputs.items())


def test_a_window_without_a_measurement_is_refused(tmp_path):
    path = table(tmp_path / "stay.csv", row=",,,")
    with pytest.raises(FedkimError, match="no plausible measurement in the window"):
        read("mortality", **dict.fromkeys(GROUPS, path))


def test_units_must_be_stated_and_values_are_never_repeated(tmp_path):
    path = table(tmp_path / "stay.csv", header="hour,hr,crea,fio2,urine", row="987654,1.1,0.5,60")
    with pytest.raises(FedkimError, match=r"column 'hr', found no unit.*--units yaib") as caught:
        read("mortality", **dict.fromkeys(GROUPS, path))
    assert "987654" not in str(caught.value)
    require_units(path, "yaib")
    require_units(table(path), None)
    with pytest.raises(FedkimError, match="unknown set of units 'si'"):
        require_units(path, "si")


def test_hours_left_out_are_told_once_and_not_where_a_window_was_chosen(tmp_path):
    given = dict.fromkeys(GROUPS, table(tmp_path / "stay.csv", hours=30))
    (told,) = table_warnings(given, Window())
    assert told.startswith("the table goes on for 6 hours after the first day")
    assert table_warnings(given, Window(until_hour=30)) == []
    assert table_warnings({"image": "x.png", "vitals": torch.zeros(24, 8)}, Window()) == []


def test_a_header_that_pandas_has_numbered_needs_a_unit_too(tmp_path):
    path = table(tmp_path / "stay.csv", header="hour,hr [bpm],crea.1,fio2 [1],urine [mL]")
    with pytest.raises(FedkimError, match="column 'crea', found no unit"):
        require_units(path, None)
    require_units(path, "yaib")


def test_names_in_other_capitals_are_told(tmp_path):
    path = table(tmp_path / "stay.csv", header=HEADER.replace("hr", "HR") + ",sbp [mmHg]", row="80,1.1,0.5,60,120")
    assert table_warnings(dict.fromkeys(GROUPS, path), Window()) == ["'HR' isn't read; did you mean 'hr'?"]
    alone = table(tmp_path / "alone.csv", header=HEADER.replace("hr", "HR"))
    assert not read("mortality", **dict.fromkeys(GROUPS, alone))["vitals"].any()
    assert table_warnings(dict.fromkeys(GROUPS, alone), Window()) == ["'HR' isn't read; did you mean 'hr'?"]


@pytest.mark.parametrize(("leads", "order"), [((), [0, 1]), (("I", "II"), [0, 1]), (("II", "I"), [1, 0])])
def test_leads_are_those_that_are_named_in_that_order_and_others_are_warned_of(tmp_path, leads, order):
    quiet = [0.02 * math.sin(n) for n in range(1000)]
    rows = [f"{n / 100},{(n % 100 == 0) + q},{(n % 70 == 0) + q},{7 * q}" for n, q in enumerate(quiet)]
    path = tmp_path / "e.csv"
    path.write_text("\n".join(["time,I,II,sample [NU]" if leads else "time,I,II,V1", *rows]))
    num = len(leads) or 3
    shapes = {"signal": (num, 1000)}
    window = Window(leads=leads)
    inputs = patient_inputs(TASKS["ecg_abnormal"], {"signal": path}, window, image_size=SIZE, shapes=shapes)
    spikes = [set(torch.nonzero(lead > 1).flatten().tolist()) for lead in inputs["signal"]]
    assert [0 in lead and 100 in lead for lead in spikes[:2]] == [place == 0 for place in order]
    assert [140 in lead for lead in spikes[:2]] == [place == 1 for place in order]
    assert len(lead_warnings({"signal": path}, window, shapes)) == (not leads)
    assert lead_warnings({"signal": path}, Window(), {"signal": (12, 1000)}) == []


@pytest.mark.parametrize(
    ("task", "window", "found"),
    [
        ("covid", {"units": "foo"}, "units (--units)"),
        ("covid", {"stay": "7"}, "stay (--stay)"),
        ("covid", {"until_hour": 3.3}, "until_hour (--until-hour)"),
        ("covid", {"start": float("nan")}, "start (--start)"),
        ("ecg_abnormal", {"units": "yaib"}, "units (--units)"),
        ("mortality", {"start": 1.0}, "start (--start)"),
        ("mortality", {"leads": ("II",)}, "leads (--leads)"),
    ],
)
def test_a_window_of_files_that_the_task_does_not_read_is_refused(task, window, found):
    given = dict.fromkeys(TASKS[task].inputs, "x")
    with pytest.raises(FedkimError) as caught:
        read(task, Window(**window), **given)
    assert caught.value.found == found


def test_a_table_s_ending_may_be_in_capitals(tmp_path):
    import pandas

    frame = pandas.read_csv(table(tmp_path / "stay.csv"))
    frame.to_parquet(tmp_path / "S.PARQUET")
    expected = read("mortality", **dict.fromkeys(GROUPS, tmp_path / "stay.csv"))
    for path in ((tmp_path / "stay.csv").rename(tmp_path / "S.CSV"), tmp_path / "S.PARQUET"):
        found = read("mortality", **dict.fromkeys(GROUPS, path))
        assert all(torch.equal(found[name], expected[name]) for name in expected)
