"""A site as the coordinator's manifest has it: its key, what it holds, and how many examples it may claim."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedkim.data.site_names import SITE_NAME
from fedkim.errors import FedkimError, unknown
from fedkim.modalities import MODALITIES
from fedkim.recipe import Recipe
from fedkim.tasks import TASKS
from fedkim.toml_files import known_keys


@dataclass(frozen=True, kw_only=True)
class Member:
    """A site of the manifest."""

    name: str
    public_key: str
    modalities: tuple[str, ...]
    tasks: tuple[str, ...]
    max_examples: int | Mapping[str, int]

    def declared(self, recipe: Recipe) -> dict[str, int]:
        """Most examples by component; its keys are the components that the site owns."""
        seen = [TASKS[name] for name in recipe.tasks.seen if name in self.tasks]
        held = [task for task in seen if set(task.inputs) & set(self.modalities)]
        names = {f"decoder.{task.name}" for task in held}
        names |= {f"encoder.{m}" for task in held for m in task.inputs if m in self.modalities}
        most = self.max_examples
        return {name: most if isinstance(most, int) else most.get(name, 0) for name in sorted(names)}


def member_from(name: str, table: object, path: Path) -> Member:
    """The table ``[sites.NAME]`` of the manifest at ``path``.

    Raises:
        FedkimError: no name of a site, a key that is missing or unknown, no counts, or an unknown task or modality.
    """
    where = f"{path}: [sites.{name}]"
    if not SITE_NAME.fullmatch(name):
        raise FedkimError(where, expected="a name of letters, digits, '_', '-' and '.', beginning with a letter")
    if not isinstance(table, Mapping):
        raise FedkimError(where, found=repr(table)[:40], expected="a table")
    needed = ("public_key", "modalities", "tasks", "max_examples")
    keys = known_keys(table, needed, where)
    for key in needed:
        if key not in keys:
            raise FedkimError(where, found=f"no {key}", expected=", ".join(needed))
    most = keys["max_examples"]
    counts = list(most.values()) if isinstance(most, Mapping) else [most]
    if not all(type(count) is int and count > 0 for count in counts):
        found, expected = repr(most)[:40], "a whole number above 0, or one for each component"
        raise FedkimError(f"{where} max_examples", found=found, expected=expected)
    for key in ("modalities", "tasks"):
        if not isinstance(keys[key], list) or not all(isinstance(item, str) for item in keys[key]):
            raise FedkimError(f"{where} {key}", found=repr(keys[key])[:40], expected='a list, for example ["image"]')
    for kind, key, known in (("task", "tasks", TASKS), ("modality", "modalities", MODALITIES)):
        for named in keys[key]:
            if named not in known:
                raise FedkimError(f"{where}: unknown {kind} {named!r}", remedy=unknown(kind, named, known).remedy)
    return Member(
        name=name,
        public_key=str(keys["public_key"]),
        modalities=tuple(keys["modalities"]),
        tasks=tuple(keys["tasks"]),
        max_examples=most,
    )


def require_counts(member: Member, recipe: Recipe, path: Path) -> None:
    """Refuse counts by component that miss one of the site's, or name another."""
    if isinstance(member.max_examples, int):
        return
    where, owned = f"{path}: [sites.{member.name}] max_examples", member.declared(recipe)
    for name in member.max_examples:
        if name not in owned:
            hint = unknown("component", name, owned).remedy if owned else "no seen task of the recipe is its own"
            raise FedkimError(f"{where}: unknown component {name!r}", remedy=hint)
    missing = [name for name in owned if name not in member.max_examples]
    if missing:
        raise FedkimError(where, found=f"nothing for {', '.join(missing)}", expected="a number for each component")
