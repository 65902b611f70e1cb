"""The command `perfmodel compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from search.commands.shared.option_groups import grouped
from search.commands.shared.options import OutputOptions

EXAMPLES = """\
perfmodel compare before.json after.json
perfmodel compare before.json after.json --csv"""
First = Annotated[Path, typer.Argument(metavar="A.json", help="A plan, as `perfmodel plan --json` writes it.")]
Second = Annotated[Path, typer.Argument(metavar="B.json", help="The plan that it is compared with.")]
#: Columns of the table of candidates.
MOVED = ("candidate", "rank", "former_rank", "usd_per_hour", "former_usd_per_hour")


@grouped
def compare_command(first: First, second: Second, output: OutputOptions) -> None:
    """Compare the best candidates of two plans that were written as JSON.

    Also prints which candidates rise and fall. The plans may be of other scenarios or versions; a column that only one
    of them has is named.
    """
    from search.output import Layout, known_columns, print_changes, print_rows, print_text
    from search.whatif import best_row, moved_candidates, read_plan_rows, shared_columns

    form = output.form
    plans = [read_plan_rows(path) for path in (first, second)]
    one, other = (best_row(rows, path) for rows, path in zip(plans, (first, second), strict=True))
    if form != "table":
        print_rows([{"plan": str(path), **row} for path, row in ((first, one), (second, other))], form)
        return
    both, single = shared_columns(one, other)
    print_changes(one, other, [c for c in both if output.wide or one[c] != other[c]], (first.name, second.name))
    same = [c for c in both if one[c] == other[c]]
    if same and not output.wide:
        print_text(f"Equal in both: {len(same)} of {len(both)} columns; --wide prints them.")
    if single:
        print_text(f"In one of the plans alone, so not compared: {', '.join(single)}.")
    rows = moved_candidates(*plans)
    print_text("")
    print_rows(rows, layout=Layout(title="Candidates", columns=known_columns(rows, MOVED), wide=output.wide))
