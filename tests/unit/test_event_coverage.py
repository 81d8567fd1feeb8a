"""No event type is forgotten where the ledger is proved: the missing ones are named.

Golden logs, the traffic of simulated worlds, and the rules written a second time each meet every
type of the registry; golden logs also every field of it.
"""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import msgspec
from scripts.mutation.__main__ import golden_logs
from scripts.mutation.spooling import logs_of
from tests.support.domain import Log
from tests.support.events import Sent
from tests.support.golden import FOLDER
from tests.support.leg_traffic import LegTraffic
from tests.support.money_traffic import MoneyTraffic
from tests.support.shares import Shares
from tests.support.simulator.operators import Operators
from tests.support.simulator.traffic import traffic

from psm.contracts import events
from psm.workers.replay.lines import LineFolder

KINDS: dict[str, type[msgspec.Struct]] = {kind.__name__: kind for kind in get_args(events.Event)}


UNIT = Path(__file__).parent
QUESTIONS = (r'"applied"|Outcome\.APPLIED|booked\(\)', r"refused", r"duplicate|stale")
"""What the text of a module has that asks them."""
TOGETHER = {
    "test_operators": ("EventDismissed", "SequenceVoided", "StreamRetried", "RulesEnabled"),
    "test_control_events": ("LogTrimmed", "LogRestored", "RegionPromoted"),
}
"""Events that one module asks together, as they are of one kind."""

Seen = dict[str, dict[str, None]]
"""Event type -> fields that some event of it had."""


def seen_in(bodies: Iterable[bytes]) -> Seen:
    """Return the event types, and their fields, in messages; what is no event counts for none."""
    seen: Seen = defaultdict(dict)
    for data in bodies:
        try:
            body = json.loads(data)
        except ValueError:
            continue
        if isinstance(body, dict) and isinstance(body.get("payload"), dict):
            seen[str(body.get("event_type"))].update(dict.fromkeys(body["payload"]))
    return seen


def missing(seen: Seen) -> list[str]:
    """Return the event types that nobody wrote."""
    return [name for name in KINDS if name not in seen]


def test_golden_logs_have_every_field_of_every_event_type() -> None:
    """What no golden log has may change its hash without anybody noticing."""
    recorded: list[bytes] = []
    for path in golden_logs(FOLDER):
        for lines in logs_of(path):
            reader = LineFolder(partitions=16)
            read = [reader.read(line) for line in lines]
            recorded += [message.data for message in read if message is not None]
    seen = seen_in(recorded)
    assert missing(seen) == []
    fields = {n: [f.encode_name for f in msgspec.structs.fields(k)] for n, k in KINDS.items()}
    absent = {name: [f for f in of if f not in seen[name]] for name, of in fields.items()}
    assert {name: of for name, of in absent.items() if of} == {}


def test_simulated_worlds_have_every_event_type_and_stated_rates() -> None:
    """Their producers or their operators write it, whatever the seed."""
    sent: list[Sent] = []
    for seed in range(20):
        coming = traffic(random.Random(seed), seed, 3)
        log, operators = Log(), Operators(random.Random(seed))
        log.when(*(one for one in coming if b'"RulesEnabled"' not in one.data))
        said = [operators.attempt([log.books]) for _ in range(20)]
        sent += [*coming, *(one for one in said if one is not None)]
    assert missing(seen_in(one.data for one in sent)) == []
    assert any(b'"rates":{"BTC":"' in one.data for one in sent)
    assert any(b'"rates":{"BTC":null' in one.data for one in sent)


def test_references_have_every_event_type_and_stated_rates() -> None:
    """The logs that the fold and a reference agree on; a reference knows all that these have."""
    sent: list[Sent] = []
    for seed in range(12):
        sent += [*MoneyTraffic(seed).sent, *Shares(seed).sent, *LegTraffic(seed).messages()]
    seen = seen_in(one.data for one in sent)
    assert missing(seen) == []
    assert "rates" in seen["CashDeposited"]
    assert "rates" in seen["TradeExecuted"]


def test_every_event_type_has_a_module_that_asks_the_three_questions() -> None:
    """Is it booked, refused where it should be, and quiet when it is repeated?"""
    told = {path.stem: path.read_text("utf-8") for path in UNIT.rglob("test_*.py")}
    named = {name: f"test_{_snake(name)}" for name in KINDS}
    for module, kinds in TOGETHER.items():
        named |= dict.fromkeys(kinds, module)
    without = {
        name: [word for word in QUESTIONS if not re.search(word, told.get(module, ""))]
        for name, module in named.items()
    }
    assert {name: words for name, words in without.items() if words} == {}


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
