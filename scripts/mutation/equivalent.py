"""Mutants that change no result, each with the reason. Looked at one by one, by hand.

They are known by module, function, the text of their line and what is changed in it: a line that
moves stays judged, one that is written anew is judged anew.
"""

from __future__ import annotations

from scripts.mutation.mutators import Mutant

_ORDER = "only the order of entries that are put back by name when the snapshot is read"
_FAILED = "a default only of valuations that failed: all that is made of it is null then"
_TOUCHED = "`run` touches the account at the same log sequence"
_TOUCH = "self.books.touch(account, self.message.log_sequence)"
_TEXTS = "bounds a memory of texts only: what is forgotten is written again"
_RATES = 'return tuple(sorted(f"{currency}{home}" for currency in needed if currency != home))'
_UNSORTED = "(f'{currency}{home}' for currency in needed if currency != home)"
_TOTALS = "totals=[(currency, name, v) for (currency, name), v in sorted(account.totals.items())],"
_SORTED = "sorted(orders, key=_order_id) if {}len(orders) > 1 else orders"

EQUIVALENT: dict[tuple[str, str], dict[tuple[str, str], str]] = {
    ("account_fold.py", "AccountFold._chain"): {(_TOUCH, f"{_TOUCH} -> pass"): _TOUCHED},
    ("account_fold.py", "AccountFold._next_in_order"): {(_TOUCH, f"{_TOUCH} -> pass"): _TOUCHED},
    ("account_fold.py", "AccountFold._void"): {
        (
            "return Outcome.APPLIED, None",
            "return (Outcome.APPLIED, None) -> return None",
        ): "nobody reads what settles an operator's event returns",
    },
    ("books.py", "Books._rates_of"): {
        (
            _RATES,
            f"sorted({_UNSORTED}) -> {_UNSORTED}",
        ): "compared with itself and searched; in another order a symbol is indexed once more",
    },
    ("corrections.py", "module"): {
        (
            '_Key = TypeVar("_Key", str, tuple[str, TotalName])',
            "'_Key' -> '_Keyy'",
        ): "a type's name",
    },
    ("corrections.py", "Corrector._setting"): {
        (
            "if instrument is None or self._defined_at.get(symbol, 0) > log_sequence:",
            "0 -> 1",
        ): "a symbol that has a definition has its place",
    },
    ("figures.py", "_own_texts"): {
        ("if known is not None and known[0] is position:", "0 -> 1"): _TEXTS,
        (
            "if len(books.written) >= _WRITTEN_MAX:",
            "len(books.written) >= _WRITTEN_MAX -> len(books.written) < _WRITTEN_MAX",
        ): _TEXTS,
        (
            "if len(books.written) >= _WRITTEN_MAX:",
            "len(books.written) >= _WRITTEN_MAX -> len(books.written) > _WRITTEN_MAX",
        ): _TEXTS,
    },
    ("positions.py", "fill"): {
        (
            "closed = _reduce(position, negate(position.size), price, closing_fee)",
            "negate(position.size) -> position.size",
        ): "the whole position is closed: only the magnitude counts",
    },
    ("publish.py", "Emitter.account"): {
        (
            "for order in sorted(orders, key=_order_id) if len(orders) > 1 else orders:",
            f"{_SORTED.format('')} -> {_SORTED.format('not ')}",
        ): "only a split changes several orders, and gives them in this order",
    },
    ("sequence.py", "RejectedError.__init__"): {
        (
            "super().__init__(error.reason)",
            "super().__init__(error.reason) -> pass",
        ): "the text of an exception that never leaves the fold",
    },
    ("snapshot.py", "dump_account"): {
        (
            _TOTALS,
            "sorted(account.totals.items()) -> account.totals.items()",
        ): _ORDER,
        (
            "positions=[position for _, position in sorted(account.positions.items())],",
            "sorted(account.positions.items()) -> account.positions.items()",
        ): _ORDER,
        (
            "orders=[order for _, order in sorted(account.orders.items())],",
            "sorted(account.orders.items()) -> account.orders.items()",
        ): _ORDER,
    },
    ("tiers.py", "known_tiers"): {
        ("_known.clear()", "_known.clear() -> pass"): "bounds a memory only",
    },
    ("valuation.py", "Valuation"): {
        ("ordered: Decimal = ZERO", "ZERO -> ONE"): _FAILED,
        ("free: Decimal = ZERO", "ZERO -> ONE"): _FAILED,
        ("locked: Decimal = ZERO", "ZERO -> ONE"): _FAILED,
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
