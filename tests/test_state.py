import pytest
import torch

from fedkim.errors import FedkimError
from fedkim.state import State, component


def make_state():
    return State({"encoder.image.w": torch.arange(6.0).reshape(2, 3), "decoder.covid.b": torch.ones(2)})


def test_component_is_the_first_two_names():
    assert component("encoder.image.conv1.weight") == "encoder.image"


def test_equal_content_in_another_order_has_the_same_bytes_and_digest():
    state = make_state()
    other = State(dict(reversed(list(state.items()))))
    assert state.to_bytes() == other.to_bytes()
    assert state.digest() == other.digest()


def test_one_changed_bit_changes_the_digest():
    state = make_state()
    changed = state["encoder.image.w"].clone()
    changed.view(torch.int32)[0, 1] ^= 1
    assert state.updated({"encoder.image.w": changed}).digest() != state.digest()


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"a.c": torch.zeros(2, 3)}, id="another name"),
        pytest.param({"a.b": torch.zeros(2, 3, dtype=torch.int32)}, id="another type"),
        pytest.param({"a.b": torch.zeros(3, 2)}, id="another shape"),
        pytest.param({"a.b": torch.zeros(6)}, id="fewer dimensions"),
        pytest.param({"a.b": torch.zeros(2, 2), "a.c": torch.zeros(2)}, id="cut in two"),
    ],
)
def test_the_same_bytes_in_another_form_have_another_digest(other):
    assert State(other).digest() != State({"a.b": torch.zeros(2, 3)}).digest()


def test_round_trip_through_bytes_is_exact():
    state = make_state()
    assert State.from_bytes(state.to_bytes()).digest() == state.digest()


def test_slice_keeps_only_owned_components():
    assert list(make_state().slice(["encoder.image"])) == ["encoder.image.w"]


@pytest.mark.parametrize("key", ["../../etc/passwd", "a/b", "", ".hidden", "a..b"])
def test_names_that_could_be_paths_are_refused(key):
    with pytest.raises(FedkimError, match="tensor's name"):
        State({key: torch.zeros(1)})


def test_a_damaged_file_is_one_clear_line(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"\xff" * 40)
    with pytest.raises(FedkimError, match="unreadable"):
        State.from_file(path)
