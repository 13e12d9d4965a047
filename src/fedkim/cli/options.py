"""Options that several verbs have."""

from typing import Annotated

from cyclopts import Parameter

AsJson = Annotated[bool, Parameter(name="--json")]
Overrides = Annotated[list[str] | None, Parameter(name="--set")]
