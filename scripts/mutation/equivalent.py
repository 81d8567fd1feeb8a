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

_IN_ORDER = "for order in sorted(orders, key=_order_id) if len(orders) > 1 else orders:"
_ALREADY = "only a split changes several orders, and gives them in this order"

_ASKED = "existing is not None and self.history is not None"
_FULL = "if len(_known) >= _KNOWN_MAX:"
_MEMORY = "bounds a memory only: what is forgotten is computed again"

EQUIVALENT: dict[tuple[str, str], dict[tuple[str, str], str]] = {
    ("account.py", "Account.open_orders_of"): {
        (
            "return [] if found is None else [order for _, order in sorted(found.items())]",
            "sorted(found.items()) -> found.items()",
        ): "what they reserve is summed up exactly, in any order",
    },
    ("account.py", "Account.total_text"): {
        ("if known is not None and known[0] is total:", "0 -> 1"): _TEXTS,
    },
    ("account.py", "Account.void"): {
        (
            "self._changed[_ACCOUNT] = None",
            "self._changed[_ACCOUNT] = None -> pass",
        ): "the release marked it already, and takes no hash in between",
    },
    ("stream_fold.py", "StreamFold._park"): {(_TOUCH, f"{_TOUCH} -> pass"): _TOUCHED},
    ("stream_fold.py", "StreamFold._chain"): {(_TOUCH, f"{_TOUCH} -> pass"): _TOUCHED},
    ("stream_fold.py", "StreamFold._next_in_order"): {
        (_TOUCH, f"{_TOUCH} -> pass"): _TOUCHED,
        (
            f"if {_ASKED}:",
            f"{_ASKED} -> {_ASKED.replace(' and ', ' or ')}",
        ): "where no history is wanted nothing waits: the check has nothing to look at",
    },
    ("stream_fold.py", "StreamFold._void"): {
        (
            "return Outcome.APPLIED, None",
            "return (Outcome.APPLIED, None) -> return None",
        ): "nobody reads what settles an operator's event returns",
    },
    ("books.py", "Books._rates_of"): {
        (
            "for symbol in sorted(account.ordered_symbols()):",
            "sorted(account.ordered_symbols()) -> account.ordered_symbols()",
        ): "the currencies found are sorted in the end",
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
    ("corrections.py", "Corrector.effect"): {
        (
            "self._check_position(symbol, was.position)",
            "self._check_position(symbol, was.position) -> pass",
        ): "checks the fold against itself, as an assertion does: no log can make it fail",
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
            "books.written[key] = (position, texts)",
            "books.written[key] = (position, texts) -> pass",
        ): _TEXTS,
        (
            "if len(books.written) >= _WRITTEN_MAX:",
            "len(books.written) >= _WRITTEN_MAX -> len(books.written) < _WRITTEN_MAX",
        ): _TEXTS,
        (
            "if len(books.written) >= _WRITTEN_MAX:",
            "len(books.written) >= _WRITTEN_MAX -> len(books.written) > _WRITTEN_MAX",
        ): _TEXTS,
    },
    ("money.py", "module"): {
        (
            "_LONGEST_FRACTION = PUBLISHED_DECIMALS + 1  # with the point",
            "PUBLISHED_DECIMALS + 1 -> PUBLISHED_DECIMALS - 1",
        ): "rounds to 18 decimals what has no more: the same text, made more slowly",
    },
    ("worths.py", "Worths.marks_json"): {
        ("self._unwritten = {}", "self._unwritten = {} -> pass"): _TEXTS,
    },
    ("positions.py", "fill"): {
        (
            "closed = _reduce(position, negate(position.size), price, closing_fee)",
            "negate(position.size) -> position.size",
        ): "the whole position is closed: only the magnitude counts",
    },
    ("publish.py", "Emitter.account"): {
        (_IN_ORDER, f"{_SORTED.format('')} -> {_SORTED.format('not ')}"): _ALREADY,
        (_IN_ORDER, "len(orders) > 1 -> len(orders) >= 1"): _ALREADY,
        (_IN_ORDER, "len(orders) > 1 -> len(orders) <= 1"): _ALREADY,
        (_IN_ORDER, "1 -> 2"): _ALREADY,
        (_IN_ORDER, "sorted(orders, key=_order_id) -> orders"): _ALREADY,
    },
    ("publish.py", "_moved"): {
        (
            "return sorted(steps, key=_symbol) if len(steps) > 1 else steps",
            "len(steps) > 1 -> len(steps) <= 1",
        ): "several steps are those of one symbol",
    },
    ("sequence.py", "history_wanted"): {
        ("end = max(positions, default=0)", "0 -> 1"): "without positions nothing is wanted",
    },
    ("table_fold.py", "fold_mark"): {
        (
            'event = cast("MarkPriceUpdated", _payload_of(envelope, token))',
            "'MarkPriceUpdated' -> 'MarkPriceUpdatedd'",
        ): "a type's name",
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
        ("_known[symbol] = (tiers, found)", "_known[symbol] = (tiers, found) -> pass"): _MEMORY,
        ("_known.clear()", "_known.clear() -> pass"): _MEMORY,
        (_FULL, "len(_known) >= _KNOWN_MAX -> len(_known) > _KNOWN_MAX"): _MEMORY,
        (_FULL, "len(_known) >= _KNOWN_MAX -> len(_known) < _KNOWN_MAX"): _MEMORY,
    },
    ("valuation.py", "_cash"): {
        (
            "cash = add_wide(cash, amount if rate is ONE else multiply(amount, rate))",
            "ONE -> ZERO",
        ): "spares a multiplication by one",
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
