"""The pack's ECG windows as samples: real windows, and the same windows with known noise.

Of a record's 180 windows all serve ``pvc`` and the two questions on the rhythm as they are. One half, drawn by hash,
answers ``noisy: No`` as it is; of the other half a copy with noise answers ``noisy: Yes`` (and keeps its rhythm, so that
noise and answer can't be taken for one another). In development and test each window is also asked one of ECG-QA's
questions about noise.

Rate and rhythm are read off the annotated beats. Above 100 a minute there are 3 of 1,620 windows, so the question asks
for 80, which falls between the records' own rates.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedkim.data import cache
from fedkim.data.sample import HELD_OUT, Sample
from fedkim.data.sources import ecgqa_questions, folds, mitbih, noise, pack_questions
from fedkim.errors import FedkimError
from fedkim.modalities import signal
from fedkim.parallel import ordered_map
from fedkim.randomness import numpy_generator_for, seed_for

HEART_RATE = 80.0
"""Beats a minute."""
IRREGULAR = 1.3
"""Longest over shortest distance between two beats: beyond it a window counts as irregular."""
SEEN_NOISE = noise.KINDS[:3]
"""Kinds in training; electrode problems are kept for the held-out questions."""
RULES = (signal, folds, mitbih, noise, ecgqa_questions, pack_questions, sys.modules[__name__])
"""Modules that decide what is cached."""


def samples(root: Path, fold: int, seed: int, workers: int) -> Iterator[Sample]:
    """One sample a window, one for each noisy copy, and one for each question in development and test."""
    files = [file for name in mitbih.RECORDS for file in mitbih.files(root, name)]
    key = cache.content_key([*files, pack_questions.questions_file(root)], seed, rules=RULES)
    entry = cache.cached("mitbih-windows", key, lambda: _build(root, seed, workers))
    rows = entry.facts["rows"]
    waves, table = entry.tensors["signal"], folds.RECORDS[fold]
    for row, wave in zip(rows, waves):
        split = table.split_of(row["record"])
        if "question" in row and split not in HELD_OUT:
            continue
        place = str(table.private.index(row["record"]) + 1) if split == "private" else "held-out"
        yield Sample(
            id=row["id"],
            patient=f"mitbih/{row['record']}",
            site=f"mitbih-{row['record']}",
            split=split,
            inputs={"signal": wave},
            labels=row["labels"],
            questions={"ecg_noise_qa": row["question"]} if "question" in row else {},
            strata={"source": "mitbih", "record": row["record"], "lead": row["lead"], "shard": f"ecg-{place}"}
            | ({"noise": row["noise"]} if row["noise"] else {})
            | ({"template": row["template"]} if "template" in row else {}),
        )


def _build(root: Path, seed: int, workers: int) -> cache.Entry:
    """All windows of all records, whichever fold will want them: tensors ``signal [N, 1, 1000]`` and a row for each."""
    asked = pack_questions.read(root)
    parts = list(ordered_map(lambda name: _record(root, name, asked, seed), mitbih.RECORDS, workers=workers))
    return cache.Entry(
        tensors={"signal": torch.cat([waves for waves, _ in parts])},
        facts={"rows": [row for _, rows in parts for row in rows]},
    )


def _record(root: Path, name: str, entries: list[dict[str, Any]], seed: int) -> tuple[Tensor, list[dict[str, Any]]]:
    record = mitbih.read(root, name)
    num = len(record.windows)
    names = [f"mitbih/{name}/{window:03d}" for window in range(num)]
    disturbed = set(sorted(range(num), key=lambda window: seed_for(seed, "noisy", names[window]))[: num // 2])
    waves: list[Tensor] = []
    rows: list[dict[str, Any]] = []

    def add(window: int, kind: str | None, suffix: str, **row: Any) -> None:
        wave = record.windows[window]
        if kind is not None:
            wave = noise.add_noise(wave, record.sampling_rate, kind, seed, names[window] + suffix)
        waves.append(signal.prepare(wave, record.sampling_rate, what=f"ECG record {name}, window {window}"))
        rows.append({"id": names[window] + suffix, "record": name, "lead": record.lead, "noise": kind, **row})

    for window in range(num):
        rhythm = _rhythm(record.heart_rate[window], record.irregularity[window])
        clean = {} if window in disturbed else {"noisy": "No", "noise_free": "Yes"}
        add(window, None, "", labels={"pvc": folds.yes(record.premature[window]), **rhythm, **clean})
        if window in disturbed:
            kind = str(numpy_generator_for(seed, "kind", names[window]).choice(SEEN_NOISE))
            add(window, kind, "/noisy", labels={"noisy": "Yes", "noise_free": "No", **rhythm})
    if name in folds.HELD_OUT_RECORDS:
        wordings = pack_questions.wordings(entries, record.lead)
        for window, (added, template, question, answer) in enumerate(_questions(wordings, names, seed)):
            add(window, added, "/asked", labels={"ecg_noise_qa": answer}, question=question, template=template)
    return torch.stack(waves), rows


def _rhythm(rate: float | None, irregularity: float | None) -> dict[str, str]:
    """The answers that the distances between the beats give, where there are any."""
    answers = {} if rate is None else {"heart_rate_above_80": folds.yes(rate > HEART_RATE)}
    return answers if irregularity is None else answers | {"irregular_rhythm": folds.yes(irregularity > IRREGULAR)}


def _questions(
    wordings: dict[str, list[tuple[str, str]]], names: list[str], seed: int
) -> Iterator[tuple[str | None, str, str, str]]:
    """For each window: noise to add (or None), template, question and answer; yes and no in equal numbers.

    A "no" window carries either no added noise or, half of the time, noise of another kind than the one asked for (never
    for "any kind of noises"): so the question has to be read.
    """
    for kind in (*noise.KINDS, pack_questions.ANY_NOISE):
        if not wordings.get(kind):
            what = f"questions {pack_questions.FOLDER / pack_questions.QUESTIONS}"
            raise FedkimError(what, found=f"no wording about {kind}", remedy="take the published file")
    order = sorted(range(len(names)), key=lambda window: seed_for(seed, "asked", names[window]))
    affirmed = set(order[: len(names) // 2])
    for window, name in enumerate(names):
        generator = numpy_generator_for(seed, "question", name)
        asked = str(generator.choice((*noise.KINDS, pack_questions.ANY_NOISE)))
        template, question = wordings[asked][int(generator.integers(len(wordings[asked])))]
        others = [kind for kind in noise.KINDS if kind != asked]
        other = (
            str(generator.choice(others)) if generator.random() < 0.5 and asked != pack_questions.ANY_NOISE else None
        )
        given = str(generator.choice(np.array(noise.KINDS))) if asked == pack_questions.ANY_NOISE else asked
        yield (given if window in affirmed else other), template, question, "yes" if window in affirmed else "no"
