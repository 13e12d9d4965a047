"""Templated visual questions over the NIH labels: closed ones (yes or no) and open ones (a few words).

    closed/finding   "Is there any sign of edema in this chest film?"                           → "no"
    closed/view      "Did the X-ray beam enter this patient from the back?"                     → "yes"
    open/view        "In which projection was this chest film taken?"                           → "AP"
    open/findings    "Which of atelectasis, edema, … does this chest film show?"               → "edema, effusion"
    open/count       "How many of atelectasis, edema, … does this chest film show?"            → "2"

The labels are NIH's text-mined ones, so an answer is what a report said, not what a second reader would see.
"""

from dataclasses import dataclass

from fedkim.data.sources.nih import Film
from fedkim.randomness import numpy_generator_for

FINDINGS = ("Atelectasis", "Edema", "Effusion", "Infiltration", "Pneumonia")
"""Those with enough positive films to ask for."""
CLOSED = ("closed/finding", "closed/view")
OPEN = ("open/view", "open/findings", "open/count")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One question with its answer."""

    template: str
    question: str
    answer: str


def ask(film: Film, seed: int) -> tuple[Asked, Asked]:
    """One closed and one open question about the film, drawn by the film's name alone."""
    generator = numpy_generator_for(seed, "nih-vqa", film.file)
    closed, unsealed = str(generator.choice(CLOSED)), str(generator.choice(OPEN))
    present = [name for name in FINDINGS if name in film.findings]
    absent = [name for name in FINDINGS if name not in film.findings]
    wanted = present if present and (not absent or generator.random() < 0.5) else absent
    finding = str(generator.choice(wanted))
    view = str(generator.choice(("front", "back")))
    listed = ", ".join(FINDINGS).lower()
    answers = {
        "closed/finding": (f"Is there any sign of {finding.lower()} in this chest film?", _yes(finding in present)),
        "closed/view": (
            f"Did the X-ray beam enter this patient from the {view}?",
            _yes((view == "front") == (film.view == "AP")),
        ),
        "open/view": ("In which projection was this chest film taken, AP or PA?", film.view),
        "open/findings": (
            f"Which of {listed} does this chest film show?",
            ", ".join(name.lower() for name in present) or "none",
        ),
        "open/count": (f"How many of {listed} does this chest film show?", str(len(present))),
    }
    first, second = (Asked(template=t, question=answers[t][0], answer=answers[t][1]) for t in (closed, unsealed))
    return first, second


def _yes(claim: bool) -> str:
    return "yes" if claim else "no"
