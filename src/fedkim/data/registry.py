"""Data sources by the name a recipe uses."""

from collections.abc import Callable

from fedkim.data.sample import Dataset
from fedkim.recipe import Recipe


def _phantom(recipe: Recipe) -> Dataset:
    from fedkim.data import phantom

    data = recipe.data
    return phantom.load(
        phantom.PhantomSettings(
            seed=recipe.run.seed,
            image_patients=data.image_patients,
            signal_patients=data.signal_patients,
            icu_patients=data.icu_patients,
            further_test_patients=data.further_test_patients,
            rho=data.rho,
            image_size=data.image_size,
            num_sites=recipe.federation.sites,
            unseen_tasks=recipe.tasks.unseen,
            extra_tasks=recipe.tasks.seen,
            workers=recipe.run.workers,
        )
    )


def _pack(recipe: Recipe) -> Dataset:
    from fedkim.data.sources import pack

    data = recipe.data
    # the deal into folds is published and the same for every run's seed
    return pack.load(
        pack.PackSettings(
            root=pack.find_root(data.root), fold=data.fold, image_size=data.image_size, workers=recipe.run.workers
        )
    )


def _hospital(recipe: Recipe) -> Dataset:
    from fedkim.data import hospital
    from fedkim.errors import FedkimError

    data = recipe.data
    if not data.root:
        remedy = 'give the site file, root = "site.toml"'
        raise FedkimError("[data] root", found="nothing", expected="a hospital's site file", remedy=remedy)
    return hospital.load_site(
        data.root, image_size=data.image_size, unseen_tasks=recipe.tasks.unseen, workers=recipe.run.workers
    )


def _public(recipe: Recipe) -> Dataset:
    from fedkim.data.sources import public

    return public.load(recipe)


DATA_SETS: dict[str, str] = {
    "phantom": "synthetic patients drawn by a program from made-up factors; no data set of patients",
    "pack": "NIH ChestX-ray14 (images), MIT-BIH Arrhythmia Database with noise of known kinds (ECG), MIMIC-III and eICU "
    "demo stays in YAIB's hourly form (intensive care): all public and de-identified, each under its own terms",
    "public": "published data sets of de-identified patients, each under its own terms (docs/data)",
    "hospital": "a hospital's own records, described in its site file, which stays there",
}
"""What a source is made of, for model cards. Open: add your own."""

FOLDED = {"pack"}
"""Sources that deal their patients into folds, of which ``data.fold`` is one. Open: add your own."""

SOURCES: dict[str, Callable[[Recipe], Dataset]] = {
    "phantom": _phantom,
    "pack": _pack,
    "public": _public,
    "hospital": _hospital,
}
"""Loaders: a recipe to its whole data set, splits assigned. Open: add your own."""
