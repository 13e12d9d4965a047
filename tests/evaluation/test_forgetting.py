import numpy as np
import pytest

from fedkim.data.sample import Dataset, Sample
from fedkim.data.sources import pubmedqa
from fedkim.evaluation import forgetting as module
from fedkim.evaluation.forgetting import PUBMEDQA, _losses, forgetting
from fedkim.injection.loading import load_llm
from fedkim.run import run_recipe
from fedkim.run.forgetting import measure_forgetting
from fedkim.run.server import make_injector
from fedkim.run.world import build_world
from small_recipe import small


def article(number, split, answer="yes"):
    return Sample(
        id=f"a/{number}",
        patient=f"a/{number}",
        split=split,
        inputs={},
        labels={"pubmedqa": answer},
        questions={"pubmedqa": f"Sentence number {number} about cells.\nIs it {number}?"},
    )


@pytest.fixture(scope="module")
def injector():
    recipe = small()
    return make_injector(build_world(recipe), load_llm("tiny", device="cpu", dtype="float32"))


ARTICLES = Dataset(
    [article(n, "test", ("yes", "no", "maybe")[n % 3]) for n in range(9)]
    + [article(n, "public") for n in range(10, 18)]
)


def test_before_any_step_nothing_is_forgotten(injector):
    found = forgetting(injector, ARTICLES, draws=100)
    for part, change, nothing in (("pubmedqa", "difference", 0), ("perplexity", "ratio", 1)):
        assert found[part][change]["value"] == pytest.approx(nothing, abs=1e-6)
        assert found[part]["base"]["value"] == pytest.approx(found[part]["injected"]["value"], rel=1e-6)
    assert found["pubmedqa"]["majority"] == pytest.approx(1 / 3)
    assert found["perplexity"]["tokens"] > 8 * 4


def test_a_loss_is_below_one_and_a_harder_reading_above(injector, monkeypatch):
    """Injected minus base, and injected over base: never the other way round."""
    right = {True: [1, 1, 1, 1, 1, 1, 0, 0, 0], False: [1, 1, 1, 0, 0, 0, 0, 0, 0]}
    monkeypatch.setattr(module, "_answers", lambda injector, samples, base, workers: np.array(right[base], dtype=float))

    def losses(injector, samples, base, workers):
        return np.array([len(module._tokens(injector, sample)) * np.log(2 if base else 3) for sample in samples])

    monkeypatch.setattr(module, "_losses", losses)
    found = forgetting(injector, ARTICLES, draws=100)
    values = {
        part: {name: entry["value"] for name, entry in figures.items() if isinstance(entry, dict)}
        for part, figures in found.items()
    }
    assert values["pubmedqa"] == pytest.approx({"base": 2 / 3, "injected": 1 / 3, "difference": -1 / 3})
    assert values["perplexity"] == pytest.approx({"base": 2.0, "injected": 3.0, "ratio": 1.5})
    assert found["pubmedqa"]["difference"]["high"] <= 0 < 1 < found["perplexity"]["ratio"]["low"]


def test_experts_that_say_something_else_show_in_both_figures(injector):
    before = injector.tensors()
    parameters = injector.parameters()["adapter"]
    for name, parameter in parameters.items():
        if "m3oe_B" in name:
            parameter.data.normal_(std=0.5)
    try:
        injector.know(PUBMEDQA)
        same, other = (_losses(injector, list(ARTICLES.split("public")), base, 1) for base in (True, False))
        assert not np.allclose(same, other, rtol=1e-3)
        found = forgetting(injector, ARTICLES, questions=3, texts=2, draws=100)
        assert found["perplexity"]["ratio"]["value"] != pytest.approx(1, abs=1e-4)
        assert (found["pubmedqa"]["n"], found["perplexity"]["n"]) == (3, 2)
    finally:
        injector.load(before)


def test_the_abstract_is_read_without_its_question(injector):
    injector.know(PUBMEDQA)
    first, second = article(1, "public"), article(1, "public")
    second.questions["pubmedqa"] = first.questions["pubmedqa"].replace("Is it", "Was it really")
    assert _losses(injector, [first], True, 1) == _losses(injector, [second], True, 1)


@pytest.mark.data_pack
def test_a_run_is_measured_on_the_official_test_questions(data_pack, tmp_path):
    run_recipe(small("federation.rounds=1", "evaluation.blind=false"), out=tmp_path / "run")
    found = measure_forgetting(tmp_path / "run", root=str(data_pack), questions=12, texts=6)
    assert (tmp_path / "run" / "forgetting.json").is_file()
    assert found["pubmedqa"]["n"] == 12
    assert found["perplexity"]["ratio"]["value"] == pytest.approx(1, abs=0.2)
    articles = pubmedqa.load(data_pack)
    assert len(articles.split("test")) == 500
    assert len(articles) == 1000
