"""What a site may be called, and what sites are called that data name otherwise: a name stands in files and commands."""

import re
import unicodedata
from collections.abc import Collection

SITE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]{0,63}")
"""What a site may be called: names go into events, files and messages."""


def site_names(words: Collection[str]) -> dict[str, str]:
    """Names that sites may have, by the words that data have for them: ``CS-12   E`` is ``CS-12-E``, ward ``0`` is ``site-0``.

    A name begins with a letter and has letters, digits, ``_``, ``-`` and ``.``, at most 64: it stands in files and commands.
    A word that may be a name is one. Accents are dropped; where a name is taken already, it gets the first number that is free.
    """
    named = {word: word for word in sorted(words) if SITE_NAME.fullmatch(word)}
    for word in sorted(words):
        if word not in named:
            taken, plain = set(named.values()), _plain(word)
            tried = (plain, *(f"{plain[:58]}-{number}" for number in range(1, len(words) + 2)))
            named[word] = next(name for name in tried if name not in taken)
    return named


def _plain(word: str) -> str:
    ascii_ = unicodedata.normalize("NFKD", word).encode("ascii", "ignore").decode()
    kept = re.sub(r"[^A-Za-z0-9_.]+", "-", ascii_).strip("-")
    return (kept if kept[:1].isalpha() else f"site-{kept}" if kept else "site")[:64]
