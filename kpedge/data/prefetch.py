"""Loading ahead in threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")


def prefetch(load: Callable[[Item], Loaded], items: Iterable[Item], workers: int) -> Iterator[Loaded]:
    """`load` of each item, in order; with workers, that many threads are ahead of the caller, at most two items each.

    The results do not depend on the number of workers; 0 loads each when it is asked for.
    """
    if not workers:
        yield from map(load, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Loaded]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(load, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
