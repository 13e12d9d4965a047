"""The algorithms by name, and how one is made from a recipe's ``[federation]``."""

import inspect
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from fedkim.aggregation.algorithms import Algorithm, fedavg, fedprox, proximal_term
from fedkim.aggregation.clipping import clipped_mean
from fedkim.aggregation.krum import krum, multi_krum
from fedkim.aggregation.robust import median, trimmed_mean
from fedkim.errors import FedkimError, unknown
from fedkim.recipe import Federation

Maker = Callable[..., Algorithm]
"""Its keywords are keys of ``[federation]``; it gets the recipe's values of those that it names."""


def with_proximal_term(maker: Maker) -> Maker:
    """The same rule with FedProx's penalty at the sites, under the name ``fedprox-<rule>``.

    The rule is about whom to believe, the penalty about how far to go: they don't touch. That a run had both stands in the
    algorithm's name, and so in the names of its results.
    """

    def make(*, proximal_mu: float = 0.01, **settings: Any) -> Algorithm:
        plain = maker(**settings)
        return replace(plain, name=f"fedprox-{plain.name}", penalty=proximal_term(proximal_mu))

    mu = inspect.signature(make).parameters["proximal_mu"]
    make.__signature__ = inspect.Signature([mu, *inspect.signature(maker).parameters.values()])  # type: ignore[attr-defined]
    return make


ROBUST: dict[str, Maker] = {
    "median": median,
    "trimmed-mean": trimmed_mean,
    "krum": krum,
    "multi-krum": multi_krum,
    "clipped-mean": clipped_mean,
}

ALGORITHMS: dict[str, Maker] = {
    "fedavg": fedavg,
    "fedprox": fedprox,
    **ROBUST,
    **{f"fedprox-{name}": with_proximal_term(maker) for name, maker in ROBUST.items()},
}
"""By name: makers that take the recipe's settings as keywords. Open: add your own."""


def make_algorithm(settings: Federation) -> Algorithm:
    """The recipe's algorithm with the recipe's settings.

    Raises:
        FedkimError: an unknown name; a setting of other algorithms that differs from its default (it would be ignored
            in silence).
    """
    if settings.algorithm not in ALGORITHMS:
        raise unknown("algorithm", settings.algorithm, ALGORITHMS)
    maker = ALGORITHMS[settings.algorithm]
    names = _settings(maker)
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name in _SETTINGS and field.name not in names and value != field.default:
            users = [name for name, other in ALGORITHMS.items() if field.name in _settings(other)]
            raise FedkimError(
                f"[federation] {field.name}",
                found=f"{value} with algorithm {settings.algorithm!r}",
                remedy=f"leave it out, or choose {', '.join(users)}",
            )
    return maker(**{field.name: getattr(settings, field.name) for field in fields(settings) if field.name in names})


def _settings(maker: Maker) -> set[str]:
    return set(inspect.signature(maker).parameters)


_SETTINGS = {name for maker in ALGORITHMS.values() for name in _settings(maker)}
"""Keys that belong to algorithms; those of a plug-in, which may name any key of the table, aren't among them."""
