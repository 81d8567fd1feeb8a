"""Write `rendered.sql` again: `python -m tests.support.make_rendered_sql`.

It holds the SQL that is rendered from the fields of updates, so that `grep` finds every statement
and a change of one is seen in a diff.
"""

from __future__ import annotations

from pathlib import Path

from psm.projections.current_state.accounts import ACCOUNT_STATEMENTS
from psm.projections.current_state.reads import READ_STATEMENTS
from psm.projections.registry import PROJECTIONS

FILE = Path(__file__).parents[1] / "unit" / "rendered.sql"
_HEAD = "-- Written by `python -m tests.support.make_rendered_sql`; compared by a test.\n"


def rendered() -> str:
    """Return every statement of the views and of the reads, with a name before each."""
    statements = {
        f"{view.table}.{name}": statement
        for projection in PROJECTIONS.values()
        for view in projection.views
        for name, statement in view.statements.items()
    }
    statements |= {f"read.{name}": statement for name, statement in READ_STATEMENTS.items()}
    statements |= {f"accounts.{name}": text for name, text in ACCOUNT_STATEMENTS.items()}
    named = (f"\n-- {name}\n{statement};\n" for name, statement in statements.items())
    return _HEAD + "".join(named)


if __name__ == "__main__":
    FILE.write_text(rendered())
