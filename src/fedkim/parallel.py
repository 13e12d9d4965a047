"""An ordered map over worker threads: the one place where work is spread over cores.

Two workers with one intra-op thread each finish small-model work faster than one worker with two threads (torch
releases the interpreter lock inside its kernels). Results come back in the order of the items and every reduction
over them happens in that order, so the number of workers changes the speed and never a bit.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item], workers: int = 1) -> Iterator[Result]:
    """Yield ``function(item)`` for each item in order, computed by ``workers`` threads (1: in the caller's own).

    At most ``workers + 1`` results are under way or wait to be taken, however many items there are: a result may be a model.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="fedkim") as pool:
        begun: deque[Future[Result]] = deque()
        try:
            for item in items:
                begun.append(pool.submit(function, item))
                if len(begun) > workers:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            for future in begun:
                future.cancel()
