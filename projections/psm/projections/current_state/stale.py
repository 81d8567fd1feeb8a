"""The flag of documents that lack the last update of a key, in the statements that make them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from psm.contracts.flags import VIEW_STALE
from psm.projections.statements import json_pairs

# Of `b`, a row of balances_view: its flags with one more if a key of the account is in quarantine,
# else null.
_STALE = """
SELECT CASE WHEN EXISTS (
    SELECT FROM current_state_quarantine q
    WHERE q.stream_id = b.account_id AND q.view IN ({views})
) THEN ARRAY(
    SELECT flag FROM unnest(b.flags || '{flag}'::text) AS flag ORDER BY flag COLLATE "C"
) END AS flags
""".strip()
_FLAGS = "'flags', coalesce(stale.flags, b.flags)"


def stale_flags(views: Sequence[str]) -> str:
    """Return a query of `flags`: those of a document made of these views, null if none is stale."""
    return _STALE.format(views=", ".join(f"'{view}'" for view in views), flag=VIEW_STALE)


def account_pairs(payload: type[msgspec.Struct], names: Sequence[str]) -> str:
    """Return arguments of `json_build_object`: columns of `b`, its flags as `stale` has them."""
    return ",\n".join(
        _FLAGS if name == "flags" else json_pairs(payload, [name], "b") for name in names
    )
