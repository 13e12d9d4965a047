"""The one exception users see: what is wrong, what was found, what was expected, what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class FedkimError(ValueError):
    """A mistake in a recipe, a file or a command, told in one line; the shell ends with status 2 and no traceback.

    Args:
        what: the thing that is wrong, by name (a file, a key, a task). Never a patient's value.
        found: what stands there now.
        expected: what would have been right.
        remedy: what to do about it.
        code: of an error about data, as findings have it (``E-DCM-NO-PIXELS``); not part of the line.
    """

    def __init__(self, what: str, *, found: str = "", expected: str = "", remedy: str = "", code: str = ""):
        self.what, self.found, self.expected, self.remedy, self.code = what, found, expected, remedy, code
        parts = [what]
        if found:
            parts.append(f"found {found}")
        if expected:
            parts.append(f"expected {expected}")
        line = ", ".join(parts)
        super().__init__(f"{line}; {remedy}" if remedy else line)

    def with_remedy(self, remedy: str) -> "FedkimError":
        """The same error for a command that knows another way out."""
        return FedkimError(self.what, found=self.found, expected=self.expected, remedy=remedy, code=self.code)


def unknown(kind: str, name: str, known: Iterable[str]) -> FedkimError:
    """The error for a name that no registry holds, with the nearest one as a hint."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    remedy = f"did you mean {near[0]!r}?" if near else f"choose one of: {', '.join(names)}"
    return FedkimError(f"unknown {kind} {name!r}", remedy=remedy)


def install_extra(extra: str) -> str:
    """The remedy where the packages of an optional extra are missing, such as ``flower``; fedkim is installed from its folder."""
    return f"install fedkim's extra {extra!r}: pip install '.[{extra}]' in your copy of its folder"
