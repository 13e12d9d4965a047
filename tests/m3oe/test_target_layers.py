"""Which layers carry experts: a name that isn't there is a mistake, not a layer less."""

import pytest

from fedkim.errors import FedkimError
from fedkim.injection.loading import empty_model
from fedkim.m3oe.targets import resolve_targets


@pytest.fixture(scope="module")
def model():
    return empty_model("tiny")


def test_names_are_layers_or_paths_into_one(model):
    assert resolve_targets(model, ("q_proj", "layers.0.mlp.up_proj")) == ["q_proj", "layers.0.mlp.up_proj"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("q_proj", "v_prj"), "'v_prj'; did you mean 'v_proj'"),
        (("all", "lm_head"), "'all' beside others"),
        (("q_proj", "paper"), "'paper' beside others"),
    ],
)
def test_what_is_no_layer_is_refused(model, names, said):
    with pytest.raises(FedkimError) as caught:
        resolve_targets(model, names)
    assert said in str(caught.value)
