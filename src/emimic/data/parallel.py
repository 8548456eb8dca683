"""Work on many files at once, in threads."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from emimic.cpus import count_available
from emimic.progress import show_progress

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


def run_in_parallel(
    work: Callable[[_Job], _Result], jobs: Sequence[_Job], *, workers: int | None, progress: bool, text: str
) -> Iterator[_Result]:
    """Yield `work(job)` in the order of `jobs`, from threads, as decoders release the GIL.

    After an error or Ctrl-C the jobs that haven't started are dropped; the running ones finish first.

    Args:
        work: called with each job.
        jobs: the jobs.
        workers: number of threads; None for one per CPU.
        progress: show a bar on standard error.
        text: the bar's title.
    """
    with ThreadPoolExecutor(workers or count_available()) as pool:
        futures = [pool.submit(work, job) for job in jobs]
        results = (future.result() for future in futures)
        try:
            yield from show_progress(results, text, total=len(jobs), show=progress)
        finally:
            pool.shutdown(cancel_futures=True)
