"""Mutants that change no result, each with the reason. Looked at one by one, by hand.

They are known by module, function, the text of their line and what is changed in it: a line that
moves stays judged, one that is written anew is judged anew.
"""

from __future__ import annotations

from scripts.mutation.mutators import Mutant

_ORDER = "only the order of entries that are put back by name when the snapshot is read"
_FAILED = "a default only of valuations that failed: all that is made of it is null then"
_SAVED = "a default of what was saved: what is saved now always says it"
_TOUCHED = "`run` touches the account at the same log sequence"
_TOUCH = "self._books.touch(account, self._message.log_sequence)"
_TEXTS = "bounds a memory of texts only: what is forgotten is written again"

_COUNT = "len(ledger.cash) + len(ledger.positions) + len(ledger.orders.open_by_id) + rare"
_FULL = "if len(_known) >= _KNOWN_MAX:"
_MEMORY = "bounds a memory only: what is forgotten is computed again"

EQUIVALENT: dict[tuple[str, str], dict[tuple[str, str], str]] = {
    ("snapshot.py", "AccountSnapshot"): {
        ("by_mark: bool = False", "False -> True"): _SAVED,
    },
    ("valuation/position_value.py", "PositionContribution"): {
        (
            "unrated_cost: Decimal = ZERO",
            "ZERO -> ONE",
        ): "a default of contracts: only of what is fully paid is it read, and that states it",
    },
    ("ledger/bounds.py", "_has_few"): {
        (
            f"return {_COUNT} <= FEW",
            f"{_COUNT} <= FEW -> {_COUNT} < FEW",
        ): "so few are far below every bound: what is checked passes",
    },
    ("valuation/performance.py", "Performance.after_equity"): {
        (
            "if equity > peak:",
            "equity > peak -> equity >= peak",
        ): "an equity that is the peak was answered a line before",
    },
    ("ledger/order_store.py", "OrderStore.open_of"): {
        (
            "return [] if found is None else [order for _, order in sorted(found.items())]",
            "sorted(found.items()) -> found.items()",
        ): "what they reserve is summed up exactly, in any order",
    },
    ("account.py", "Account.total_text"): {
        ("if known is not None and known[0] is total:", "0 -> 1"): _TEXTS,
    },
    ("folding/stream.py", "StreamFold._opened"): {(_TOUCH, f"{_TOUCH} -> pass"): _TOUCHED},
    ("folding/stream.py", "StreamFold._void"): {
        (
            "return Outcome.APPLIED, None, ()",
            "return (Outcome.APPLIED, None, ()) -> return None",
        ): "what settles an operator's event is not read",
    },
    ("books.py", "_rates_of"): {
        (
            "for symbol in sorted(ledger.orders.open_by_symbol):",
            "sorted(ledger.orders.open_by_symbol) -> ledger.orders.open_by_symbol",
        ): "the currencies found are sorted in the end",
    },
    ("folding/account.py", "ApplyToAccount._correct"): {
        (
            "check_same(account, known.account)",
            "check_same(account, known.account) -> pass",
        ): "checks the fold against itself, as an assertion does: no log can make it fail",
    },
    ("publication/figures.py", "_own_texts"): {
        ("if known is not None and known[0] is position:", "0 -> 1"): _TEXTS,
        (
            "_written[key] = (position, texts)",
            "_written[key] = (position, texts) -> pass",
        ): _TEXTS,
        (
            "if len(_written) >= _WRITTEN_MAX:",
            "len(_written) >= _WRITTEN_MAX -> len(_written) < _WRITTEN_MAX",
        ): _TEXTS,
        (
            "if len(_written) >= _WRITTEN_MAX:",
            "len(_written) >= _WRITTEN_MAX -> len(_written) > _WRITTEN_MAX",
        ): _TEXTS,
    },
    ("money.py", "module"): {
        (
            "_LONGEST_FRACTION = PUBLISHED_DECIMALS + 1  # with the point",
            "PUBLISHED_DECIMALS + 1 -> PUBLISHED_DECIMALS - 1",
        ): "rounds to 18 decimals what has no more: the same text, made more slowly",
    },
    ("valuation/totals.py", "ValuationTotals.marks_json"): {
        ("self._unwritten = {}", "self._unwritten = {} -> pass"): _TEXTS,
    },
    ("ledger/positions.py", "fill"): {
        (
            "closed = _reduce(position, negate(position.size), price, closing_fee)",
            "negate(position.size) -> position.size",
        ): "the whole position is closed: only the magnitude counts",
    },
    ("delivery/rules.py", "history_wanted"): {
        ("end = max(positions, default=0)", "0 -> 1"): "without positions nothing is wanted",
    },
    ("delivery/rules.py", "RejectedError.__init__"): {
        (
            "super().__init__(error.reason)",
            "super().__init__(error.reason) -> pass",
        ): "the text of an exception that never leaves the fold",
    },
    ("ledger/units.py", "_covered"): {
        (
            "gains = (position.size > 0) != position.instrument.inverse",
            "position.size > 0 -> position.size >= 0",
        ): "what is covered is not empty: the cost is divided by its size before",
    },
    ("snapshot.py", "_snapshot_of"): {
        (
            "excursions=dict(sorted(state.totals.excursions.items())),",
            "sorted(state.totals.excursions.items()) -> state.totals.excursions.items()",
        ): _ORDER,
        (
            "positions=[position for _, position in sorted(ledger.positions.items())],",
            "sorted(ledger.positions.items()) -> ledger.positions.items()",
        ): _ORDER,
        (
            "orders=[order for _, order in sorted(ledger.orders.by_id.items())],",
            "sorted(ledger.orders.by_id.items()) -> ledger.orders.by_id.items()",
        ): _ORDER,
    },
    ("market/margin_tiers.py", "known_tiers"): {
        ("_known[symbol] = (tiers, found)", "_known[symbol] = (tiers, found) -> pass"): _MEMORY,
        ("_known.clear()", "_known.clear() -> pass"): _MEMORY,
        (_FULL, "len(_known) >= _KNOWN_MAX -> len(_known) > _KNOWN_MAX"): _MEMORY,
        (_FULL, "len(_known) >= _KNOWN_MAX -> len(_known) < _KNOWN_MAX"): _MEMORY,
    },
    ("valuation/valuation.py", "Valuation"): {
        ("isolated_positions: int = 0", "0 -> 1"): _FAILED,
        ("order_margin: Decimal = ZERO", "ZERO -> ONE"): _FAILED,
    },
}
"""By module and function: (text of the line, before -> after) and why."""


def why_equivalent(mutant: Mutant) -> str | None:
    """Return why a mutant is none, or None."""
    judged = EQUIVALENT.get((mutant.module, mutant.scope), {})
    return judged.get((mutant.code, mutant.text))


def stale(mutants: list[Mutant]) -> list[str]:
    """Return what is judged and no longer there: a line was written anew."""
    there = {(m.module, m.scope, m.code, m.text) for m in mutants}
    return [
        f"{module} {scope}: {text}"
        for (module, scope), judged in EQUIVALENT.items()
        for code, text in judged
        if (module, scope, code, text) not in there
    ]
