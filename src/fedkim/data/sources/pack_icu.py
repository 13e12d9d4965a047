"""The pack's intensive-care stays as samples: the first day for training, matched onset windows for the rest.

First day: hours 0–23, with the death that may follow and two readings of the day itself (a lactate above 2 mmol/L, a mean
arterial pressure below 65 mmHg; asked only where the quantity was measured). That a reading can be found in the input is
meant so: those questions teach the model to read.

Onset windows (``aki``, ``sepsis``): the 24 hours that end just *before* the hour of onset, cases with matched controls. The
onset hour itself stays out: with it, the lab value or the urine that dates the onset is in the input and a logistic
regression goes from AUROC 0.67 to 0.94.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from fedkim.data import cache
from fedkim.data.sample import HELD_OUT, Sample
from fedkim.data.sources import folds, matching, pack_stays, yaib_tables
from fedkim.modalities import concepts, series

CONTROLS = {"aki": 1, "sepsis": 5}
"""Controls a case. Cases of sepsis are few (64 stays), so each has five."""
LACTATE = 2.0
"""mmol/L."""
PRESSURE = 65.0
"""mmHg."""
NUM_SHARDS = 4
"""Parts of the eICU stays a site can hold: ``eicu-1`` … ``eicu-4``; MIMIC's are one part, ``mimic-1``."""
RULES = (series, concepts, yaib_tables, pack_stays, matching, folds, sys.modules[__name__])
"""Modules that decide what is cached."""


def samples(root: Path, fold: int, seed: int) -> Iterator[Sample]:
    """One sample a first day; in development and test one more for each matched onset window."""
    files = [file for task in ("mortality24", *CONTROLS) for file in pack_stays.files(root, task)]
    key = cache.content_key(files, seed, rules=RULES)
    entry = cache.cached("yaib-windows", key, lambda: _build(root, seed))
    days, others = entry.facts["days"], entry.facts["others"]
    deciles, cells = _deal_days({d["stay"]: d["died"] for d in days}, seed), _deal_others(others, seed)
    shards = folds.deal(
        {stay: "eicu" for stay in (*deciles, *cells) if stay.startswith("eicu/")}, NUM_SHARDS, seed, "eicu"
    )

    def sample(part: str, row: int, stay: str, name: str, split: str, labels: dict[str, str]) -> Sample:
        source = stay.split("/")[0]
        return Sample(
            id=f"{stay}/{name}",
            patient=stay,
            site=source,
            split=split,
            inputs={modality: entry.tensors[f"{part}.{modality}"][row] for modality in concepts.CONCEPTS},
            labels=labels,
            strata={"source": source, "shard": f"{source}-{shards.get(stay, 0) + 1}"},
        )

    for row, day in enumerate(days):
        split = folds.split_of_decile(deciles[day["stay"]], fold)
        yield sample("day", row, day["stay"], "day1", split, _answers(day))
    for task in CONTROLS:
        for row, (stay, until_hour, case) in enumerate(entry.facts[task]):
            place = (
                folds.split_of_decile(deciles[stay], fold)
                if stay in deciles
                else folds.split_of_cell(cells[stay], fold)
            )
            if place in HELD_OUT:
                yield sample(task, row, stay, f"{task}@{until_hour}", str(place), {task: folds.yes(case)})


def _answers(day: dict[str, float | None]) -> dict[str, str]:
    answers = {"icu_mortality": folds.yes(bool(day["died"]))}
    if day["highest_lactate"] is not None:
        answers["lactate_above_2"] = folds.yes(day["highest_lactate"] > LACTATE)
    if day["lowest_pressure"] is not None:
        answers["map_below_65"] = folds.yes(day["lowest_pressure"] < PRESSURE)
        answers["map_stayed_above_65"] = folds.yes(day["lowest_pressure"] >= PRESSURE)
    return answers


def _deal_days(died: dict[str, bool], seed: int) -> dict[str, int]:
    """Stay → decile, each with its share of deaths and of both sources."""
    return folds.deal({stay: (stay.split("/")[0], died[stay]) for stay in died}, folds.NUM_DECILES, seed, "icu")


def _deal_others(stays: list[str], seed: int) -> dict[str, int]:
    """Stay → cell, for the stays that carry labels of unseen tasks only."""
    return folds.deal({stay: stay.split("/")[0] for stay in stays}, folds.NUM_CELLS, seed, "icu held out")


def _build(root: Path, seed: int) -> cache.Entry:
    """Tensors ``day.<modality>``, ``aki.<modality>``, ``sepsis.<modality>``, each ``[N, 24, 2F]``, and what they show."""
    died, hourly = pack_stays.read_deaths(root), pack_stays.read_hourly(root, "mortality24")
    yaib_tables.check_same_stays(root / pack_stays.FOLDER / "mortality24", died, hourly.values)
    days = [
        {
            "stay": stay,
            "died": died[stay],
            "highest_lactate": max(hourly.measured(stay, "lact").tolist(), default=None),
            "lowest_pressure": min(hourly.measured(stay, "map").tolist(), default=None),
        }
        for stay in sorted(died)
    ]
    tensors = {f"day.{m}": t for m, t in yaib_tables.tensors(hourly.window(str(d["stay"])) for d in days).items()}
    courses = {task: pack_stays.read_courses(root, task) for task in CONTROLS}
    others = sorted({stay for course in courses.values() for stay in course} - set(died))
    deciles, cells = _deal_days(died, seed), _deal_others(others, seed)
    facts: dict[str, object] = {"days": days, "others": others}
    for task, controls in CONTROLS.items():
        pools: dict[tuple[str, str, int], list[str]] = {}
        for stay in courses[task]:
            if stay in deciles:
                pool = (stay.split("/")[0], "decile", deciles[stay])
            else:
                fold, cell = divmod(cells[stay], folds.NUM_FOLDS)
                pool = (stay.split("/")[0], "development" if cell == 0 else "test", fold)
            pools.setdefault(pool, []).append(stay)
        windows = matching.match([pools[pool] for pool in sorted(pools)], courses[task], controls, seed, task)
        hourly = pack_stays.read_hourly(root, task)
        yaib_tables.check_same_stays(root / pack_stays.FOLDER / task, courses[task], hourly.values)
        made = yaib_tables.tensors(hourly.window(window.stay, window.until_hour) for window in windows)
        tensors |= {f"{task}.{modality}": tensor for modality, tensor in made.items()}
        facts[task] = [[window.stay, window.until_hour, window.case] for window in windows]
    return cache.Entry(tensors=tensors, facts=facts)
