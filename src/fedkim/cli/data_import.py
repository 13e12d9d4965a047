"""The verb that makes a hospital's table of a benchmark's lists."""

from pathlib import Path


def import_fedmeki(*files: Path, root: Path, out: Path) -> None:
    """Turn the JSON lists of the FEDMEKI benchmark into a table and a site.toml.

    Args:
        files: Lists such as covid_client.json, covid_valid.json, covid_server.json, covid_test.json.
        root: The folder where the lists' paths start.
        out: The folder to write manifest.csv and site.toml to.
    """
    from fedkim.data import hospital

    imported = hospital.import_fedmeki(files, root=root, out=out)
    for finding in imported.findings:
        print(finding)
    for task, counts in sorted(imported.counts.items()):
        print(f"{task}: {', '.join(f'{split} {number}' for split, number in sorted(counts.items()))}")
    print(f"wrote {imported.site_file}")
