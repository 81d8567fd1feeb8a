"""The answer to a report: how somebody else's books of an account compare with ours."""

from __future__ import annotations

import msgspec

from psm.contracts.fields import PositionSide
from psm.contracts.update_fields import Common, Decimal18, Hash, Status


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One figure in which a report and the books differ.

    Attributes:
        what: such as `assets.USDT`, `positions.BTCUSDT.size`, `positions.BTCUSDT#long.entry_price`
            or `wallets.BTCUSDT`.
        symbol: the asset or instrument.
        position_side: of a position; null of an asset.
        expected: by the books.
        reported: zero for what the report leaves out.
        difference: reported - expected.
    """

    what: str
    symbol: str
    position_side: PositionSide | None
    expected: Decimal18
    reported: Decimal18
    difference: Decimal18


class ReconciliationReported(Common, frozen=True, kw_only=True):
    """What an account has by an `AccountReported`, compared with the books at its place in the log.

    Attributes:
        status: of the stream; while it waits the books lack events.
        currency: of the account; null where no event of it was booked.
        ledger_hash, state_hash: of the books that were compared.
        event_id: of the report; the message is at `log_sequence`.
        as_of: time of the report, as it says.
        through: the last fact that the report contains, as it says.
        matches: null where the books are not at `through`, and nothing was compared.
        reason: code, why nothing was compared.
        differences: at most 256 of them, sorted by `what`.
        differences_total: how many there are.
        not_compared: fields of the report that nothing in the books answers to.
    """

    status: Status
    currency: str | None
    ledger_hash: Hash
    state_hash: Hash
    event_id: str
    as_of: str
    through: str | None
    matches: bool | None
    reason: str | None
    differences: tuple[Difference, ...]
    differences_total: int
    not_compared: tuple[str, ...]
