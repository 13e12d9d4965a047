"""One process of a matrix: ``python -m fedkim.experiments MATRIX RUNS RESULTS full|smoke KEEP CELL…``; started by ``cells``."""

import sys
from pathlib import Path

from fedkim.errors import FedkimError


def main(arguments: list[str]) -> int:
    """Run the named cells one after the other; 1 if any failed, with a line for each that did."""
    from fedkim.experiments.cells import run_cell
    from fedkim.experiments.matrix_file import load_matrix

    path, runs, results, size, keep, *names = arguments
    matrix = load_matrix(Path(path), smoke=size == "smoke")
    cells = {cell.name: cell for cell in (*matrix.cells, *matrix.choice)}
    status = 0
    for name in names:
        try:
            run_cell(matrix, cells[name], runs=Path(runs), results=Path(results), keep=keep)
        except FedkimError as error:
            print(f"{name}: {error}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
