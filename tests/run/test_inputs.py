"""One patient's files as a model's inputs."""

import pytest
import torch

from fedkim.errors import FedkimError
from fedkim.modalities.series import CONCEPTS, read_table
from fedkim.run.inputs import Window, patient_inputs, require_units, table_warnings
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


def test_a_table_without_a_column_of_a_group_says_which_it_could_have(tmp_path):
    path = table(tmp_path / "stay.csv", header="hour,hr [beats/min]", row="80")
    with pytest.raises(FedkimError, match=r"found no column of 'labs', expected at least one of .*crea"):
        read("mortality", **dict.fromkeys(GROUPS, path))


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
