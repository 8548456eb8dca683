"""The generated tables of the documents: `python -m benchmarks.tables` (`--check`: fail where one differs).

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; NAME is a key of TABLES.
"""

import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from benchmarks import (
    mimicry_tables,
    model_tables,
    page_tables,
    paper_tables,
    server_tables,
    speed_tables,
    timeline_tables,
)
from benchmarks.results import ROOT

PAGES: Final = (
    ROOT / "README.md",
    ROOT / "src" / "emimic" / "default" / "README.md",
    *(
        ROOT / "docs" / f"{page}.md"
        for page in ("results", "training", "speed", "gpu", "evidence", "mimicry", "page", "serve")
    ),
)
TABLES: Final[Mapping[str, Callable[[], str]]] = {
    "summary": model_tables.make_summary,
    "default": model_tables.make_default,
    "default_by_emotion": model_tables.make_default_by_emotion,
    "default_intervals": model_tables.make_default_intervals,
    "speech": model_tables.make_speech,
    "speech_by_sex": model_tables.make_speech_by_sex,
    "conditions": model_tables.make_conditions,
    "ratings": model_tables.make_ratings,
    "lengths": model_tables.make_lengths,
    "novelty": model_tables.make_novelty,
    "systems": paper_tables.make_systems,
    "bursts": paper_tables.make_bursts,
    "bursts_by_emotion": paper_tables.make_bursts_by_emotion,
    "evidence": paper_tables.make_evidence,
    "equal_budgets": paper_tables.make_equal_budgets,
    "findings": paper_tables.make_findings,
    "inside": paper_tables.make_inside,
    **{name: partial(paper_tables.make_grid, name) for name in paper_tables.GRIDS},
    "mimicry": paper_tables.make_mimicry,
    "mimicry_rates": mimicry_tables.make_rates,
    "mimicry_study_rates": mimicry_tables.make_study_rates,
    "mimicry_power": mimicry_tables.make_power,
    "study": mimicry_tables.make_study,
    "bench": speed_tables.make_bench,
    "training": speed_tables.make_training,
    "profile": speed_tables.make_profile,
    "one_pass": timeline_tables.make_one_pass,
    "student": speed_tables.make_student,
    "page": page_tables.make_page,
    "server": server_tables.make_server,
    "image": server_tables.make_image,
}


def fill_tables(text: str) -> str:
    """Return `text` with every table in it made again."""
    return re.sub(
        r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}{TABLES[match[2]]()}\n{match[3]}",
        text,
        flags=re.DOTALL,
    )


def main() -> None:
    """Write the tables, or check them."""
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        after = fill_tables(before)
        if before != after and "--check" in sys.argv:
            sys.exit(f"{page.name}: a table differs from docs/results. Run python -m benchmarks.tables.")
        if before != after:
            page.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
