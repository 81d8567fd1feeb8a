"""`CollateralDefined`: the terms of an asset as security, on a subject of its own."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from tests.support.domain import Log, given
from tests.support.events import collateral, deposit, instrument, opened, trade, withdrawal

from psm.contracts import EventFactory, codec, registry, subjects
from psm.contracts.drafts import draft_of
from psm.contracts.table_events import TABLE_SUBJECTS
from psm.domain.books import is_idle
from psm.domain.market.collateral import Collateral
from psm.domain.messages import NeedHistory, Outcome
from psm.workers.partition.live import table_head
from psm.workers.replay.lines import LineFolder

D = Decimal
BTC = Collateral(asset="BTC", haircut=D("0.1"))


def test_the_last_definition_counts() -> None:
    """All of it: a rate that it does not name is 0."""
    log = given(collateral(1, borrow_maintenance_rate="0.05"))
    terms = log.books.market.collateral
    assert terms == {"BTC": msgspec.structs.replace(BTC, borrow_maintenance_rate=D("0.05"))}
    log.when(collateral(2, haircut="1"))
    assert terms == {"BTC": msgspec.structs.replace(BTC, haircut=D(1))}


def test_one_with_an_old_number_is_stale() -> None:
    """Numbers of an asset's definitions only rise."""
    log = given(collateral(2))
    assert log.when(collateral(2, haircut="0")).outcome is Outcome.STALE
    assert log.when(collateral(1, haircut="0")).outcome is Outcome.STALE
    assert log.books.market.collateral == {"BTC": BTC}
    assert log.when(collateral(1, asset="ETH")).outcome is Outcome.APPLIED


@pytest.mark.parametrize(
    ("more", "detail", "field"),
    [
        ({"haircut": "1.000000000000000001"}, "haircut must be from 0 to 1", "haircut"),
        ({"haircut": "-0.1"}, "haircut must be a decimal of zero or more", "haircut"),
        (
            {"borrow_maintenance_rate": "-1"},
            "borrow_maintenance_rate must be a decimal of zero or more",
            "borrow_maintenance_rate",
        ),
        ({"stream": "ETH"}, "asset is not the one of the subject", "asset"),
    ],
)
def test_what_contradicts_itself_is_refused(more: dict[str, Any], detail: str, field: str) -> None:
    """And changes nothing; the refusal names the field."""
    log = given()
    sent = collateral(1, **more)
    if "stream" in more:
        sent = msgspec.structs.replace(sent, subject="collateral.ETH")
    seen = log.when(sent)
    refused = seen.payload("EventRefused")
    assert (seen.outcome, seen.reason) == (Outcome.REFUSED, "invalid_payload")
    assert (refused["field"], refused["detail"][: len(detail)]) == (f"payload.{field}", detail)
    assert log.books.market.collateral == {}


def test_it_stands_on_its_own_subject_only() -> None:
    """Not where instruments are defined, and no instrument on its subject; it has a number."""
    sent = collateral(1)
    elsewhere = msgspec.structs.replace(sent, subject="instruments.BTC")
    assert given().when(elsewhere).reason == "unknown_event_type"
    body = msgspec.json.decode(sent.data)
    without = msgspec.structs.replace(
        sent, data=codec.encode({k: v for k, v in body.items() if k != "sequence_number"})
    )
    assert given().when(without).reason == "sequence_missing"


def test_a_checkpoint_keeps_it() -> None:
    """With its number."""
    log = given(collateral(7))
    market = log.books.market
    market.restore(market.tables())
    assert market.collateral == {"BTC": BTC}
    assert log.when(collateral(7, haircut="0")).outcome is Outcome.STALE
    assert table_head(log.books, "collateral.BTC").last == 7


def waiting(log: Log) -> list[str]:
    """Return the accounts whose figures changed since they were published."""
    accounts = log.books.accounts
    return sorted(name for name, account in accounts.items() if account.unpublished.changed)


def test_it_values_those_who_have_the_asset() -> None:
    """Also those who owe it, at once; the others are not touched."""
    log = given(opened(1), deposit(2, "1", currency="BTC"))
    log.when(opened(1, stream="other"), opened(1, stream="owing"), withdrawal(2, stream="owing"))
    log.when(collateral(1))
    assert waiting(log) == ["acc_001"]
    log.when(collateral(1, asset="USDT"))
    assert waiting(log) == ["acc_001", "owing"]


@pytest.mark.parametrize("asset", ["USDT", "ABC", "BTC"])
def test_an_account_that_may_be_put_away_is_not_concerned(asset: str) -> None:
    """Else it would depend on its being in memory what is published of it."""
    share = instrument(1, "ABC", kind="equity", base="ABC")
    log = given(share, opened(1), deposit(2), trade(3, "buy", "1", "5", "ABC"))
    log.when(trade(4, "sell", "1", "5", "ABC"))
    assert is_idle(log.account())
    log.when(collateral(1, asset=asset))
    assert waiting(log) == []
    assert is_idle(log.account())


def test_an_account_that_owes_is_not_put_away() -> None:
    """The terms of what it owes may become others."""
    log = given(opened(1), deposit(2, "100"))
    assert is_idle(log.account())
    log.when(withdrawal(3, "101"))
    assert not is_idle(log.account())


def test_everybody_reads_it() -> None:
    """Partitions, accounts, corrections that need marks, and files of lines."""
    assert TABLE_SUBJECTS["CollateralDefined"] == "collateral"
    assert "collateral.*" in subjects.partition_filters(3)
    assert "collateral.*" in subjects.stream_filters("acc_001", 16, ["BTC"])
    log = given(collateral(1))
    need = NeedHistory(stream_id="acc_001", from_log_sequence=1, to_log_sequence=9, marks=())
    assert [*log.history(need)] == [1]
    assert need.market_subjects() == ["collateral.*"]
    assert [*log.history(msgspec.structs.replace(need, marks=None))] == []
    folder = LineFolder()
    taken = folder.take(collateral(1).data)
    assert taken is not None
    assert (taken.subject, taken.outcome) == ("collateral.BTC", "applied")


def test_it_is_made_and_published_like_any_event() -> None:
    """Its schema, its draft, and what the factory makes."""
    assert registry.version_of("CollateralDefined") == "1.0.0"
    made = EventFactory("desk", "1.0.0").create_event(
        "CollateralDefined", "BTC", {"asset": "BTC", "haircut": D("0.05")}
    )
    assert made.subject == "collateral.BTC"
    assert draft_of(made.body).numbered


def test_terms_of_its_own_money_are_nothing_to_an_idle_account() -> None:
    """It may be in memory or not: what is published must not tell. Who owes it needs margin."""
    log = given(opened(1), deposit(2, "10"))
    before = log.account().unpublished.saved()
    assert is_idle(log.account())
    log.when(collateral(1, asset="USDT", borrow_maintenance_rate="0.1"))
    assert log.account().unpublished.saved() == before
    assert is_idle(log.account())
    log.when(withdrawal(3, "30"), collateral(2, asset="USDT", borrow_maintenance_rate="0.5"))
    assert log.account().unpublished.changed
    assert log.state()["margin_maintenance"] == "10"
