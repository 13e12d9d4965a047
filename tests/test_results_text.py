"""Figures in the sentences of the results page that none of its tables shows, computed again from the committed cells."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations
from pathlib import Path
from statistics import fmean, median

import pytest

from fedkim.data.phantom.factors import FINDINGS
from fedkim.evaluation.seeds import paired_seeds
from fedkim.experiments.claims import decide
from fedkim.experiments.keeping import read_kept
from fedkim.experiments.methods import MATCHED
from fedkim.experiments.scores import CellScores, Scores, less, processor, read_scores

ROOT = Path(__file__).parents[1]
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
PICTURES = ("enlarged_cardiomediastinum", "atelectasis", "pleural_effusion")
COIN = math.log(2) / 2
"""Loss a token of a fair coin's yes or no, with the end of text behind it."""
ECG, STAY = "ecg_abnormal", "mortality"
FOUR = ("lung_opacity", "covid", ECG, STAY)
ASKED, WEIGHED = {"variation": "questions"}, {"variation": "questions-weighed"}


Said = tuple
"""A sentence's words, with places for figures, and the figures."""


@cache
def page() -> str:
    """The sentences of the page in one line: without the blocks that the comparison writes, which other tests compare."""
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    return " ".join(re.sub(r"<!-- results:(\S+) -->.*?<!-- /results:\1 -->", "", text, flags=re.DOTALL).split())


@cache
def scores(name: str = "paper-matrix") -> Scores:
    return read_scores(ROOT / "results" / name)


def both_kinds() -> Scores:
    """The matrix with trainings of AVX512 in place of the same of AVX2, but for FEDKIM+."""
    again = {cell.name: cell for cell in scores("paper-matrix-avx512").cells if cell.method != "fedkim-plus"}
    return replace(scores(), cells=tuple(again.get(cell.name, cell) for cell in scores().cells))


def plus(kind: str, which: str, row: str = "injected", **named) -> Mapping[int, float]:
    return scores(f"paper-matrix{kind}").by_seed("fedkim-plus", which, row=row, **named)


def own(which: str = "seen", method: str = "fedkim", **named) -> Mapping[int, float]:
    return scores().by_seed(method, which, **named)


def task(name: str, method: str = "fedkim", **named) -> Mapping[int, float]:
    return scores().task_by_seed(method, name, **named)


def number(value: float) -> str:
    return f"{value:.1f}".replace("-0.0", "0.0").replace("-", "−")


def bounds(values: Mapping[int, float]) -> str:
    found = paired_seeds(list(values.values()))
    return f"[{number(found.low)}, {number(found.high)}]"


def mean(values: Mapping[int, float]) -> str:
    return number(fmean(values.values()))


def told(values: Mapping[int, float]) -> str:
    """``6.6 [2.9, 10.4]``."""
    return f"{mean(values)} {bounds(values)}"


def half(values: Mapping[int, float]) -> str:
    found = paired_seeds(list(values.values()))
    return f"{found.mean:.1f} ± {found.high - found.mean:.1f}"


def series(values: Mapping[int, float], digits: int = 0) -> str:
    """``80, 88 and 66``."""
    *first, last = (f"{value:.{digits}f}" for value in values.values())
    return f"{', '.join(first)} and {last}"


def between(values: Iterable[float], digits: int = 1) -> str:
    """``0.4 to 1.5``."""
    found = sorted(values)
    return f"{found[0]:.{digits}f} to {found[-1]:.{digits}f}"


def of_tasks(names: Sequence[str], **named) -> dict[int, float]:
    """A mean over these tasks by seed."""
    columns = [task(name, **named) for name in names]
    return {seed: fmean(column[seed] for column in columns) for seed in columns[0]}


def routes_of(cell: CellScores) -> Mapping[str, Sequence[float]]:
    return cell.record["routes"]["tasks"]


def distance(cell: CellScores, first: str, second: str) -> float:
    """Total variation between two tasks' routes."""
    return sum(abs(a - b) for a, b in zip(routes_of(cell)[first], routes_of(cell)[second])) / 2


def nearest_seen(cell: CellScores, name: str) -> str:
    return min(cell.tasks("seen"), key=lambda seen: distance(cell, name, seen))


def less_loss(method: str) -> str:
    """By how many percent the last loss is lower with twice the steps, lowest to highest."""
    lower = []
    for seed, (cell,) in scores().group(method, variation="twice-the-steps").items():
        (once,) = scores().group(method)[seed]
        first, second = (list(one.injection_losses.values())[-1] for one in (once, cell))
        lower.append(100 * (1 - second / first))
    return between(lower, 0)


def moved(row: str, *, pub: bool = False) -> dict[tuple, float]:
    """How far a task's points lie apart on two kinds of processor, of FEDKIM_pub or of all others."""
    found = {}
    for kind in ("avx2", "avx512"):
        for cell in scores(f"paper-matrix-{kind}").cells:
            (first,) = scores().group(cell.method, variation=cell.variation)[cell.seed]
            for name in cell.tasks("seen") + (cell.tasks("unseen") if row == "injected" else []):
                if row == "injected" or (cell.method == "fedkim-pub") == pub:
                    there, here = first.points(name, row), cell.points(name, row)
                    found[cell.method, cell.variation, cell.seed, name] = abs(there - here)
    return found


def minutes(record: Mapping) -> float:
    return record["run_info"]["processor_seconds"] / 60


def differences() -> Iterator[Said]:
    """Differences between methods."""
    small, pub = own(row="small_before"), own("all", "fedkim-pub")
    yield (
        "centralised less federated {} on seen tasks",
        told(less(own(method="centralised", row="small_before"), small)),
    )
    yield (
        "{} and {} below FEDKIM without a description",
        told(less(own("all", "without-task"), pub)),
        told(less(own("all", "without-modality"), pub)),
    )
    lost = less(small, own(method="fedkim-pub", row="small_before"))
    yield "{} points {} below the sites' on seen tasks, its injected model", mean(lost), bounds(lost)
    random = {"variation": "random-model"}
    lost = less(own(row="small_before", **random), own(**random))
    yield "FEDKIM loses {} points to its small models {}, in SmolLM2", mean(lost), bounds(lost)
    blind = less(own("generation"), own("generation", row="blind", variation="blind"))
    yield "and {} above [*blind*](#words): that", told(blind)
    ecgs = [value for name in (ECG, "ectopic_beats") for value in less(task(name, MATCHED), task(name)).values()]
    yield "FEDKIM is {} points below it in every seed", between(ecgs)
    lost = less(task(ECG), task(ECG, "fedkim-pub"))
    yield "most of it is the ECG ({} on `ecg_abnormal` {})", mean(lost), bounds(lost)
    yield "disagree ({})", told(less(task("lung_opacity"), task("lung_opacity", "fedkim-pub")))
    yield "in the mean is `lung_opacity` ({})", told(less(task("lung_opacity"), task("lung_opacity", "fedplug")))
    yield "*ectopic beats* ({})", told(task("ectopic_beats", variation="rho-0"))


def further_questions() -> Iterator[Said]:
    """Ten questions instead of four, five seeds and, weighed, three."""
    others = tuple(name for name in FOUR if name != ECG)
    unseen = tuple(name for name in scores().tasks("unseen") if name != "ectopic_beats")
    lost = [
        less(of_tasks(names, row=row), of_tasks(names, row=row, **ASKED))
        for names, row in ((others, "injected"), (unseen, "injected"), (others, "small_before"))
    ]
    yield "Without the ECG it is {} and {}, where small models lose {}.", *map(told, lost)
    yield "small models lose {} points in the mean {}", mean(lost[2]), bounds(lost[2])
    gains = [less(of_tasks(names, **WEIGHED), of_tasks(names, **ASKED)) for names in (FOUR, scores().tasks("unseen"))]
    yield "no gain was found ({} and {})", *map(half, gains)

    def three(names: Sequence[str], row: str = "injected", **named) -> dict[int, float]:
        found = of_tasks(names, row=row, **named)
        return {seed: found[seed] for seed in gains[0]}

    small = [three([ECG], "small_before", **named) for named in (WEIGHED, ASKED, {})]
    small += [three(FOUR, "small_before", **named) for named in (WEIGHED, ASKED)]
    yield (
        "small models have {} on the finding instead of {}, with four questions {}, and over the four tasks {} instead of {}.",
        *map(series, small),
    )
    unseen = scores().tasks("unseen")
    injected = [three(names, **named) for names in ([ECG], FOUR, unseen) for named in (WEIGHED, ASKED)]
    yield (
        "The language model reads {} of it, instead of {}; over the four tasks {} instead of {}, on unseen ones {} instead of {}:",
        *map(series, injected),
    )
    yield "for the small models; {} on three seeds where", f"{fmean(small[0].values()):.0f}"
    polar = ("noisy", "noise_free", "map_below_65", "map_stayed_above_65")
    yield "either question is answered with {}.", between([fmean(task(name, **ASKED).values()) for name in polar], 0)
    views = {f"{fmean(task(name, row='small_before', **ASKED).values()):.0f}" for name in ("ap_view", "pa_view")}
    yield "not even the small models can tell ({})", *views
    cells = [cell for group in scores().group("fedkim", **ASKED).values() for cell in group]
    alike = [fmean(abs(cell.blindness(name)[1]) for cell in cells) for name in PICTURES]
    yield "as alike to a seen one as before ({})", between(alike, 2)


def by_seed() -> Iterator[Said]:
    """What single seeds, routes and losses say of FEDKIM beside the LoRA of its size."""
    seen, unseen = less(own(), own(method=MATCHED)), less(own("unseen"), own("unseen", MATCHED))
    apart = {
        seed: fmean(distance(cell, a, b) for a, b in combinations(cell.tasks("seen"), 2))
        for seed, (cell,) in scores().group("fedkim").items()
    }
    last, second, *_ = sorted(apart, key=apart.get, reverse=True)
    yield (
        "it is {} in seed {}, where they part most, +{} in seed {}, the second",
        number(seen[last]),
        last,
        number(seen[second]),
        second,
    )
    yield (
        "is one seed's (11: {}; others {})",
        number(unseen[11]),
        between([value for seed, value in unseen.items() if seed != 11]),
    )
    cells = {seed: cell for seed, (cell,) in scores().group("fedkim").items()}
    weights = {seed: [weight for name in FOUR for weight in routes_of(cell)[name]] for seed, cell in cells.items()}
    near = [seed for seed in cells if max(weights[seed]) < 0.2]
    entropy = [fmean(cells[seed].record["routes"]["entropy"][name] for name in FOUR) for seed in near]
    assert (len(near), len(cells)) == (4, 5)
    yield (
        "weights on seen tasks lie between {} and {} (uniform: {}), with a mean entropy of {} to {}.",
        *(f"{value:.2f}"[1:] for value in (min(min(weights[s]) for s in near), max(max(weights[s]) for s in near))),
        f"{1 / 12:.3f}"[1:],
        f"{min(entropy):.2f}"[1:],
        f"{max(entropy):.0f}",
    )
    (far,) = set(cells) - set(near)
    (moved,) = (name for name in FOUR if max(routes_of(cells[far])[name]) > 0.2)
    assert 0.6 < max(routes_of(cells[far])[moved]) < 2 / 3
    yield "In seed {} one task, `{}`, moves nearly two thirds of its weight to one expert", far, moved
    nearest = [(name, nearest_seen(cell, name)) for cell in cells.values() for name in cell.tasks("unseen")]
    linked = [(name, found) for name, found in nearest if found == FINDINGS[name].partner]
    pictures = [found for name, found in nearest if name in PICTURES]
    yield (
        "in {} of {} cases (chance: 6), and in {} of the {} about pictures, of which {} lie nearest to a signal's or a stay's",
        len(linked),
        len(nearest),
        sum(name in PICTURES for name, _ in linked),
        len(pictures),
        sum(found in (ECG, STAY) for found in pictures),
    )
    heard = {seed: {cell.blindness(name)[0] for name in PICTURES} for seed, cell in cells.items()}
    assert all(len(found) == 1 for found in heard.values())
    means = of_tasks(PICTURES)
    right = [means[seed] for seed, found in heard.items() if found == {"lung_opacity"}]
    other = [means[seed] for seed, found in heard.items() if found != {"lung_opacity"}]
    assert len(right) == 2
    yield "({} and {} in these two, {} in the others)", *(f"{value:.0f}" for value in right), between(other, 0)
    rounds = [
        next(place for place, loss in cell.injection_losses.items() if loss < COIN)
        for method in ("fedplug", "fedplug-lora", MATCHED, "fedkim")
        for (cell,) in scores().group(method).values()
    ]
    yield (
        "(a fair coin's is {} a token, the end of text included, and it takes {} to {} rounds",
        (f"{COIN:.2f}"[1:]),
        NUMBERS[min(rounds)],
        NUMBERS[max(rounds)],
    )
    yield "lower FEDKIM's by {} % and FedPlug's by {} %;", *map(less_loss, ("fedkim", "fedplug"))


def processors() -> Iterator[Said]:
    """Trainings that were run on two kinds of processor."""
    matched = [
        scores(name).by_seed(method, "seen")[10]
        for name in ("paper-matrix", "paper-matrix-avx2")
        for method in ("fedkim", MATCHED)
    ]
    yield (
        "FEDKIM − FedPlug_L {} and +{} on seen tasks",
        number(matched[0] - matched[1]),
        number(matched[2] - matched[3]),
    )
    kinds = both_kinds()
    verdicts = {one.claim.number: one for one in decide(kinds)}
    assert {name: one.verdict.word for name, one in verdicts.items()} == {
        one.claim.number: one.verdict.word for one in decide(scores())
    }
    yield "claim 7 is {}, claim 8 {} and claim 9 {} (before", *(told(verdicts[name].by_seed) for name in "789")
    yield "with that seed repeated on the first kind it is {}", told(verdicts["7"].by_seed)
    gap = less(kinds.by_seed("without-modality", "seen"), kinds.by_seed("fedkim", "seen"))
    both = less(kinds.by_seed("without-modality", "all"), kinds.by_seed("fedkim", "all"))
    yield "makes that {} and, on seen tasks, {}: don't build on it", told(both), told(gap)
    again = {which: plus("-avx512", which) for which in ("seen", "unseen")}
    gains = {which: less(again[which], own(which)) for which in again}
    yield "that FEDKIM ran on, it is {} above it.", told(gains["seen"])
    yield (
        "it is {} points {} above FEDKIM on seen tasks and {} on",
        mean(gains["seen"]),
        bounds(gains["seen"]),
        told(gains["unseen"]),
    )
    references = {"seen": "small_before", "unseen": "proxy"}
    below = [less(plus("-avx512", which, row), again[which]) for which, row in references.items()]
    yield "{} below its own small models (0.5 [0.1, 0.9]) and {} below the best head", *map(told, below)
    at_zero = {**plus("", "unseen", variation="rho-0"), **plus("-avx512", "unseen", variation="rho-0")}
    half_way = plus("", "unseen", variation="rho-0.5")
    yield "its curve is {}, {} and {}, in the matrix", *map(mean, (at_zero, half_way, again["unseen"]))
    injected, small, pub = moved("injected"), moved("small_before"), moved("small_before", pub=True)
    papers = {key: value for key, value in injected.items() if key[0] != "fedkim-plus"}
    yield "and a single task by up to {}**", f"{max(papers.values()):.0f}"
    yield (
        "and {} in one, but for FEDKIM_pub's ({} on `lung_opacity`, {} on `ecg_abnormal`)",
        (number(max(small.values()))),
        *(number(pub["fedkim-pub", "", 14, name]) for name in ("lung_opacity", ECG)),
    )


def fedkim_plus() -> Iterator[Said]:
    """FEDKIM+ on development patients: seeds 2 and 3, in turn."""
    found, others = scores("fedkim-plus-development"), [name for name in FOUR if name != ECG]

    def points(method: str, tasks: Sequence[str], row: str = "injected", variation: str = "") -> Mapping[int, float]:
        return found.by_seed(method, "seen", row=row, variation=variation, tasks=tasks)

    whole = points("fedkim-plus", FOUR)
    lower = {name: less(whole, points(name, FOUR)) for name in ("plus-straight", "plus-early", "plus-without-evidence")}
    yield "which lie closer together, it is {} points lower", series(lower["plus-straight"], 1)
    yield "injected in every round {} lower", series(lower["plus-early"], 1)
    yield "at the start {} higher", series(less(points("plus-spread", FOUR), whole), 1)
    yield (
        "(FEDKIM, collapsed to one or two, is {} points lower",
        series(less(points("fedkim", FOUR), points("spread", FOUR)), 1),
    )
    below, gone = (
        {
            method: less(points(method, others, row, more), points(method, others, "injected", "questions"))
            for method in ("fedkim", "fedkim-plus")
        }
        for row, more in (("small_before", "questions"), ("injected", ""))
    )
    plus, kim = below["fedkim-plus"], below["fedkim"]
    yield (
        "near chance for both, {} and +{}, where FEDKIM is {} points below",
        (number(-plus[2])),
        number(-plus[3]),
        series(kim, 1),
    )
    yield (
        "(on the other three tasks +{} and {}), FEDKIM {} there too",
        number(-gone["fedkim-plus"][2]),
        number(-gone["fedkim-plus"][3]),
        series(gone["fedkim"], 1),
    )


def real_folds() -> Iterator[Said]:
    """Losses and minutes of the cells on real patients."""
    cells = scores("real-pack-fold").cells
    losses = [list(cell.injection_losses.values())[-1] for cell in cells]
    yield "A loss of {} to {} a token after 140 steps", *(f"{value:.2f}"[1:] for value in (min(losses), max(losses)))
    by_kind: dict[str, list[float]] = {}
    for cell in cells:
        if "rounds before resuming" not in cell.record["run_info"].get("seconds_by_part", {}):
            by_kind.setdefault(processor(cell.record["run_info"]), []).append(minutes(cell.record))
    yield "({} cells, {} minutes of a core each on a processor with AVX512", len(cells), between(by_kind["AVX512"], 0)
    yield "on one with AVX2 alone, {}; twelve", between(by_kind["AVX2"], 0)


def finished_runs() -> Iterator[Said]:
    """Intervals of differences by patient that the tables of single runs don't hold."""
    drawn, real = (
        json.loads(next((ROOT / "results" / name).glob("*.json")).read_text()) for name in ("demo", "real-pack")
    )

    def less_than(run: dict, name: str, row: str = "small_before") -> dict[str, float]:
        return run["metrics"][name]["differences"][row]

    found = less_than(drawn, "lung_opacity")
    yield "on `lung_opacity` (by {:.2f}; interval {:.2f} to {:.2f})", *(-found[key] for key in ("value", "high", "low"))
    found = less_than(drawn, ECG)
    yield "`ecg_abnormal` ({:.2f}; {:.3f} to {:.3f})", *(-found[key] for key in ("value", "high", "low"))
    found = less_than(drawn, STAY)
    yield "`mortality` ({:.2f}; −{:.2f} to {:.2f})", -found["value"], found["high"], -found["low"]
    found = less_than(real, "pneumonia")
    yield "on `pneumonia` by {:.2f} (interval −{:.3f} to −{:.3f})", *(-found[key] for key in ("value", "low", "high"))
    found = less_than(real, "pa_view")
    yield "`pa_view` by {:.2f} (−{:.3f} to −{:.3f})", *(-found[key] for key in ("value", "low", "high"))
    found = less_than(real, "pneumonia", "simple")
    yield "below *simple statistics* by {:.2f} (−{:.3f} to −{:.3f};", *(-found[key] for key in ("value", "low", "high"))
    for name in ("nih_atelectasis", "nih_edema"):
        assert less_than(real, name, "proxy")["high"] < 0
        yield ("on `nih_atelectasis` and `nih_edema` it is clearly below",)


def times() -> Iterator[Said]:
    """Minutes of one core."""
    kept = [read_kept(path) for path in (ROOT / "results" / "choice" / "paper-matrix").glob("*.json")]
    yield "A cell of the choice takes {} minutes of one core", NUMBERS[round(median(map(minutes, kept)))]
    whole = [cell for cell in scores().cells if not cell.record["run_info"]["cell"].get("trained_in")]
    whole = [
        cell for cell in whole if "rounds before resuming" not in cell.record["run_info"].get("seconds_by_part", {})
    ]
    plain = [minutes(cell.record) for cell in whole if not cell.variation.startswith("questions")]
    asked = [minutes(cell.record) for cell in whole if cell.variation.startswith("questions")]
    yield "takes {} (the median; {} with ten questions)", NUMBERS[round(median(plain))], between(asked, 0)
    ten, full, random = (
        [minutes(cell.record) for group in scores().group("fedkim", variation=name).values() for cell in group]
        for name in ("ten-layers", "", "random-model")
    )
    yield (
        "{} to {} of the processor time of a cell",
        f"{fmean(ten) / fmean(random):.2f}",
        f"{fmean(ten) / fmean(full):.2f}",
    )


PARTS = (differences, further_questions, by_seed, processors, fedkim_plus, real_folds, finished_runs, times)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_sentences_have_the_figures_of_the_committed_cells(part):
    wanted = [template.format(*figures) for template, *figures in part()]
    assert [sentence for sentence in wanted if not is_said(sentence)] == []


def is_said(sentence: str) -> bool:
    """Whether the page has the sentence, and not behind a sign or a digit that would make its first figure another."""
    return re.search(rf"(?<![\d.,−+-]){re.escape(sentence)}", page()) is not None


def test_another_sign_or_figure_is_noticed():
    assert is_said("6.6 [2.9, 10.4] and 8.1 [4.2, 12.0] below FEDKIM without a description")
    assert not is_said(".6 [2.9, 10.4] and 8.1 [4.2, 12.0] below FEDKIM without a description")
    assert not is_said("0.7 and +1.6 on seen tasks")  # the page has −0.7


def test_a_training_repeated_for_the_blind_reference_answers_as_before():
    for seed, (again,) in scores().group("fedkim", variation="blind").items():
        (first,) = scores().group("fedkim")[seed]
        for name in first.record["metrics"]:
            assert again.points(name) == first.points(name)
