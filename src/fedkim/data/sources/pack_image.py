"""The pack's chest X-rays as samples: findings and views for training, held-out findings and questions for the rest."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fedkim.data.sample import HELD_OUT, Sample
from fedkim.data.sources import folds, nih, nih_vqa

SEEN_FINDINGS = {"pneumonia": "Pneumonia", "infiltration": "Infiltration"}
UNSEEN_FINDINGS = {"nih_effusion": "Effusion", "nih_atelectasis": "Atelectasis", "nih_edema": "Edema"}
NUM_SHARDS = 4
"""Parts of the NIH patients a site can hold: ``nih-1`` … ``nih-4``."""


def samples(root: Path, fold: int, size: int, seed: int, workers: int) -> Iterator[Sample]:
    """One sample a film, and in development and test two more that ask about it."""
    films = nih.read_table(root)
    pictures = nih.read_images(root, films, size, workers)
    strata = _strata(films)
    deciles = folds.deal(strata, folds.NUM_DECILES, seed, "nih")
    shards = folds.deal(strata, NUM_SHARDS, seed, "nih shard")
    for film, picture in zip(films, pictures):
        split = folds.split_of_decile(deciles[film.patient], fold)
        tasks = SEEN_FINDINGS | (UNSEEN_FINDINGS if split in HELD_OUT else {})
        labels = {task: folds.yes(finding in film.findings) for task, finding in tasks.items()}
        labels |= {"ap_view": folds.yes(film.view == "AP"), "pa_view": folds.yes(film.view == "PA")}
        whole = Sample(
            id=f"nih/{film.file.removesuffix('.png')}",
            patient=film.patient,
            site="nih",
            split=split,
            inputs={"image": picture},
            labels=labels,
            groups=frozenset({"pneumonia"} if "Pneumonia" in film.findings else ()),
            strata={"source": "nih", "shard": f"nih-{shards[film.patient] + 1}", "view": film.view},
        )
        yield whole
        for asked in nih_vqa.ask(film, seed) if split in HELD_OUT else ():
            yield replace(
                whole,
                id=f"{whole.id}/{asked.template}",
                labels={"nih_vqa": asked.answer},
                questions={"nih_vqa": asked.question},
                strata={**whole.strata, "template": asked.template},
            )


def _strata(films: tuple[nih.Film, ...]) -> dict[str, tuple[bool, bool, bool, int]]:
    """Patient → has pneumonia, has a film without finding, has an infiltration, films (1, 2, 3 or more).

    Findings of unseen tasks have no say in who is held out.
    """
    by_patient: dict[str, list[nih.Film]] = {}
    for film in films:
        by_patient.setdefault(film.patient, []).append(film)
    return {
        patient: (
            any("Pneumonia" in film.findings for film in own),
            any(not film.findings for film in own),
            any("Infiltration" in film.findings for film in own),
            min(len(own), 3),
        )
        for patient, own in by_patient.items()
    }
