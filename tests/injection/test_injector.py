import pytest
import torch
from peft import LoraConfig, get_peft_model

from fedkim.errors import FedkimError
from fedkim.state import State
from toy_server import SETTINGS, TASKS, make_injector, make_trainer, patients, segments, stir, tiny

SAMPLES = patients(3).samples
LAYERS, PROJECTIONS = 2, 7


def logits(injector, task="bright", keep=3):
    tails = [injector.tokens.prompt(TASKS[task].question)] * len(SAMPLES)
    return injector.logits(segments(injector, task, SAMPLES), tails, keep=keep)


def test_without_experts_nothing_of_the_language_model_is_trained_or_wrapped():
    injector = make_injector(experts=0)
    groups = injector.parameters()
    assert not groups["adapter"]
    assert not groups["router"]
    assert groups["align"]
    assert groups["encoder"]
    assert injector.network is injector.llm.model
    assert injector.route("bright").weights == ()


def test_one_expert_is_a_lora_of_its_rank_without_a_router():
    injector = make_injector(experts=1, rank=4)
    groups = injector.parameters()
    assert not groups["router"]
    lora = get_peft_model(tiny().model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert sum(p.numel() for p in groups["adapter"].values()) == lora.get_nb_trainable_parameters()[0]
    assert injector.route("bright").weights == (1.0,)


def test_several_experts_have_a_router_whose_weights_sum_to_one_and_tell_tasks_apart():
    injector = stir(make_injector(), scale=0.5)
    groups = injector.parameters()
    assert len(groups["adapter"]) == 2 * LAYERS * PROJECTIONS
    assert groups["router"]
    bright, fast = injector.route("bright"), injector.route("fast")
    assert len(bright.weights) == SETTINGS.experts
    assert sum(bright.weights) == pytest.approx(1, abs=1e-6)
    assert bright.distance(fast) > 1e-3
    assert 0 < bright.entropy <= 1


@pytest.mark.parametrize(
    ("read", "tells_tasks", "tells_modalities"),
    [("both", True, True), ("task", True, False), ("modality", False, True)],
)
def test_a_route_follows_from_what_the_router_reads_and_from_nothing_else(read, tells_tasks, tells_modalities):
    injector = stir(make_injector(router_inputs=read), scale=0.3)
    bright, grade = injector.route("bright"), injector.route("grade")  # two questions about a picture
    assert (bright.weights != grade.weights) == (bright.distance(grade) > 1e-3) == tells_tasks
    elsewhere = injector.route("bright", ("signal",))
    assert (bright.weights != elsewhere.weights) == (bright.distance(elsewhere) > 1e-3) == tells_modalities


@pytest.mark.parametrize(
    ("scale", "alpha", "scaling"), [("paper", 6.0, 3.0), ("experts", 6.0, 9.0), ("paper", 0.0, 1.0)]
)
def test_experts_weigh_what_the_recipe_says(scale, alpha, scaling):
    """s = alpha / rank, times the number of experts unless it is the paper's."""
    plain, scaled = stir(make_injector(gate_scale="paper")), stir(make_injector(gate_scale=scale, alpha=alpha))
    assert scaled.network.peft_config["default"].scaling == scaling
    x, added = torch.ones(1, 1, plain.llm.hidden_size), []
    for injector in (plain, scaled):
        layer = next(module for module in injector.network.modules() if hasattr(module, "m3oe_B"))
        with torch.no_grad(), injector.using("bright"):
            added.append(layer(x) - layer.base_layer(x))
    torch.testing.assert_close(added[1], scaling * added[0])


def test_fresh_experts_leave_every_logit_of_the_base_model_as_it_was():
    plain, mixed = make_injector(experts=0), make_injector()
    with torch.no_grad():
        base = logits(plain)
        mixed.network.eval()
        with mixed.using("bright"):
            assert torch.equal(logits(mixed), base)
        with mixed.answering("bright"):
            assert torch.equal(logits(mixed), base)


def test_answers_with_folded_weights_are_those_of_the_routed_layers():
    injector = stir(make_injector())
    injector.network.eval()
    with torch.no_grad(), injector.using("bright"):
        routed = logits(injector)
    with injector.answering("bright"):
        folded = logits(injector)
    assert torch.allclose(routed, folded, atol=1e-4)
    with torch.no_grad():
        assert not torch.allclose(routed, logits(make_injector(experts=0)), atol=1e-2)


def test_answering_gives_every_weight_back_bit_for_bit_even_after_an_error():
    injector = stir(make_injector())
    injector.network.train()
    before = {name: p.clone() for name, p in injector.network.named_parameters()}

    def fails():
        with injector.answering("bright"):
            changed = [n for n, p in injector.network.named_parameters() if not torch.equal(p, before[n])]
            assert len(changed) == LAYERS * PROJECTIONS
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fails()
    assert all(torch.equal(p, before[n]) for n, p in injector.network.named_parameters())
    assert injector.network.training
    assert injector.encoders.training


def test_answering_records_no_gradient():
    injector = make_injector()
    with injector.answering("bright"):
        assert not logits(injector).requires_grad


def test_training_leaves_the_frozen_language_model_bit_for_bit_as_it_was():
    injector = make_injector(llm=(llm := tiny()))
    reference = dict(tiny().model.named_parameters())
    trainer = make_trainer(injector)
    trainer.fit(State(), round=1)
    frozen = {n: p for n, p in llm.model.named_parameters() if "m3oe" not in n}
    assert len(frozen) == len(reference)
    for name, parameter in frozen.items():
        assert torch.equal(parameter, reference[name.replace(".base_layer", "")]), name
        assert parameter.grad is None


def test_the_seed_decides_the_first_weights_and_torchs_own_generator_doesnt():
    torch.manual_seed(5)
    first = make_injector().tensors()
    torch.manual_seed(99)
    assert make_injector().tensors().digest() == first.digest()
    assert make_injector(seed=1).tensors().digest() != first.digest()


def test_tensors_put_back_into_another_injector_answer_the_same():
    trained, other = stir(make_injector()), make_injector(seed=3)
    other.load(trained.tensors(), whole=True)
    assert other.tensors().digest() == trained.tensors().digest()
    with trained.answering("both"), other.answering("both"):
        assert torch.equal(logits(trained, "both"), logits(other, "both"))


def test_a_stored_state_that_lacks_a_tensor_or_has_another_shape_is_refused():
    injector = make_injector()
    tensors = dict(injector.tensors())
    name = next(key for key in tensors if key.startswith("router."))
    with pytest.raises(FedkimError, match="1 tensors missing"):
        injector.load({key: value for key, value in tensors.items() if key != name}, whole=True)
    with pytest.raises(FedkimError, match="shape"):
        injector.load({name: torch.zeros(1, 2, 3)})


def test_the_constants_in_front_of_the_alignment_are_stored_too():
    injector, other = make_injector(), make_injector(seed=1)
    injector.alignment["image"].condition(torch.randn(9, 2, 16), torch.randn(2, 16), gain=2.0)
    other.load(injector.tensors(), whole=True)
    for name in ("center", "spread", "emphasis"):
        assert torch.equal(getattr(other.alignment["image"], name), getattr(injector.alignment["image"], name))
        assert not torch.equal(getattr(other.alignment["image"], name), getattr(other.alignment["signal"], name))


def test_a_blind_injector_sees_no_patient():
    injector = make_injector(blind=True)
    assert not injector.parameters()["align"]
    assert not injector.parameters()["encoder"]
    assert injector.encode("bright", {"image": torch.randn(2, 4)}) == {}


def test_modalities_stand_in_the_tasks_order_whatever_the_inputs_order():
    injector = make_injector()
    inputs = {name: torch.stack([s.inputs[name] for s in SAMPLES]) for name in ("signal", "image")}
    assert list(injector.encode("both", inputs)) == ["image", "signal"]


def test_named_layers_alone_are_adapted():
    injector = make_injector(targets=("q_proj", "v_proj"))
    assert {name.split(".")[-3] for name in injector.parameters()["adapter"]} == {"q_proj", "v_proj"}


def test_the_papers_targets_add_the_head():
    injector = make_injector(targets=("paper",))
    assert any("lm_head" in name for name in injector.parameters()["adapter"])
    assert len(injector.parameters()["adapter"]) == 2 * (LAYERS * PROJECTIONS + 1)


def test_an_unknown_family_asks_for_named_layers():
    llm = tiny()
    llm.model.config.model_type = "lama"
    with pytest.raises(FedkimError, match=r"unknown language model family .* did you mean 'llama'"):
        make_injector(llm=llm)
