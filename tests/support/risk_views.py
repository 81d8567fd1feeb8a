"""A trading day of the real risk engine, and what the views must say of it."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from tests.support.risk_log import GROUP, RiskLog
from tests.support.rules import ADA, BOB

from psm.contracts import subjects
from psm.contracts.updates_read import ReadUpdate
from psm.projections.projection import Projection
from psm.projections.risk import RISK
from psm.projections.rows import Row
from psm.risk.engine import Slot
from psm.risk.messages import RiskOutput
from psm.risk.rulebook import slot_of
from psm.workers.projector.risk_records import updates_of_record

DAY = 86_400
LIMITS = {"daily_loss": "0.05", "exposure_symbol": "2", "max_order_quantity": "150"}


def traded(rounds: int = 1) -> RiskLog:
    """Return a log with every kind of record: orders of all outcomes, a latch lifted, a halt."""
    log = RiskLog(LIMITS)
    for _ in range(rounds):
        log.order("buy", "10")
        log.order("buy", "500")
        log.order("buy", "180", on_limit="reduce")
        log.trade("buy", "100", "100")
        log.mark("BTC-PERP", "96")  # 400 of 500: near
        log.order("buy", "1")
        log.mark("BTC-PERP", "94")  # over the cap: latched
        log.order("buy", "1")
        log.order("sell", "100")
        log.trade("sell", "100", "94")
        latch = [one for one in log.outputs if one.kind == "halt"][-1]
        log.both("HaltLifted", scope="group", id=GROUP, halt_hash=sha256(latch.data))
        log.say(ADA, "HaltSet", scope="firm", id="firm", mode="halted")
        halt = sha256(log.rules.log[-1].data)
        log.order("buy", "1")
        log.both("HaltLifted", scope="firm", id="firm", halt_hash=halt)
        log.limits({**LIMITS, "leverage": "4"})
        log.mark("BTC-PERP", "100")
        log.wait(DAY)
        log.mark("BTC-PERP", "100")
    log.say(BOB, "HaltSet", scope="account", id="acc_1", mode="reducing")
    log.mark("BTC-PERP", "100")
    log.order("buy", "1")
    return log


def stored(outputs: list[RiskOutput]) -> list[RiskOutput]:
    """Return what a shell stores: each record once, and no preview."""
    found: dict[tuple[int, int], RiskOutput] = {}
    for output in outputs:
        payload = msgspec.json.decode(output.data)["payload"]
        if payload["n"]:
            found.setdefault((payload["slot"], payload["n"]), output)
    return list(found.values())


def updates(outputs: list[RiskOutput], first: int = 1) -> list[ReadUpdate]:
    """Return what records of the desk's slot change, stored from a sequence on."""
    return [
        update
        for sequence, one in enumerate(outputs, first)
        for update in updates_of_record(
            subjects.risk_record(one.kind, slot_of(GROUP), one.key), sequence, one.data
        )
    ]


def rows_of(found: list[ReadUpdate], projection: Projection = RISK) -> dict[str, list[Row]]:
    """Return the rows that a fold of updates leaves, by table."""
    left: dict[str, list[Row]] = {}
    for view in projection.views:
        rows: dict[tuple[Any, ...], Row] = {}
        for update in found:
            for statement, changed in view.reduce([update]).items():
                for row in changed:
                    key = tuple(row[name] for name in view.key)
                    rows.pop(key, None)
                    if statement == "upsert":
                        rows[key] = row
        left[view.table] = [rows[key] for key in sorted(rows)]
    return left


def memory_of(outputs: list[RiskOutput]) -> dict[str, dict[str, Any]]:
    """Return latches and raised alerts of a slot that took these records."""
    slot = Slot(slot_of(GROUP))
    for output in outputs:
        slot.take_recorded(output)
    path = msgspec.json.decode(slot.checkpoint())["path"]
    return {kind: path.get(kind, {}) for kind in ("latch", "raised")}


def assert_remembered(records: list[RiskOutput]) -> None:
    """Compare the views with a slot that read these records."""
    memory = memory_of(records)
    rows = rows_of(updates(records))["risk_state"]
    kinds = {"latch": "latch", "near_limit": "raised"}
    shown: dict[str, dict[str, Row]] = {kind: {} for kind in kinds.values()}
    for row in rows:
        if row["kind"] in kinds:
            _, kind, key = row["entry"].split("/", 2)
            assert kind == kinds[row["kind"]]
            shown[kind][key] = row
    assert {kind: set(found) for kind, found in shown.items()} == {
        kind: set(found) for kind, found in memory.items()
    }
    for key, latch in memory["latch"].items():
        row = shown["latch"][key]
        assert (row["risk_value"], row["mode"]) == (latch["value"], latch["mode"])
        assert row["record_hash"] == latch["hash"]


def sha256(data: bytes) -> str:
    """Return the hash by which records are named."""
    return hashlib.sha256(data).hexdigest()
