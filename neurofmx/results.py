"""Results of other runs: of a revision of git, or those that lay here before."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from neurofmx.errors import UserError
from neurofmx.project import MAIN, OURS, RESULTS


def read_at(revision: str, remote: bool = True) -> str:
    """`storage/evaluate/results.csv` as it was at a revision of git, or a file of the same columns.

    Args:
        revision: A branch, tag, commit or DVC experiment; `workspace` is what lies here now.
        remote: Whether what DVC's cache lacks is asked of the project's remote.

    Raises:
        UserError: There is no such revision, or its results are not to be had.
    """
    if revision == "workspace" or Path(revision).is_file():
        path = RESULTS if revision == "workspace" else Path(revision)
        if not path.is_file():
            raise UserError(f"{path} does not exist: run `neurofmx run` first")
        return path.read_text()
    try:
        return _read_at(revision, remote=False)
    except UserError:
        if not remote:
            raise
    return _read_at(revision, remote=True)


def _read_at(revision: str, remote: bool) -> str:
    """From DVC's cache; or, where it is not there, from the remote that the revision names."""
    import dvc.api  # late: it takes seconds
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc_data.index import DataIndexDirError
    from scmrepo.exceptions import SCMError

    try:
        # Of a revision DVC looks in a cache of its own, which is empty, and then asks the remote.
        with Repo() as repo:
            cache = repo.cache.local_cache_dir
        config: dict[str, Any] = {"cache": {"dir": cache}}
        if not remote:
            config |= {"core": {"remote": "none"}, "remote": {"none": {"url": cache}}}
        return dvc.api.read(str(RESULTS), rev=revision, config=config)
    except (DvcException, DataIndexDirError, SCMError, OSError, ImportError) as error:
        # ImportError: of the package that knows the remote's protocol.
        raise UserError(
            f"{revision}: no {RESULTS} to be had: {error}. Give a branch, tag, commit or "
            "experiment whose dvc.lock is committed, and `dvc pull` if its results are elsewhere"
        ) from error


def read_earlier() -> str | None:
    """Results that lie here before a run, else the last commit's where DVC's cache has them."""
    if RESULTS.is_file():
        return RESULTS.read_text()
    try:
        return read_at("HEAD", remote=False)
    except UserError:
        return None


def movement(before: str | None) -> list[str]:
    """What moved from earlier results to those that lie here, in lines for a person.

    Args:
        before: Of `read_earlier`.
    """
    now = RESULTS.read_text()
    if before is None:
        return ["There are no earlier results to compare these with."]
    if before == now:
        return ["Nothing moved: the results are those that were here before."]
    import pandas as pd  # late: with torch it takes seconds

    from neurofmx.evaluation import revisions

    a, b = (pd.read_csv(io.StringIO(text)) for text in (before, now))
    try:
        return revisions.movement(a, b, OURS, MAIN)
    except UserError as error:
        return [f"Not compared with the results before: {error}"]


def comparison_table(comparison: Any, names: tuple[str, str], rows: int) -> Table:
    """The figures that moved most.

    Args:
        comparison: A `Comparison`.
        rows: Shown at most.
    """
    table = Table(title=f"{names[0]} → {names[1]}")
    for column in ("recording", "task", "metric", "method", *names, "difference", "intervals"):
        table.add_column(column, no_wrap=True)
    for row in comparison.table.head(rows).itertuples():
        cells = [row.recording, row.task, row.metric, row.method]
        cells += [f"{row.value_a:.4g}", f"{row.value_b:.4g}", f"{row.difference:+.3g}", row.verdict]
        table.add_row(*(escape(str(cell)) for cell in cells))
    return table


def seeds_table(found: Any, names: Sequence[str]) -> Table:
    """Spread over seeds.

    Args:
        found: Of `spread_over_seeds`.
        names: Of the runs.
    """
    table = Table(title=f"{len(names)} seeds: {', '.join(names)}")
    columns = ("task", "level", "metric", "method", "mean")
    for column in (*columns, "sd over seeds", "sd over recordings", "sd of the rest", "recordings"):
        table.add_column(column, no_wrap=True)
    for row in found.itertuples():
        numbers = (row.mean, row.sd_seed, row.sd_recording, row.sd_rest)
        cells = [str(cell) for cell in (row.task, row.level, row.metric, row.method)]
        cells += ["–" if number != number else f"{number:.4g}" for number in numbers]
        undefined = f" ({row.undefined} undefined)" if row.undefined else ""
        table.add_row(*(escape(cell) for cell in cells), f"{row.recordings}{undefined}")
    return table
