"""The synthetic federation as a Dataset: patients with factors, renderings, labels, questions and splits."""

from collections.abc import Iterator, Mapping

from torch import Tensor

from fedkim.data.phantom.extra import extra_labels
from fedkim.data.phantom.factors import FINDINGS, KINDS, Factors, draw
from fedkim.data.phantom.questions import ask
from fedkim.data.phantom.rendering import render
from fedkim.data.phantom.settings import PhantomSettings
from fedkim.data.sample import Dataset, Sample
from fedkim.data.sources.folds import yes
from fedkim.data.splits import assign_splits, check_disjoint

QUESTIONERS = {"image": ("vqa_rad", "slake"), "signal": ("ecg_qa",), "icu": ()}
"""The question-answering tasks of each kind."""

_HIDDEN = ("private", "public")


def load(settings: PhantomSettings | None = None) -> Dataset:
    """The synthetic federation, splits assigned; the same settings give the same bytes.

    Every picture, ECG or stay carries the labels of all its tasks, and comes again for each question asked about it
    (the tensors are shared). Labels and questions of unseen tasks are absent from the private and public splits.
    """
    settings = settings or PhantomSettings()
    counts = patient_counts(settings)
    factors = {
        kind: draw(kind, counts[kind], seed=settings.seed, num_sites=settings.num_sites)
        for kind in KINDS
        if counts[kind]
    }
    splits = splits_of(factors, settings)
    samples: list[Sample] = []
    for kind, drawn in factors.items():
        tensors = render(drawn, settings, counts[kind])
        samples.extend(_samples(drawn, tensors, splits, settings, counts[kind]))
    check_disjoint(samples)
    return Dataset(samples, name="phantom", synthetic=True)


def patient_counts(settings: PhantomSettings) -> dict[str, int]:
    """Patients by kind; further test patients come last, and a kind without patients has none of them."""
    dealt = dealt_counts(settings)
    return {kind: count + settings.further_test_patients if count else 0 for kind, count in dealt.items()}


def dealt_counts(settings: PhantomSettings) -> dict[str, int]:
    """Patients by kind that are dealt to all four splits: the first ones."""
    return dict(zip(KINDS, (settings.image_patients, settings.signal_patients, settings.icu_patients), strict=True))


def splits_of(factors: Mapping[str, Factors], settings: PhantomSettings) -> dict[str, str]:
    """The split of each patient, balanced by the answers of the seen tasks."""
    counts, dealt = patient_counts(settings), dealt_counts(settings)
    tasks: dict[str, set[str]] = {}
    strata: dict[str, str] = {}
    for kind, drawn in factors.items():
        own = [task for task, finding in FINDINGS.items() if finding.kind == kind]
        seen = {task: drawn.present(task, settings.rho) for task in own if task not in settings.unseen_tasks}
        for index in range(dealt[kind]):
            patient = patient_name(kind, index)
            tasks[patient] = {*own, *QUESTIONERS[kind]}
            strata[patient] = ",".join(f"{task}={yes(present[index])}" for task, present in seen.items())
    splits = assign_splits(tasks, seed=settings.seed, unseen_tasks=settings.unseen_tasks, strata=strata)
    further = {patient_name(kind, index): "test" for kind in factors for index in range(dealt[kind], counts[kind])}
    return splits | further


def patient_name(kind: str, index: int) -> str:
    """``"phantom/image-00012"``."""
    return f"phantom/{kind}-{index:05d}"


def _samples(
    factors: Factors, tensors: Mapping[str, Tensor], splits: Mapping[str, str], settings: PhantomSettings, count: int
) -> Iterator[Sample]:
    unseen = set(settings.unseen_tasks)
    own = [task for task, finding in FINDINGS.items() if finding.kind == factors.kind]
    present = {task: factors.present(task, settings.rho) for task in own}
    asked = {
        task: ask(task, factors, seed=settings.seed, rho=settings.rho, each=settings.questions_per_patient)
        for task in QUESTIONERS[factors.kind]
    }
    extra = extra_labels(settings.extra_tasks, factors, tensors, count)
    inputs_of = {modality: tensor for modality, tensor in tensors.items() if not modality.startswith("raw.")}
    for index in range(count):
        patient = patient_name(factors.kind, index)
        split, site = splits[patient], f"hospital-{factors.traits['site'][index] + 1}"
        hidden = unseen if split in _HIDDEN else set()
        inputs = {modality: tensor[index] for modality, tensor in inputs_of.items()}
        labels = {task: yes(present[task][index]) for task in own if task not in hidden}
        labels |= {task: yes(claimed[index]) for task, claimed in extra.items()}
        yield Sample(id=patient, patient=patient, site=site, split=split, inputs=inputs, labels=labels)
        for task, questions in asked.items():
            if task in hidden:
                continue
            for number, one in enumerate(questions[index]):
                yield Sample(
                    id=f"{patient}/{task}-{number}",
                    patient=patient,
                    site=site,
                    split=split,
                    inputs=inputs,
                    labels={task: one.answer},
                    questions={task: one.question},
                    strata={"template": one.template, "answer_type": "closed" if one.closed else "open"},
                )
