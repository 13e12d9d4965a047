"""Methods: what the papers compare, and our references, as settings of one code path."""

from dataclasses import dataclass

from fedkim.errors import unknown

FEDPLUG, LORA, MATCHED = "fedplug", "fedplug-lora", "fedplug-lora-matched"
FEDKIM, PLUS = "fedkim", "fedkim-plus"

LOCAL_SITES = 5
"""Sites that ``local-only`` trains one by one."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row of a table: a name and what it changes in the recipe."""

    name: str
    title: str
    """As tables show it."""
    settings: tuple[str, ...]
    """``table.key=value``, over the matrix's base.

    Of the base with the cell's variation, ``{matched_rank}`` is P·r, ``{last_but_one}`` the last round but one and
    ``{half_of_all_steps}`` half of the steps of all rounds: a method that injects in two rounds alone takes as many as the others.
    """
    ours: bool = False
    """Not in the paper."""
    chooses: bool = False
    """Its settings are chosen for it alone; otherwise it takes those of the method that it is compared with."""
    compared_with: str = FEDKIM


_FROZEN = "injection.train_encoders=false"
_TAUGHT = ("injection.teacher=decoder", _FROZEN, "injection.mixup=rotated", "injection.unlabelled=true")
_LATE = ("injection.first_round={last_but_one}", "injection.steps_per_round={half_of_all_steps}")
_EVIDENCE = "injection.evidence=decoder"
_SPREAD = "m3oe.router_spread=1.0"

_METHODS = (
    Method(name=FEDPLUG, title="FedPlug", settings=("m3oe.experts=0",), chooses=True),
    Method(name=LORA, title="FedPlug_L (rank r)", settings=("m3oe.experts=1",), chooses=True),
    Method(
        name=MATCHED,
        title="FedPlug_L (rank P·r)",
        settings=("m3oe.experts=1", "m3oe.rank={matched_rank}"),
        chooses=True,
    ),
    Method(name=FEDKIM, title="FEDKIM", settings=(), chooses=True),
    Method(name="fedkim-pub", title="FEDKIM_pub", settings=("federation.trainers=public",)),
    Method(name="without-task", title="w/o task description", settings=("m3oe.router_inputs=modality",)),
    Method(name="without-modality", title="w/o modality description", settings=("m3oe.router_inputs=task",)),
    Method(name="uniform", title="uniform route", settings=("m3oe.router=uniform",), ours=True),
    Method(name="centralised", title="centralised", settings=("federation.trainers=centralised",), ours=True),
    *(
        Method(
            name=f"local-only.{site}",
            title=f"local-only, site {site}",
            settings=("federation.trainers=local", f"federation.local_site={site}"),
            ours=True,
        )
        for site in range(1, LOCAL_SITES + 1)
    ),
    Method(name=PLUS, title="FEDKIM+", settings=(*_TAUGHT, *_LATE, _EVIDENCE), ours=True, chooses=True),
    # each ingredient of FEDKIM+ by itself, and FEDKIM+ without one of them
    Method(name="frozen-encoders", title="FEDKIM, encoders frozen on the server", settings=(_FROZEN,), ours=True),
    Method(name="late", title="FEDKIM, injection in the last two rounds", settings=_LATE, ours=True),
    Method(name="evidence", title="FEDKIM, decoders' answers as tokens", settings=(_EVIDENCE,), ours=True),
    Method(name="taught", title="FEDKIM, decoders teach", settings=_TAUGHT, ours=True),
    Method(
        name="teacher-only",
        title="FEDKIM, decoders teach, no mix-ups, labelled inputs alone",
        settings=("injection.teacher=decoder", _FROZEN, "injection.mixup=never", "injection.unlabelled=false"),
        ours=True,
    ),
    Method(
        name="mixup-only", title="FEDKIM, mix-ups of labelled features", settings=("injection.mixup=always",), ours=True
    ),
    Method(name="spread", title="FEDKIM, router spread at the start", settings=(_SPREAD,), ours=True),
    Method(name="without-balance", title="FEDKIM, no balance term", settings=("m3oe.entropy_weight=0.0",), ours=True),
    Method(
        name="plus-without-evidence",
        title="FEDKIM+ without decoders' tokens",
        settings=(*_TAUGHT, *_LATE),
        ours=True,
        compared_with=PLUS,
    ),
    Method(
        name="plus-straight",
        title="FEDKIM+ with mix-ups along lines",
        settings=(*_TAUGHT, *_LATE, _EVIDENCE, "injection.mixup=taught"),
        ours=True,
        compared_with=PLUS,
    ),
    Method(
        name="plus-early",
        title="FEDKIM+ in every round",
        settings=(*_TAUGHT, _EVIDENCE),
        ours=True,
        compared_with=PLUS,
    ),
    Method(
        name="plus-spread",
        title="FEDKIM+, router spread at the start",
        settings=(*_TAUGHT, *_LATE, _EVIDENCE, _SPREAD),
        ours=True,
        compared_with=PLUS,
    ),
)

METHODS: dict[str, Method] = {method.name: method for method in _METHODS}
"""By name; a plug-in that the matrix's ``[base.run] plugins`` names may add one."""

LOCAL = tuple(f"local-only.{site}" for site in range(1, LOCAL_SITES + 1))
"""Their mean is the row *local-only*."""


def find_method(name: str) -> Method:
    """A method by name.

    Raises:
        FedkimError: no such method, with the nearest one.
    """
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]


def title_of(name: str) -> str:
    """A method's title; ``local-only`` stands for all its sites."""
    return "local-only (mean over the sites run)" if name == "local-only" else find_method(name).title
