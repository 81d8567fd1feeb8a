"""The payload structs."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from psm.contracts import events
from psm.contracts.events import TradeExecuted
from psm.contracts.fields import Payload

_PAST = ("ed", "edIn", "edOut", "Paid", "Withdrawn", "Reset", "Dividend", "OfCapital", "SpinOff")


@pytest.mark.parametrize("payload", get_args(events.Event))
def test_payloads_are_frozen_and_named_in_the_past_tense(payload: type[Payload]) -> None:
    """An event is a fact: it cannot be changed, and its name says that it happened."""
    config = payload.__struct_config__
    assert config.frozen
    assert payload.__name__.endswith(_PAST)
    assert payload.__doc__


def test_unknown_fields_are_ignored() -> None:
    """A newer minor version adds fields; old readers go on."""
    raw = b'{"symbol":"A","side":"buy","quantity":"1","price":"2","new":[1]}'
    assert msgspec.json.decode(raw, type=TradeExecuted).execution == "trade"
