from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from fedkim.errors import FedkimError
from fedkim.modalities import MODALITIES, describe
from fedkim.modalities.initialise import build

CASES = [
    ("image", "cnn", (1, 64, 64), 8),
    ("image", "cnn", (1, 96, 96), 8),
    ("image", "deit-tiny", (1, 64, 64), 8),
    ("signal", "cnn", (1, 1000), 8),
    ("signal", "cnn", (12, 1000), 12),
    ("vitals", "transformer", (24, 14), 4),
    ("labs", "transformer", (24, 78), 4),
    ("inputs", "transformer", (24, 2), 4),
    ("outputs", "transformer", (24, 2), 24),
]


def encoder(modality: str, name: str, shape: tuple[int, ...], tokens: int, width: int = 128, seed: int = 0):
    make = MODALITIES[modality].encoders[name]
    return build(lambda: make(shape, width, tokens), torch.Generator().manual_seed(seed)).eval()


def test_modalities_stand_in_prompt_order_and_text_has_no_encoder():
    assert list(MODALITIES) == ["image", "signal", "vitals", "labs", "inputs", "outputs", "text"]
    assert {name: modality.tokens for name, modality in MODALITIES.items()} == {
        "image": 8,
        "signal": 8,
        "vitals": 4,
        "labs": 4,
        "inputs": 4,
        "outputs": 4,
        "text": 0,
    }
    assert not MODALITIES["text"].encoders


def test_the_description_of_a_set_names_its_members_text_first_in_any_order():
    assert describe(("image",)) == MODALITIES["image"].description
    both = describe(("image", "text"))
    assert both == describe(("text", "image"))
    assert both.startswith("Text and image. ")
    assert describe(("labs", "vitals", "outputs")).startswith("Vitals, labs and outputs. ")
    with pytest.raises(FedkimError, match="unknown modality 'imge'; did you mean 'image'"):
        describe(("imge",))


@pytest.mark.parametrize(("modality", "name", "shape", "tokens"), CASES)
def test_an_encoder_gives_its_tokens_at_its_width(modality, name, shape, tokens):
    out = encoder(modality, name, shape, tokens)(torch.randn(3, *shape))
    assert out.shape == (3, tokens, 128)
    assert out.isfinite().all()
    torch.testing.assert_close(out.std(dim=2, correction=0), torch.ones(3, tokens), rtol=0, atol=0.05)


def test_deit_with_the_papers_tokens_pools_nothing():
    module = encoder("image", "deit-tiny", (1, 224, 224), 198)
    seen = []
    module.transformer.register_forward_hook(lambda _, __, out: seen.append(out.last_hidden_state))
    out = module(torch.randn(1, 1, 224, 224))
    assert seen[0].shape == (1, 198, 192)
    torch.testing.assert_close(out, module.norm(module.project(seen[0])))
    assert sum(p.numel() for p in module.transformer.parameters()) == pytest.approx(5.5e6, rel=0.05)


@pytest.mark.parametrize(("modality", "name", "shape", "tokens"), CASES)
def test_patients_never_look_at_each_other(modality, name, shape, tokens):
    module = encoder(modality, name, shape, tokens)
    x = torch.randn(4, *shape, generator=torch.Generator().manual_seed(3))
    out, order = module(x), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(module(x[order]), out[order], rtol=0, atol=5e-6)
    torch.testing.assert_close(module(x[1:2])[0], out[1], rtol=0, atol=5e-6)
    other = x.clone()
    other[0] = -x[0]
    assert torch.equal(module(other)[1:], out[1:])


def test_series_attention_looks_from_hour_to_hour():
    module = encoder("vitals", "transformer", (24, 14), 24)
    x = torch.randn(1, 24, 14)
    later = x.clone()
    later[:, 20] += 1
    changed = (module(later) - module(x)).abs().amax(2)[0]
    assert (changed > 1e-5).all()  # every hour has seen hour 20


def test_the_order_of_the_hours_matters():
    module = encoder("vitals", "transformer", (24, 14), 4)
    x = torch.randn(1, 24, 14)
    assert (module(x.flip(1)).mean(1) - module(x).mean(1)).abs().max() > 1e-3


@pytest.mark.parametrize(("modality", "name", "shape", "tokens"), CASES)
def test_first_weights_depend_on_the_seed_alone(modality, name, shape, tokens):
    before = torch.random.get_rng_state()
    first = encoder(modality, name, shape, tokens).state_dict()
    torch.rand(5)
    with ThreadPoolExecutor(2) as pool:
        again, other = pool.map(lambda seed: encoder(modality, name, shape, tokens, seed=seed).state_dict(), (0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)
    torch.random.set_rng_state(before)
    encoder(modality, name, shape, tokens)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_no_encoder_keeps_statistics_over_a_batch():
    for modality, name, shape, tokens in CASES:
        module = encoder(modality, name, shape, tokens)
        assert not list(module.buffers()), name
        assert not any(isinstance(part, torch.nn.modules.batchnorm._BatchNorm) for part in module.modules())


@pytest.mark.parametrize(
    "norm",
    [lambda: torch.nn.GroupNorm(2, 4), lambda: torch.nn.RMSNorm(4), lambda: torch.nn.InstanceNorm1d(4, affine=True)],
    ids=["group", "rms", "instance"],
)
def test_norms_of_a_plug_in_begin_as_the_identity_and_batch_norms_are_refused(norm):
    built = build(norm, torch.Generator())
    assert all((value == (1.0 if name == "weight" else 0.0)).all() for name, value in built.named_parameters())
    with pytest.raises(FedkimError, match=r"module Sequential, found BatchNorm1d, expected GroupNorm"):
        build(lambda: torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4)), torch.Generator())


@pytest.mark.filterwarnings("ignore:dropout option adds dropout after all but last")
def test_a_plug_in_with_torchs_own_dropout_is_refused_and_one_that_drops_nothing_is_not():
    for name, drawing in {
        "Dropout1d": lambda: torch.nn.Dropout1d(0.3),
        "MultiheadAttention with dropout": lambda: torch.nn.MultiheadAttention(4, 2, dropout=0.3),
        "LSTM with dropout": lambda: torch.nn.LSTM(4, 4, num_layers=2, dropout=0.3),
        "RReLU": torch.nn.RReLU,
    }.items():
        with pytest.raises(FedkimError, match=rf"found {name}, expected none.*extraction\.dropout"):
            build(drawing, torch.Generator())
    for quiet in (
        lambda: torch.nn.Dropout(0.0),
        lambda: torch.nn.MultiheadAttention(4, 2),
        lambda: torch.nn.GRU(4, 4, dropout=0.3),  # of one layer, which has nothing to drop between
    ):
        build(quiet, torch.Generator())


def test_buffers_of_a_plug_in_survive_building():
    class WithConstant(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(2, 2)
            self.register_buffer("ramp", torch.arange(3.0))

    module = build(WithConstant, torch.Generator().manual_seed(0))
    assert module.ramp.tolist() == [0, 1, 2]


def test_a_unit_of_the_signal_encoder_sees_a_beat_with_its_neighbours():
    encoder = MODALITIES["signal"].encoders["cnn"]((1, 1000), 32, 8)
    seen, step = 1, 1
    for stage in encoder.stages:
        seen += (stage.kernel_size[0] - 1) * step
        step *= stage.stride[0]
    assert seen >= 250  # samples at 100 Hz: three beats at 70 a minute
    assert 1000 // step >= 12  # places enough for the paper's twelve tokens
