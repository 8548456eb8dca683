"""Work on many files: at once, in threads, and explained where it stops."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from emimic.cpus import count_available
from emimic.files import OutputError
from emimic.progress import show_progress
from emimic.task import CorpusError

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


def run_in_parallel(
    work: Callable[[_Job], _Result],
    jobs: Sequence[_Job],
    *,
    workers: int | None,
    progress: bool = False,
    text: str = "",
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


@contextmanager
def explain_stop(folder: Path) -> Iterator[None]:
    """Raise CorpusError where `folder` can't be written in this block: a full disk would fail every other clip too."""
    try:
        yield
    except OutputError as error:
        raise CorpusError(f"{error} Finished clips stay: rerun the command to resume.") from error
    except OSError as error:
        raise CorpusError(
            f"{folder} can't be written ({error}); free space or permit it. Finished clips stay: rerun the command to "
            "resume."
        ) from error
