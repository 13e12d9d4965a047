"""Questions: templates over factors, in the manner of VQA-RAD, SLAKE and the noise part of ECG-QA.

Answers are functions of factors, never of pixels. Presence questions ask for the unseen findings, so the transfer knob
ρ rules them too; side, zone, view, tube and noise questions ask for traits that no task teaches, and nothing can answer
them but chance. One in ten presence questions asks for something that is never there; one question in five is put in
other words, from a fixed table.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedkim.data.phantom.factors import CHUNK, Factors
from fedkim.data.phantom.wave import NOISE_LEADS, NOISES
from fedkim.modalities.signal_files import STANDARD_LEADS as LEADS
from fedkim.randomness import numpy_generator_for

ABSENT = 0.1
"""Share of image questions about something that is never there."""
PARAPHRASED = 0.2


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One question put to one patient's picture or ECG."""

    question: str
    answer: str
    template: str
    closed: bool
    """Answered by yes or no."""


_SIDES = ("left", "right")
_ZONES = ("upper", "middle", "lower")
_FINDING_NAMES = {
    "enlarged_cardiomediastinum": "an enlarged cardiomediastinum",
    "atelectasis": "atelectasis",
    "pleural_effusion": "pleural effusion",
}
_NEVER_THERE = ("a fracture", "a pacemaker", "a swallowed coin")
_PRESENCE = {
    "vqa_rad": ("Is there {}?", "Is {} present?"),
    "slake": ("Does the picture show {}?", "Can {} be seen in the picture?"),
}
_WORDS = {
    "view": ("From where was the picture taken?", "Which view is this?"),
    "opacity_side": ("On which side is the opacity?", "Which lung shows the opacity?"),
    "opacity_zone": ("In which zone is the opacity?", "Is the opacity in the upper, middle or lower zone?"),
    "opacity_large": ("Is the opacity large or small?", "What is the size of the opacity?"),
    "line": ("Is a tube in place?", "Does a tube cross the neck?"),
    "effusion_side": ("Which side does the fluid fill?", "On which side is the fluid?"),
}
_ATTRIBUTES = {"vqa_rad": ("view", "opacity_side", "opacity_zone"), "slake": ("opacity_large", "line", "effusion_side")}
_ABOUT = {
    "opacity_side": "lung_opacity",
    "opacity_zone": "lung_opacity",
    "opacity_large": "lung_opacity",
    "effusion_side": "pleural_effusion",
}
"""Asked only where the finding's own part is drawn strongly enough to be seen."""


def ask(task: str, factors: Factors, *, seed: int, rho: float, each: int) -> list[list[Asked]]:
    """``each`` questions of a question-answering task for every patient, a pure function of the arguments."""
    asked: list[list[Asked]] = []
    present = {name: factors.present(name, rho) for name in _FINDING_NAMES} if factors.kind == "image" else {}
    drawn = {name: factors.strength(name) > 0.5 for name in factors.severities}
    for patient in range(len(factors)):
        if patient % CHUNK == 0:
            random = numpy_generator_for(seed, "phantom", task, "questions", patient // CHUNK)
        trait = {name: int(values[patient]) for name, values in factors.traits.items()}
        here = {name: bool(values[patient]) for name, values in present.items()}
        visible = {name: bool(values[patient]) for name, values in drawn.items()}
        draws = random.random((each, 4))  # the same number for every patient, whatever is asked
        if factors.kind == "image":
            asked.append([_about_picture(task, trait, here, visible, draw) for draw in draws])
        else:
            asked.append([_about_noise(trait, draw) for draw in draws])
    return asked


def _about_picture(
    task: str, trait: dict[str, int], present: dict[str, bool], visible: dict[str, bool], draw: np.ndarray
) -> Asked:
    which, subject, words, _ = draw
    if which < ABSENT:
        return _presence(task, _one_of(_NEVER_THERE, subject), False, "absent", words)
    if which < 0.6:
        finding = _one_of(tuple(present), subject)
        return _presence(task, _FINDING_NAMES[finding], present[finding], f"presence {finding}", words)
    names = [name for name in _ATTRIBUTES[task] if visible.get(_ABOUT.get(name, ""), True)]
    name = _one_of(names, subject)
    answers = {
        "view": ("back to front", "front to back"),
        "opacity_zone": _ZONES,
        "opacity_large": ("small", "large"),
        "line": ("no", "yes"),
    }.get(name, _SIDES)
    question = _one_wording(_WORDS[name], words)
    return Asked(question=question, answer=answers[trait[name]], template=name, closed=name == "line")


def _presence(task: str, thing: str, there: bool, template: str, words: float) -> Asked:
    question = _one_wording(_PRESENCE[task], words).format(thing)
    return Asked(
        question=question[0].upper() + question[1:], answer="yes" if there else "no", template=template, closed=True
    )


def _about_noise(trait: dict[str, int], draw: np.ndarray) -> Asked:
    which, subject, words, extra = draw
    noise, leads = NOISES[trait["noise"]], NOISE_LEADS[trait["noise_leads"]]
    if which < 0.3:
        wordings = ("Does this ECG show any kind of noises?", "Are there any kind of noises on this ECG?")
        return _verify(_one_wording(wordings, words), noise != "none", "any noise")
    if which < 0.6:
        kind = _one_of(NOISES[1:], subject)
        if noise != "none" and extra < 0.5:  # half the questions on a noisy ECG ask for the noise it has
            kind = noise
        wordings = (f"Does this ECG show {kind}?", f"Is there any indication of {kind} on this ECG?")
        return _verify(_one_wording(wordings, words), noise == kind, "kind of noise")
    if which < 0.8 or noise == "none":
        lead = _one_of(LEADS, subject)
        wordings = (
            f"Does lead {lead} on this ECG have any noises?",
            f"Are there any noises detected in lead {lead} on this ECG?",
        )
        return _verify(_one_wording(wordings, words), noise != "none" and lead in leads, "noise in lead")
    wordings = ("What kind of noises does this ECG show?", "Which noises are visible in this ECG?")
    return Asked(question=_one_wording(wordings, words), answer=noise, template="which noise", closed=False)


def _verify(question: str, holds: bool, template: str) -> Asked:
    return Asked(question=question, answer="yes" if holds else "no", template=template, closed=True)


def _one_of(values: Sequence[str], draw: float) -> str:
    return values[int(draw * len(values))]


def _one_wording(wordings: tuple[str, str], draw: float) -> str:
    return wordings[int(draw < PARAPHRASED)]
