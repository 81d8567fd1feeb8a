"""What the demo knows of its accounts, and how it shows it: as tables for a terminal or a pipe.

It is a subscriber like any other: documents over request-reply, live (`psm.get.live`), so that they
move with every mark, and `psm.state.updated` to count what is published and how fast it arrives.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from psm.adapters.terminal import printable
from psm.workers.local.risk_lines import RiskLines

_REQUEST_S = 3.0  # a live read looks for its owner for two
_LIVE, _VIEW = "psm.get.live", "psm.get.state"
_CODE, _NOT_NOW = "Nats-Service-Error-Code", {"429", "503"}
_WINDOW = 500
_RATE_S = 5.0
_CENT = Decimal("0.01")
_WIDE = 110
_ACCOUNT_COLUMNS = (
    "account", "equity", "uPnL", "realized", "leverage", "drawdown", "sequence",
    "cash", "margin", "flags",
)  # fmt: skip
_POSITION_COLUMNS = (
    "account", "symbol", "side", "size", "entry", "mark", "uPnL", "realized", "funding",
    "isolated",
)  # fmt: skip
_HEADLINE, _TABLE = 1, 3  # lines: of a table its head, the rule, and one in front of it
_NARROW_ACCOUNT, _NARROW_POSITION = 7, 7  # how many of them fit on 80 columns
_LEFT = frozenset({"account", "symbol", "side", "flags"})


class _UpdateTime(msgspec.Struct, frozen=True):
    timestamp: datetime


_update_time = msgspec.json.Decoder(_UpdateTime)


class Board:
    """The accounts of the demo as PSM answers for them."""

    def __init__(self, nc: Client, accounts: Sequence[str], desk: str) -> None:
        """Nothing is known yet; `desk` is an account that asks risk before it trades."""
        self._nc = nc
        self._accounts = [*accounts, desk]
        self._risk = RiskLines(nc, desk)
        self._states: dict[str, dict[str, Any]] = {}
        self._arrivals: deque[float] = deque(maxlen=10_000)
        self._delays_ms: deque[float] = deque(maxlen=_WINDOW)
        self._updates = 0
        self._started = time.monotonic()
        self.note = ""

    async def start(self) -> None:
        """Listen to every account's updates."""
        await self._nc.subscribe("psm.state.updated", cb=self._count)
        await self._risk.start()

    async def refresh(self) -> None:
        """Ask for the state of each account; what does not answer keeps its last one."""
        subject = _LIVE
        for account_id in self._accounts:
            try:
                answer = await self._nc.request(subject, account_id.encode(), timeout=_REQUEST_S)
                if subject == _LIVE and (answer.headers or {}).get(_CODE) in _NOT_NOW:
                    subject = _VIEW  # for all of them, until the next time
                    answer = await self._nc.request(
                        subject, account_id.encode(), timeout=_REQUEST_S
                    )
            except (nats.errors.Error, OSError):
                self.note = f"no answer on {subject}; trying again"
                return
            if answer.data:  # an error has no body: the account is not there yet
                self._states[account_id] = msgspec.json.decode(answer.data)
        self.note = ""

    def render(self, width: int, height: int | None = None) -> RenderableType:
        """Return header, accounts, positions and flags, as much of them as fits.

        Args:
            width: columns of the terminal.
            height: its lines; None where there is no end to them.
        """
        wide = width >= _WIDE
        below = self._below(flags=not wide)
        parts: list[RenderableType] = [
            Text(self._headline(), style="bold"),
            "",
            self._account_table(None if wide else _NARROW_ACCOUNT),
        ]
        positions = self._positions(None if wide else _NARROW_POSITION)
        room = len(positions)
        if height is not None:
            used = _HEADLINE + _TABLE + len(self._states) + _TABLE
            used += _fitted(below, width, height - used - 2)
            room = max(height - used - 1, 0)  # the cursor stands on the last line
            if room < len(positions):
                room = max(room - 1, 0)
                below.insert(0, Text(f"... and {len(positions) - room} more positions"))
        table = _table(_POSITION_COLUMNS[: None if wide else _NARROW_POSITION])
        for row in positions[:room]:
            table.add_row(*row)
        return Group(*parts, "", table, *below)

    def _below(self, *, flags: bool) -> list[Text]:
        """Return what stands under the tables: flags where they have no column, and a note."""
        lines = []
        flagged = [
            f"{account_id} {' '.join(state['flags'])}"
            for account_id, state in sorted(self._states.items())
            if state["flags"]
        ]
        if flags and flagged:
            lines.append(_text(f"Flags: {'; '.join(flagged)}", style="yellow"))
        lines += [_text(text, style=style) for text, style in self._risk.lines()]
        if self.note:
            lines.append(Text(self.note, style="yellow"))
        return lines

    async def _count(self, message: Msg) -> None:
        sent = _update_time.decode(message.data).timestamp
        self._updates += 1
        self._arrivals.append(time.monotonic())
        self._delays_ms.append((datetime.now(UTC) - sent).total_seconds() * 1000)

    def _headline(self) -> str:
        now = time.monotonic()
        recent = sum(1 for moment in self._arrivals if now - moment <= _RATE_S)
        delay = f"{statistics.median(self._delays_ms):.1f} ms" if self._delays_ms else "-"
        return (
            f"{_clock(now - self._started)}  {self._updates:,} state updates, "
            f"{recent / _RATE_S:.0f}/s, median {delay} from the log to here"
        )

    def _account_table(self, columns: int | None) -> Table:
        table = _table(_ACCOUNT_COLUMNS[:columns])
        for account_id, state in sorted(self._states.items()):
            table.add_row(*_account(account_id, state)[:columns])
        return table

    def _positions(self, columns: int | None) -> list[list[Text]]:
        rows = []
        for account_id, state in sorted(self._states.items()):
            for name, position in sorted(state["positions"].items()):
                if position["side"] != "flat":
                    row = [_text(account_id), _text(name), *_position(position)]
                    rows.append(row[:columns])
            for name, asset in sorted(state["assets"].items()):
                if name != state["currency"]:
                    rows.append([_text(account_id), _text(name), *_asset(asset)][:columns])
        return rows


def _account(account_id: str, state: Mapping[str, Any]) -> list[Text]:
    return [
        _text(account_id),
        _money(state["equity"]),
        _signed(state["unrealized_pnl"]),
        _signed(state["realized_pnl_net"]),
        _money(state["leverage"]),
        _percent(state["drawdown"]),
        Text(str(state["sequence_number"])),
        _money(state["cash"].get(state["currency"])),
        _money(state["margin_initial"]),
        _text(" ".join(state["flags"]), style="yellow"),
    ]


def _position(position: Mapping[str, Any]) -> list[Text]:
    long = position["side"] == "long"
    return [
        Text(position["side"], style="green" if long else "red"),
        Text(position["size"]),
        _price(position["entry_price"]),
        _price(position["mark_price"]),
        _signed(position["unrealized_pnl"]),
        _signed(position["realized_pnl"]),
        _signed(position["funding"]),
        _money(position["isolated_margin"]),
    ]


def _asset(asset: Mapping[str, Any]) -> list[Text]:
    """What is held of a coin or of foreign money; what was realized is the account's alone."""
    return [
        Text("asset"),
        Text(asset["quantity"]),
        _price(asset["entry_price"]),
        _price(asset["mark_price"]),
        _signed(asset["unrealized_pnl"]),
        *(Text("-") for _ in range(3)),
    ]


def _table(columns: Sequence[str]) -> Table:
    table = Table(
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        collapse_padding=True,
    )
    for name in columns:
        table.add_column(name, justify="left" if name in _LEFT else "right", no_wrap=True)
    return table


def _fitted(lines: list[Text], width: int, room: int) -> int:
    """Return how many lines these take; where there is no room for that, each is cut to one."""
    # Words are kept whole, so a text may take a line more than its length says.
    used = sum(-(-len(line) // width) + (len(line) > width) for line in lines)
    if used <= room:
        return used
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return len(lines)


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style=style)


def _money(value: str | None) -> Text:
    return Text("-" if value is None else f"{Decimal(value).quantize(_CENT):,}")


def _signed(value: str | None) -> Text:
    text = _money(value)
    if value is not None and Decimal(value):
        text.stylize("red" if Decimal(value) < 0 else "green")
    return text


def _price(value: str | None) -> Text:
    """A price in seven digits: of a coin worth cents as of one worth thousands."""
    return Text("-" if value is None else f"{Decimal(value):.7g}")


def _percent(value: str | None) -> Text:
    return Text("-" if value is None else f"{100 * Decimal(value):.2f}%")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes:02}:{rest:02}"
