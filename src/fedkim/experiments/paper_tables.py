"""The paper's tables: zero-shot on unseen tasks, fine-tuning on seen ones, the ablation."""

from collections.abc import Callable, Sequence
from statistics import fmean

from fedkim.experiments.methods import FEDKIM, title_of
from fedkim.experiments.scores import SUMMARIES, CellScores, Scores, common, less
from fedkim.experiments.table import DASH, Table, difference, shown

COVID = "covid"
MAIN = (FEDKIM, "fedavg")
BLIND = "blind"
"""The variation whose cells train and ask the language model once more, without the patient."""
RANDOM = "random-model"
"""The variation whose language model knows nothing."""
_BLIND = ("blind", "FEDKIM, trained and asked without the patient (blind)")
ABLATION = ("fedkim", "fedkim-pub", "without-task", "without-modality", "uniform")


def summary(scores: Scores) -> Table:
    """A row per method under FedAvg: its three means, and the references that each of them has to beat."""
    rows = [
        [title, seeds, *means]
        for title, backbone, seeds, *means in _by_method(scores, _means(scores))
        if backbone == MAIN[1]
    ]
    if random := scores.group(FEDKIM, variation=RANDOM):
        means = [shown(scores.by_seed(FEDKIM, which, variation=RANDOM)) for which in SUMMARIES]
        rows.append(["*FEDKIM in a language model of random matrices*", str(len(random)), *means])
    references = [
        shown(scores.by_seed("fedkim", which, row=name))
        for which, name in zip(SUMMARIES, ("small_before", "proxy", "majority_per_template"))
    ]
    if set(references) != {DASH}:
        seeds = str(len(scores.group("fedkim")))
        rows.append(
            ["*FEDKIM's small models / the best of their heads / majority of the template*", seeds, *references]
        )
    return Table(title="", note="", header=["method", "seeds", *SUMMARIES.values()], rows=rows)


def zero_shot_classification(scores: Scores) -> Table:
    """Unseen classification by method, with question-blindness beside every score."""
    tasks = scores.tasks("unseen")

    def row(method: str, backbone: str) -> list[str]:
        cells = [cell for cells in scores.group(method, backbone=backbone).values() for cell in cells]
        return [
            *(
                f"{shown(scores.task_by_seed(method, task, backbone=backbone))} {_blindness(cells, task)}"
                for task in tasks
            ),
            shown(scores.by_seed(method, "unseen", backbone=backbone)),
        ]

    rows = _by_method(scores, row)
    references = [
        ("base", "language model alone"),
        _BLIND,
        ("shuffled", "FEDKIM, given another patient's input"),
        ("proxy", "best head of FEDKIM's sites (proxy)"),
    ]
    rows += _references(scores, "unseen", tasks, references)
    return Table(
        title="Zero-shot on unseen tasks: classification",
        note="AUROC. In brackets the largest correlation of either sign with a seen question on the same inputs: near 1, the answer is that question's.",
        header=["method", "backbone", "seeds", *tasks, "mean"],
        rows=rows if tasks else [],
    )


def zero_shot_generation(scores: Scores) -> Table:
    """Unseen free text by method."""
    tasks = scores.tasks("generation")

    def row(method: str, backbone: str) -> list[str]:
        return [
            *(shown(scores.task_by_seed(method, task, backbone=backbone)) for task in tasks),
            shown(scores.by_seed(method, "generation", backbone=backbone)),
            *(
                shown(_mean_metric(scores, method, backbone, tasks, metric))
                for metric in ("token_f1", "bleu_1", "rouge_1", "meteor_no_synonyms", "empty_rate")
            ),
        ]

    rows = _by_method(scores, row)
    references = [("base", "language model alone"), _BLIND, ("majority_per_template", "majority of the template")]
    rows += [[*one, *[DASH] * 5] for one in _references(scores, "generation", tasks, references)]
    return Table(
        title="Zero-shot on unseen tasks: generation",
        note="Exact match by task and their mean; the other scores are means over the tasks. An empty answer counts as wrong.",
        header=[
            "method",
            "backbone",
            "seeds",
            *tasks,
            "mean",
            "token F1",
            "BLEU-1",
            "ROUGE-1",
            "METEOR, no synonyms",
            "empty",
        ],
        rows=rows if tasks else [],
    )


def seen_tasks(scores: Scores) -> Table:
    """The same weights on the seen tasks (the injection is the fine-tuning)."""
    tasks = scores.tasks("seen")

    def row(method: str, backbone: str) -> list[str]:
        return [
            *(shown(scores.task_by_seed(method, task, backbone=backbone)) for task in tasks),
            shown(own := scores.by_seed(method, "seen", backbone=backbone)),
            difference(less(own, scores.by_seed(method, "seen", row="small_before", backbone=backbone))),
        ]

    rows = _by_method(scores, row)
    references = [
        ("base", "language model alone"),
        _BLIND,
        ("shuffled", "FEDKIM, given another patient's input"),
        ("simple", "simple statistics"),
        ("small_before", "FEDKIM's small models, before injection"),
        ("small_after", "FEDKIM's small models, after injection"),
    ]
    rows += [[*one, DASH] for one in _references(scores, "seen", tasks, references)]
    return Table(
        title="Fine-tuning on seen tasks",
        note=(
            "AUROC on patients kept apart, of the tasks that were trained on; the injection on the public set is the fine-tuning. Last: "
            "less the small models that feed the same language model [95 % t-interval]."
        ),
        header=["method", "backbone", "seeds", *tasks, "mean", "− small models"],
        rows=rows,
    )


def papers_metrics(scores: Scores) -> Table:
    """Accuracy, precision, recall and F1 at 0.5, means over tasks, as the papers print them."""
    metrics = ("accuracy", "precision", "recall", "f1")

    def row(method: str, backbone: str) -> list[str]:
        return [
            shown(_mean_metric(scores, method, backbone, scores.tasks(which), metric))
            for which in ("unseen", "seen")
            for metric in metrics
        ] + [
            shown(_mean_metric(scores, method, backbone, scores.tasks("seen"), metric, tuned=True))
            for metric in metrics
        ]

    rows = _by_method(scores, row)
    majority = [
        shown(_mean_metric(scores, "fedkim", "fedavg", scores.tasks(which), "accuracy", row="majority"))
        for which in ("unseen", "seen")
    ]
    if rows and majority[0] != DASH:
        seeds = str(len(scores.group("fedkim")))
        rows.append(["majority", DASH, seeds, majority[0], *[DASH] * 3, majority[1], *[DASH] * 7])
    return Table(
        title="The papers' metrics",
        note="Means over tasks, where all of them exist: at threshold 0.5, and for seen tasks at the one that development patients gave.",
        header=[
            "method",
            "backbone",
            "seeds",
            *(f"{part}: {metric}" for part in ("unseen", "seen", "seen, tuned") for metric in metrics),
        ],
        rows=rows,
    )


def ablation(scores: Scores) -> Table:
    """FEDKIM less one part: the COVID-like task and the means."""
    full = {which: scores.by_seed("fedkim", which) for which in SUMMARIES}
    rows = []
    for method in ABLATION:
        seeds = scores.group(method)
        if not seeds:
            continue
        cells = [title_of(method), str(len(seeds)), shown(scores.task_by_seed(method, COVID))]
        for which in SUMMARIES:
            own = scores.by_seed(method, which)
            cells.append(shown(own))
            cells.append(DASH if method == "fedkim" else difference(less(own, full[which])))
        rows.append(cells)
    header = ["method", "seeds", "COVID-like"]
    for name in SUMMARIES.values():
        header += [name, "− FEDKIM"]
    return Table(
        title="Ablation",
        note="Differences are paired by seed [95 % t-interval]; all rows have FEDKIM's choice of settings.",
        header=header,
        rows=rows if len(rows) > 1 else [],
    )


def less_fedkim(scores: Scores) -> Table:
    """Every method of the main setting less FEDKIM, those of plug-ins among them."""
    full = {which: scores.by_seed("fedkim", which) for which in SUMMARIES}

    def row(method: str, backbone: str) -> list[str]:
        return [
            difference(less(scores.by_seed(method, which, backbone=backbone), full[which]))
            if (method, backbone) != MAIN
            else DASH
            for which in SUMMARIES
        ]

    rows = [one for one in _by_method(scores, row) if any(text != DASH for text in one[3:])]
    return Table(
        title="Every method less FEDKIM",
        note="Paired by seed with FEDKIM under FedAvg, points, means over seeds [95 % t-interval], without adjustment for their number.",
        header=["method", "backbone", "seeds", *SUMMARIES.values()],
        rows=rows,
    )


def _means(scores: Scores) -> Callable[[str, str], list[str]]:
    return lambda method, backbone: [shown(scores.by_seed(method, which, backbone=backbone)) for which in SUMMARIES]


def _by_method(scores: Scores, row: Callable[[str, str], list[str]]) -> list[list[str]]:
    return [
        [title_of(method), backbone, str(len(scores.group(method, backbone=backbone))), *row(method, backbone)]
        for method, variation, backbone in scores.groups()
        if not variation and scores.group(method, backbone=backbone)
    ]


def _references(
    scores: Scores, which: str, tasks: Sequence[str], references: Sequence[tuple[str, str]]
) -> list[list[str]]:
    """Reference rows as FEDKIM's own cells computed them."""
    rows = []
    for name, title in references:
        variation = BLIND if name == "blind" and scores.group(FEDKIM, variation=BLIND) else ""
        values = [shown(scores.task_by_seed(FEDKIM, task, row=name, variation=variation)) for task in tasks]
        if any(value != DASH for value in values):
            seeds = str(len(scores.group(FEDKIM, variation=variation)))
            mean = shown(scores.by_seed(FEDKIM, which, row=name, variation=variation))
            rows.append([f"*{title}*", DASH, seeds, *values, mean])
    return rows


def _mean_metric(
    scores: Scores,
    method: str,
    backbone: str,
    tasks: Sequence[str],
    metric: str,
    row: str = "injected",
    tuned: bool = False,
) -> dict[int, float]:
    columns = [
        scores.task_by_seed(method, task, row=row, metric=metric, backbone=backbone, tuned=tuned) for task in tasks
    ]
    return {seed: fmean(column[seed] for column in columns) for seed in common(*columns)}


def _blindness(cells: Sequence[CellScores], task: str) -> str:
    found = [abs(worst[1]) for cell in cells if task in cell.record["metrics"] and (worst := cell.blindness(task))]
    return f"({fmean(found):.2f})" if found else f"({DASH})"
