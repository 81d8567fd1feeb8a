"""Whatever is changed of what was decided, the proof finds it, also where the chain is whole."""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.make_golden_risk import PARTITIONS, read_lines

from psm.contracts import codec
from psm.risk.engine.proof_records import Deviation, RecordRead, read_record
from psm.workers.proof.risk.offline import RecordedRisk, prove_lines

Payload = dict[str, Any]


@functools.cache
def made(name: str) -> RecordedRisk:
    found = RecordedRisk(PARTITIONS)
    for line in read_lines(name):
        found.take_line(line)
    return found


def rechained(
    records: list[RecordRead], place: int, change: Callable[[Payload], None]
) -> list[RecordRead]:
    """Return the records with one changed, and all that follow it linked anew.

    It is what an engine with a defect would have stored: nothing but the content is wrong.
    """
    found, previous = [], ""
    for number, record in enumerate(records):
        fields = codec.decode_untyped(record.data)
        payload: Payload = fields["payload"]
        if previous and number > place:
            payload["previous"] = previous
        if number == place:
            change(payload)
        data = codec.canonical_bytes(fields)
        previous = hashlib.sha256(data).hexdigest()
        found.append(read_record(number + 1, data))
    return found


def proved(name: str, records: list[RecordRead]) -> list[Deviation]:
    return asyncio.run(prove_lines(made(name), 1, records)).deviations


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the places of all plain values; what nobody can know but the engine is left out."""
    if isinstance(value, dict):
        names = [name for name in sorted(value) if path or name not in ("slot", "path")]
        return [leaf for name in names for leaf in leaves(value[name], (*path, name))]
    if isinstance(value, list):
        return [leaf for at, one in enumerate(value) for leaf in leaves(one, (*path, at))]
    return [path]


def altered(payload: Payload, path: tuple[Any, ...]) -> None:
    at: Any = payload
    for step in path[:-1]:
        at = at[step]
    was = at[path[-1]]
    if isinstance(was, bool):
        at[path[-1]] = not was
    elif isinstance(was, int):
        at[path[-1]] = was + 1
    elif path[-1] in ("clock", "expires"):
        at[path[-1]] = was.replace("2026", "2027")
    else:
        at[path[-1]] = f"{was}1"


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_changed_figure_is_found(data: st.DataObject) -> None:
    """One value of one decision; it is named, and no decision before it."""
    records = made("hard").records
    decisions = [place for place, one in enumerate(records) if one.is_decision]
    place = data.draw(st.sampled_from(decisions), label="record")
    path = data.draw(st.sampled_from(leaves(dict(records[place].payload))), label="field")
    if path[0] in ("n", "previous"):
        return  # the chain's own
    found = proved("hard", rechained(records, place, lambda payload: altered(payload, path)))
    assert found, path
    assert found[0].n == records[place].payload["n"]


def find(name: str, wanted: Callable[[RecordRead], bool]) -> int:
    return next(place for place, one in enumerate(made(name).records) if wanted(one))


def told(name: str, begin: str, *, dropped: bool) -> tuple[int, str]:
    """Return a record that tells of an entry's begin or end, and the entry."""
    for place, record in enumerate(made(name).records):
        for entry, value in (record.payload.get("path") or {}).items():
            if entry.startswith(begin) and (value is None) == dropped:
                return place, entry
    raise AssertionError(begin)


def test_a_lost_reservation_is_found() -> None:
    """Planted: an approved order is forgotten before PSM showed it."""
    place, entry = told("traffic_1", "reservation/acc_2/", dropped=False)

    def forget(payload: Payload) -> None:
        payload.setdefault("path", {})[entry] = None

    found = proved("traffic_1", rechained(made("traffic_1").records, place + 1, forget))
    assert f"path.{entry}" in [one.field for one in found]


def test_an_approval_without_its_reservation_is_found() -> None:
    """Planted: the memory of an approved order is not told."""
    place, entry = told("traffic_1", "reservation/acc_2/", dropped=False)
    records = made("traffic_1").records
    found = proved(
        "traffic_1", rechained(records, place, lambda payload: payload["path"].pop(entry))
    )
    assert found[0].field.startswith(f"path.{entry}")


def test_a_lost_latch_is_found() -> None:
    """Planted: a loss cap that latched is forgotten, as after a restart."""
    place, entry = told("losses", "latch/", dropped=False)
    records = made("losses").records
    later = next(n for n in range(place + 1, len(records)) if records[n].is_decision)

    def forget(payload: Payload) -> None:
        payload.setdefault("path", {})[entry] = None

    found = proved("losses", rechained(records, later, forget))
    assert found[0].field == f"path.{entry}"


def test_a_halt_that_nobody_was_told_of_is_found() -> None:
    """Planted: what is open was never asked to be cancelled, and the engine decides on."""
    place, entry = told("people", "cancel_all/", dropped=False)
    records = made("people").records
    found = proved("people", rechained(records, place, lambda payload: payload["path"].pop(entry)))
    assert (found[0].field, found[0].recorded) == ("cancel_all", None)


def test_a_halt_that_nobody_set_is_found() -> None:
    """Planted: the engine remembers to have asked for a halt that the rulebook does not have."""
    place, entry = told("people", "cancel_all/", dropped=False)
    name = f"cancel_all/desk|{'0' * 64}"

    def invent(payload: Payload) -> None:
        payload["path"][name] = payload["path"][entry]

    found = proved("people", rechained(made("people").records, place, invent))
    assert found[0].field == f"path.{name}"


def test_stale_state_is_found() -> None:
    """Planted: a decision names an older place of an account than the one it was made from."""
    name = "traffic_1"
    records = made(name).records
    places = [
        place
        for place, one in enumerate(records)
        if one.is_decision and one.payload["vector"].get("acc_1")
    ]
    older = records[places[2]].payload["vector"]["acc_1"]

    def stale(payload: Payload) -> None:
        payload["vector"]["acc_1"] = older

    found = proved(name, rechained(records, places[6], stale))
    assert found[0].n == records[places[6]].payload["n"]


def test_limits_before_their_sequence_are_found() -> None:
    """Planted: a decision names the rulebook before its last event."""
    place = find("people", lambda one: one.payload.get("rulebook_sequence", 0) > 14)

    def early(payload: Payload) -> None:
        payload["rulebook_sequence"] -= 1

    found = proved("people", rechained(made("people").records, place, early))
    fields = [one.field for one in found if "cancel_all" not in one.field]
    assert fields[0] in ("rulebook_hash", "approved_quantity", "checks", "decision")


def test_an_order_that_is_decided_twice_is_found() -> None:
    """Planted: after a crash the same request is decided again, behind the first decision."""
    records = list(made("hard").records)
    place = find("hard", lambda one: one.payload.get("decision") == "approved")
    fields = codec.decode_untyped(records[place].data)
    fields["payload"]["n"] += 1
    fields["payload"]["previous"] = hashlib.sha256(records[place].data).hexdigest()
    twice = read_record(0, codec.canonical_bytes(fields))
    found = proved("hard", [*records[: place + 1], twice])
    assert found[0].n == records[place].payload["n"] + 1


@pytest.mark.parametrize("missing", [0, 5, -1])
def test_a_hole_is_found(missing: int) -> None:
    """The first, one in the middle; the last one alone has no successor to tell of it."""
    records = list(made("hard").records)
    del records[missing]
    found = asyncio.run(prove_lines(made("hard"), 1, records))
    if missing == -1:
        assert not found.deviating, "only the leader knows: see the integration test"
    elif missing == 0:
        assert found.slots[records[0].payload["slot"]].skipped == len(records)
    else:
        assert found.deviations[0].field == "n"
