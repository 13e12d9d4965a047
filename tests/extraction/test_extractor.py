import pytest
import torch
from hospital_for_tests import BRIGHT, COLOUR, FAST, SETTINGS, SICK, TALK, TASKS, hospital

from fedkim.data.sample import Dataset
from fedkim.errors import FedkimError
from fedkim.extraction import Extractor, owned_components, predict_proba
from fedkim.extraction.batches import Batch
from fedkim.recipe import Extraction

SHAPES = hospital(1).shapes()


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    return Extractor(tasks=[*TASKS, COLOUR, TALK], shapes=SHAPES, settings=SETTINGS, seed=1).eval()


def test_weights_are_named_by_component(extractor):
    assert extractor.components == (
        "decoder.bright",
        "decoder.colour",
        "decoder.fast",
        "decoder.left",
        "decoder.sick",
        "encoder.image",
        "encoder.labs",
        "encoder.signal",
        "encoder.vitals",
    )
    assert extractor.state().components() == extractor.components


def pictures(number: int) -> Batch:
    return Batch(size=number, inputs={"image": torch.randn(number, 1, 32, 32)}, rows={"image": torch.arange(number)})


def test_a_decoder_gives_one_logit_for_each_answer(extractor):
    batch = pictures(3)
    assert extractor(batch, "bright").shape == (3, 2)
    assert extractor(batch, "colour").shape == (3, 3)
    assert extractor.encode("image", batch.inputs["image"]).shape == (3, 8, 32)


def test_a_free_text_task_has_no_decoder(extractor):
    with pytest.raises(FedkimError, match="unknown task 'talk'"):
        extractor(pictures(1), "talk")


def test_sites_that_hold_different_parts_start_alike_in_those_they_share(extractor):
    images = Extractor(tasks=[BRIGHT], shapes={"image": (1, 32, 32)}, settings=SETTINGS, seed=1).state()
    whole = extractor.state()
    assert images.components() == ("decoder.bright", "encoder.image")
    assert all(torch.equal(tensor, whole[key]) for key, tensor in images.items())
    other = Extractor(tasks=[BRIGHT], shapes={"image": (1, 32, 32)}, settings=SETTINGS, seed=2).state()
    assert other.digest() != images.digest()


def test_a_missing_modality_counts_as_zeros_whether_a_site_or_one_sample_lacks_it(extractor):
    samples = hospital(3, kinds=("vitals", "labs")).samples
    without = [
        sample.__class__(
            id=sample.id, patient="p", split="private", labels=sample.labels, inputs={"vitals": sample.inputs["vitals"]}
        )
        for sample in samples
    ]
    mixed = Batch.of([samples[0], without[1], samples[2]], ("vitals", "labs"))
    logits = extractor(mixed, "sick")
    complete = extractor(Batch.of(samples, ("vitals", "labs")), "sick")
    alone = extractor(Batch.of(without, ("vitals",)), "sick")
    torch.testing.assert_close(logits[[0, 2]], complete[[0, 2]])
    torch.testing.assert_close(logits[1], alone[1])
    site = Extractor(tasks=[SICK], shapes={"vitals": SHAPES["vitals"]}, settings=SETTINGS, seed=1).eval()
    assert site.components == ("decoder.sick", "encoder.vitals")
    torch.testing.assert_close(site(Batch.of(samples, ("vitals", "labs")), "sick"), alone)


def test_weights_survive_the_way_there_and_back(extractor):
    other = Extractor(tasks=[*TASKS, COLOUR], shapes=SHAPES, settings=SETTINGS, seed=9)
    assert other.load(extractor.state()).state().digest() == extractor.state().digest()
    before = extractor.state()
    digest = before.digest()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    assert before.digest() == digest  # a State is a copy


def test_weights_that_do_not_fit_are_named(extractor):
    state = extractor.state()
    with pytest.raises(FedkimError, match=r"weights of 'encoder.image', found no tensor"):
        Extractor(tasks=[BRIGHT], shapes=SHAPES, settings=SETTINGS).load(state.slice(["decoder.bright"]))
    with pytest.raises(FedkimError, match=r"encoder\.signal\.stages\.0\.weight.*expected \(4, 24, 7\)"):
        Extractor(tasks=[FAST], shapes={"signal": (12, 1000)}, settings=SETTINGS).load(state)


def test_impossible_requests_are_named():
    with pytest.raises(
        FedkimError, match="task 'fast', found data with image only, expected one of its modalities: signal"
    ):
        Extractor(tasks=[FAST], shapes={"image": (1, 32, 32)}, settings=SETTINGS)
    with pytest.raises(FedkimError, match="unknown encoder of image 'cn'; did you mean 'cnn'"):
        Extractor(tasks=[BRIGHT], shapes=SHAPES, settings=Extraction(encoders={"image": "cn"}))


def test_owned_components_count_the_samples_that_teach_them():
    data = hospital(5, kinds=("image", "vitals"))
    assert owned_components(data, TASKS) == {
        "decoder.bright": 5,
        "decoder.left": 5,
        "decoder.sick": 5,
        "encoder.image": 5,
        "encoder.vitals": 5,
    }
    unlabelled = data.where(lambda sample: "bright" not in sample.labels)
    assert "encoder.image" not in owned_components(unlabelled, TASKS)
    assert owned_components(Dataset([]), TASKS) == {}


def test_scores_are_probabilities_in_the_order_of_the_samples_and_independent_of_the_batch(extractor):
    data = hospital(7).labelled("colour")
    scores = predict_proba(extractor, data, COLOUR, batch_size=3)
    assert scores.shape == (7, 3)
    assert abs(scores.sum(1) - 1).max() < 1e-9
    assert abs(scores - predict_proba(extractor, data, "colour", batch_size=1)).max() < 1e-6
    alone = predict_proba(extractor, Dataset(data.samples[4:5]), "colour")
    assert abs(scores[4] - alone[0]).max() < 1e-6


def test_scoring_leaves_the_model_as_it_was_and_names_what_is_missing(extractor):
    extractor.train()
    before = extractor.state().digest()
    predict_proba(extractor, hospital(2).labelled("fast"), "fast")
    assert extractor.training
    assert extractor.state().digest() == before
    extractor.eval()
    with pytest.raises(FedkimError, match="task 'fast', found a sample without input, expected one of: signal"):
        predict_proba(extractor, hospital(2, kinds=("image",)), "fast")
    with pytest.raises(FedkimError, match="unknown task 'fas'; did you mean 'fast'"):
        predict_proba(extractor, hospital(2), "fas")
    assert predict_proba(extractor, Dataset([]), "fast").shape == (0, 2)
