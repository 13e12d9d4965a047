"""A hospital's own data: a ``site.toml`` that declares its tables, the check of both, and their records.

Read ``site_file`` (what is declared), ``table`` (strict reading), ``rows`` (what a row says), ``inputs`` (its files),
``check`` (everything that is wrong, at once), ``records`` (what the rest of the package gets). ``fedmeki`` makes a site of a benchmark's lists.
"""

from fedkim.data.hospital.check import check
from fedkim.data.hospital.fedmeki import import_fedmeki
from fedkim.data.hospital.records import load_site, read_records
from fedkim.data.hospital.site_file import SiteFile, load_site_file

__all__ = ["SiteFile", "check", "import_fedmeki", "load_site", "load_site_file", "read_records"]
