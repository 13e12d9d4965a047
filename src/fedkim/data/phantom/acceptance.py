"""Acceptance: is the synthetic federation learnable but not trivial, and free of shortcuts? Computed, never assumed.

Twice the patients are drawn; models are fitted on the first half and every figure is of the second. The small model is
the federation's own encoder with linear heads (a logistic regression on summaries for stays), trained centrally.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from fedkim.data.phantom.factors import FINDINGS, KINDS, Factors, draw
from fedkim.data.phantom.federation import QUESTIONERS, patient_counts
from fedkim.data.phantom.questions import Asked, ask
from fedkim.data.phantom.rendering import render
from fedkim.data.phantom.settings import PhantomSettings
from fedkim.modalities import MODALITIES
from fedkim.modalities.concepts import CONCEPTS
from fedkim.randomness import generator_for, seed_for

SMALL_BAND = (0.80, 0.95)
ORACLE_AT_LEAST = 0.93
SCALAR_AT_MOST = 0.65
BLIND_MARGIN = 0.02
"""Over the majority."""
RHOS = (0.0, 0.5, 1.0)
_EPOCHS = {"image": 10, "signal": 10}
_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """The figures of one yes/no task, on patients that no model was fitted on."""

    task: str
    prevalence: float
    oracle: float
    """AUROC of the rendered severities: no reader of the rendering can do better."""
    small: float
    """AUROC of the central small model trained on this task."""
    scalar_name: str
    scalar: float
    """AUROC of the best single number about the input; of an unseen task at its worst ρ."""
    small_by_rho: Mapping[float, float]
    proxy_by_rho: Mapping[float, float]
    """AUROC of the partner's head, of a model that saw the seen tasks only: what can transfer at each ρ."""
    proxy_gain_without_link: float
    """Accuracy of that head at ρ = 0 less the majority's (the negative control); nan for a seen task."""

    def misses(self) -> list[str]:
        """The bands it misses."""
        checks = {
            "small model": SMALL_BAND[0] <= self.small <= SMALL_BAND[1],
            "oracle": self.oracle >= ORACLE_AT_LEAST,
            "scalar": self.scalar <= SCALAR_AT_MOST,
            "negative control": not self.proxy_gain_without_link > BLIND_MARGIN,
        }
        return [name for name, holds in checks.items() if not holds]


@dataclass(frozen=True, kw_only=True)
class QuestionRow:
    """The figures of one question-answering task: what the wording of a question gives away."""

    task: str
    majority: float
    """Accuracy of the most frequent answer of each template."""
    blind: float
    """Accuracy of the most frequent answer of each exact wording, learnt on other patients."""

    def misses(self) -> list[str]:
        """The bands it misses."""
        return ["blind"] if self.blind > self.majority + BLIND_MARGIN else []


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """The whole table."""

    settings: PhantomSettings
    tasks: tuple[ClassRow, ...]
    questions: tuple[QuestionRow, ...]
    seconds: float


def acceptance(settings: PhantomSettings) -> Acceptance:
    """Measure every band; about a minute and a half on one free core with the default numbers of patients."""
    began = time.perf_counter()
    rows: list[ClassRow] = []
    questions: list[QuestionRow] = []
    for kind in KINDS:
        half = patient_counts(settings)[kind]
        if not half:
            continue
        factors = draw(kind, 2 * half, seed=settings.seed, num_sites=settings.num_sites)
        tensors = render(factors, settings, 2 * half)
        rows.extend(_class_rows(factors, tensors, settings, half))
        questions.extend(_question_row(task, factors, settings, half) for task in QUESTIONERS[kind])
    seconds = time.perf_counter() - began
    return Acceptance(settings=settings, tasks=tuple(rows), questions=tuple(questions), seconds=seconds)


def _class_rows(
    factors: Factors, tensors: Mapping[str, Tensor], settings: PhantomSettings, half: int
) -> list[ClassRow]:
    own = [task for task, finding in FINDINGS.items() if finding.kind == factors.kind]
    seen = [task for task in own if FINDINGS[task].partner is None]
    targets = {(task, 1.0): factors.present(task, 1.0) for task in seen}
    related = {
        (task, rho): factors.present(task, rho) for task in own if task not in seen for rho in (*RHOS, settings.rho)
    }
    fit = _fit_stays if factors.kind == "icu" else _fit_network
    scores = fit(factors.kind, tensors, targets, half, settings.seed)
    scores |= fit(factors.kind, tensors, related, half, settings.seed)
    numbers = _scalars(factors.kind, tensors)
    later = slice(half, 2 * half)
    rows = []
    for task in own:
        partner = FINDINGS[task].partner
        rho = settings.rho if partner else 1.0
        label = factors.present(task, rho)[later]
        by_rho = {r: factors.present(task, r)[later] for r in RHOS} if partner else {}
        best, name = max(
            (_either_way(truth, number[later]), name)
            for name, number in numbers.items()
            for truth in (label, *by_rho.values())
        )
        rows.append(
            ClassRow(
                task=task,
                prevalence=float(label.mean()),
                oracle=float(roc_auc_score(label, factors.evidence(task, rho)[later])),
                small=float(roc_auc_score(label, scores[task, rho])),
                scalar_name=name,
                scalar=best,
                small_by_rho={r: float(roc_auc_score(truth, scores[task, r])) for r, truth in by_rho.items()},
                proxy_by_rho={
                    r: float(roc_auc_score(truth, scores[partner, 1.0])) for r, truth in by_rho.items() if partner
                },
                proxy_gain_without_link=_gain(by_rho[0.0], scores[partner, 1.0]) if partner else float("nan"),
            )
        )
    return rows


Targets = Mapping[tuple[str, float], np.ndarray]
Scores = dict[tuple[str, float], np.ndarray]


def _fit_network(kind: str, tensors: Mapping[str, Tensor], targets: Targets, half: int, seed: int) -> Scores:
    """Scores of the later half by a small network with one head a target."""
    modality = MODALITIES[kind]
    inputs = tensors[kind]
    truth = torch.from_numpy(np.stack([label[: 2 * half] for label in targets.values()], axis=1)).float()
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(seed, "acceptance", kind))
        encoder = next(iter(modality.encoders.values()))(tuple(inputs.shape[1:]), 64, modality.tokens)
        head = nn.Linear(64 * modality.tokens, len(targets))
    network = nn.Sequential(encoder, nn.Flatten(), head)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2, fused=True)
    steps = _EPOCHS[kind] * -(-half // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
    order = generator_for(seed, "acceptance", kind, "order")
    chance = generator_for(seed, "acceptance", kind, "augmentation")
    for _ in range(_EPOCHS[kind]):
        for rows in torch.randperm(half, generator=order).split(_BATCH):
            batch = modality.augment(inputs[rows], chance) if modality.augment else inputs[rows]
            loss = nn.functional.binary_cross_entropy_with_logits(network(batch), truth[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.no_grad():
        logits = torch.cat([network(rows) for rows in inputs[half : 2 * half].split(256)])
    return {target: logits[:, column].numpy() for column, target in enumerate(targets)}


def _fit_stays(kind: str, tensors: Mapping[str, Tensor], targets: Targets, half: int, seed: int) -> Scores:
    """Scores of the later half by a logistic regression on means and last values."""
    groups = [tensors[name][..., : tensors[name].shape[-1] // 2].numpy() for name in CONCEPTS]
    values = np.concatenate(groups, axis=-1)
    summaries = np.concatenate([values.mean(axis=1), values[:, -1]], axis=1)
    scores: Scores = {}
    for target, label in targets.items():
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.02, max_iter=300))
        scores[target] = model.fit(summaries[:half], label[:half]).decision_function(summaries[half : 2 * half])
    return scores


def _scalars(kind: str, tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Single numbers about an input that a lazy reader might use, by name, ``[num]``."""
    raw = {name.removeprefix("raw."): tensor.numpy() for name, tensor in tensors.items() if name.startswith("raw.")}
    if kind == "icu":
        numbers = {}
        for name, concepts in CONCEPTS.items():
            width = len(concepts)
            values, flags = tensors[name][..., :width].numpy(), tensors[name][..., width:].numpy()
            numbers[f"{name} measured"] = flags.mean(axis=(1, 2))
            numbers |= {concept.name: values[:, :, column].mean(axis=1) for column, concept in enumerate(concepts)}
        return numbers
    values = tensors[kind].flatten(1).numpy()
    moments = {"median": np.median(values, axis=1), "deviation": values.std(axis=1), "skew": (values**3).mean(axis=1)}
    rough = np.abs(np.diff(tensors[kind].numpy(), axis=-1)).reshape(len(values), -1)
    moments |= {"grain": rough.mean(axis=1)}
    if kind == "image":
        picture = tensors["image"][:, 0].numpy()
        moments["centre"] = picture[:, 16:-16, 16:-16].mean(axis=(1, 2))
    return {**{f"raw {name}": number for name, number in raw.items()}, **moments}


def _either_way(label: np.ndarray, score: np.ndarray) -> float:
    area = float(roc_auc_score(label, score))
    return max(area, 1 - area)


def _gain(label: np.ndarray, logit: np.ndarray) -> float:
    """Accuracy at 0.5 less the accuracy of always giving the more frequent answer."""
    return float(((logit > 0) == label).mean() - max(label.mean(), 1 - label.mean()))


def _question_row(task: str, factors: Factors, settings: PhantomSettings, half: int) -> QuestionRow:
    asked = ask(task, factors, seed=settings.seed, rho=settings.rho, each=settings.questions_per_patient)
    earlier = [one for questions in asked[:half] for one in questions]
    later = [one for questions in asked[half : 2 * half] for one in questions]

    def accuracy(key: Callable[[Asked], str]) -> float:
        best = _most_frequent([(key(one), one.answer) for one in earlier])
        return float(np.mean([best.get(key(one), "") == one.answer for one in later]))

    return QuestionRow(task=task, majority=accuracy(lambda q: q.template), blind=accuracy(lambda q: q.question))


def _most_frequent(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    counts: dict[str, dict[str, int]] = {}
    for key, answer in pairs:
        counts.setdefault(key, {}).setdefault(answer, 0)
        counts[key][answer] += 1
    return {key: max(sorted(answers), key=answers.__getitem__) for key, answers in counts.items()}
