"""The site's policy: what may leave, decided by the hospital's own file and enforced by its own installation. It fails closed.

::

    [policy]
    recipe = "recipe.toml"          # the approved recipe, a copy of your own
    recipe_digest = "5b1f…"         # `fedkim site approve recipe.toml` prints it; another recipe is refused
    tasks = ["lung_opacity"]        # what your data may teach
    modalities = ["image"]          # which of your inputs may be read
    min_cohort = 20                 # patients behind each component, at least
    max_rounds = 10                 # rounds of one run, at most
    max_bytes = 16_000_000          # bytes of one answer
    min_contributors_per_component = 2
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from fedkim.engines.flower.messages import Request
from fedkim.errors import FedkimError, unknown


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The table ``[policy]`` of a site's file. What it doesn't allow doesn't happen."""

    recipe: str
    """File of the approved recipe."""
    recipe_digest: str
    """Its digest: if the file is changed, nothing leaves until somebody approves it again and joins anew."""
    tasks: tuple[str, ...]
    modalities: tuple[str, ...]
    min_cohort: int = 20
    """Distinct patients behind each component, at least."""
    max_rounds: int = 10
    """Rounds of one run that may be answered, counted in the audit log; a round asked from other weights is another."""
    max_bytes: int = 16_000_000
    """Bytes of one answer; asked again, the same answer may leave again, and the audit log has a line for each."""
    min_contributors_per_component: int = 2
    """With one contributor the average of a component *is* that hospital's update, and the next broadcast carries it to all. The
    coordinator says how many at least give it if the round comes about; its gate may still turn some away.
    """


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why nothing leaves."""

    code: str
    reason: str


def policy_from(table: Mapping[str, Any], *, source: str) -> Policy:
    """The policy in a table.

    Raises:
        FedkimError: a key is missing, unknown, or of another type.
    """
    known = {item.name: item.type for item in fields(Policy)}
    for name in ("recipe", "recipe_digest", "tasks", "modalities"):
        if name not in table:
            raise FedkimError(f"{source}: [policy]", found=f"no {name}", remedy="without it nothing may leave")
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in known:
            raise FedkimError(f"{source}: unknown key {name!r} in [policy]", remedy=unknown("key", name, known).remedy)
        expected = getattr(Policy, name, None)
        if isinstance(expected, int):
            if type(value) is not int or value < 1:
                found, expected = repr(value)[:40], "a whole number of at least 1"
                raise FedkimError(f"{source}: [policy] {name}", found=found, expected=expected)
            values[name] = value
        elif name in ("recipe", "recipe_digest"):
            if not isinstance(value, str) or not value:
                raise FedkimError(f"{source}: [policy] {name}", found=repr(value)[:40], expected="text in quotes")
            values[name] = value
        else:
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                found, expected = repr(value)[:40], 'a list, for example ["image"]'
                raise FedkimError(f"{source}: [policy] {name}", found=found, expected=expected)
            values[name] = tuple(value)
    return Policy(**values)


def objection(
    policy: Policy, request: Request, *, site: str, cohorts: Mapping[str, int], answered: Collection[tuple[int, str]]
) -> Refusal | None:
    """What forbids answering a request; None if nothing does.

    Args:
        policy: the site's.
        request: the coordinator's.
        site: this site's name.
        cohorts: distinct patients behind each component that the site's data, read through the policy, can train.
        answered: round and base of what the audit log says was answered in this run. The same again tells nothing new;
            the same round from other weights does, and counts.
    """
    if request.site != site:
        return Refusal(code="E-POLICY-SITE", reason="meant for another site")
    if request.recipe != policy.recipe_digest:
        return Refusal(code="E-POLICY-RECIPE", reason="not the recipe that was approved")
    if request.round < 1 or ((request.round, request.base) not in answered and len(answered) >= policy.max_rounds):
        return Refusal(code="E-POLICY-ROUNDS", reason=f"more than {policy.max_rounds} rounds")
    asked, able = set(request.components), set(cohorts)
    if asked != able:
        odd = sorted(asked ^ able)[0]
        return Refusal(code="E-POLICY-COMPONENT", reason=f"{odd} is {'asked for' if odd in asked else 'not asked for'}")
    for name in sorted(asked):
        if cohorts[name] < policy.min_cohort:
            return Refusal(code="E-POLICY-COHORT", reason=f"{name} rests on fewer than {policy.min_cohort} patients")
        if request.contributors.get(name, 0) < policy.min_contributors_per_component:
            return Refusal(
                code="E-POLICY-CONTRIBUTORS",
                reason=f"{name} may come from fewer than {policy.min_contributors_per_component} sites in this round",
            )
    return None
