import pytest
import torch

from fedkim.aggregation import gate
from fedkim.state import State, Update

STATE = State({"encoder.image.w": torch.zeros(2, 3), "decoder.covid.b": torch.zeros(2)})
OWNED = {"site-1": ["encoder.image", "decoder.covid"], "site-2": ["encoder.image"]}


def make_update(site="site-1", *, round=1, base=None, tensors=None, counts=None):
    owned = STATE.slice(OWNED.get(site, ["encoder.image"]))
    tensors = {key: torch.ones_like(value) for key, value in owned.items()} | (tensors or {})
    return Update(
        site=site,
        round=round,
        base_digest=owned.digest() if base is None else base,
        state=State({key: value for key, value in tensors.items() if value is not None}),
        num_examples={"encoder.image": 5, "decoder.covid": 5} | (counts or {}),
    )


def test_honest_updates_pass():
    accepted, rejected = gate([make_update(), make_update("site-2")], round=1, state=STATE, owned=OWNED)
    assert [update.site for update in accepted] == ["site-1", "site-2"]
    assert rejected == []


@pytest.mark.parametrize(
    ("update", "reason"),
    [
        (make_update(tensors={"encoder.image.w": torch.full((2, 3), torch.nan)}), "NaN"),
        (make_update(tensors={"encoder.image.w": torch.full((2, 3), torch.inf)}), "NaN or infinity"),
        (make_update(tensors={"encoder.image.w": torch.ones(1)}), "shape"),
        (make_update(tensors={"encoder.image.w": torch.ones(3, 3)}), "shape"),
        (make_update(tensors={"encoder.image.w": torch.ones(2, 3, dtype=torch.float64)}), "type"),
        (make_update(tensors={"encoder.image.w": None}), "1 tensors missing"),
        (make_update(tensors={"encoder.signal.w": torch.ones(1)}), "1 foreign"),
        (make_update("site-2", tensors={"decoder.covid.b": torch.ones(2)}), "1 foreign"),
        (make_update(counts={"encoder.image": -80}), "positive whole number"),
        (make_update(counts={"encoder.image": float("nan")}), "positive whole number"),
        (make_update(counts={"encoder.image": 0}), "positive whole number"),
        (make_update(round=3), "round 3"),
        (make_update(base="stale"), "other weights"),
        (make_update("stranger"), "registered"),
    ],
)
def test_a_bad_update_is_left_out_with_its_reason_and_the_others_stay(update, reason):
    honest = make_update("site-1") if update.site != "site-1" else make_update("site-2")
    accepted, rejected = gate([update, honest], round=1, state=STATE, owned=OWNED)
    assert [update.site for update in accepted] == [honest.site]
    assert reason in rejected[0].reason
