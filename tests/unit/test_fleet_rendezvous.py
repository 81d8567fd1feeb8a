"""Who should own what: balance, little movement, the same on every machine."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from psm.workers.fleet.rendezvous import score, shares

SIZES = [(1, 1), (16, 1), (16, 2), (16, 3), (16, 5), (16, 16), (64, 7), (7, 64)]


def names(count: int, salt: str = "") -> list[str]:
    return [f"psm-worker-{salt}{n}" for n in range(count)]


@pytest.mark.parametrize(("partitions", "members"), SIZES)
def test_every_partition_has_one_owner_and_shares_are_even(partitions: int, members: int) -> None:
    """Shares differ by one at most."""
    owners = shares(range(partitions), names(members))
    assert sorted(owners) == list(range(partitions))
    load = Counter(dict.fromkeys(names(members), 0))
    load.update(owners.values())
    assert max(load.values()) - min(load.values()) <= 1


def test_order_and_repetition_of_the_arguments_do_not_matter() -> None:
    """Each worker learns of the others in its own order, and all agree."""
    members = names(4)
    expected = shares(range(16), members)
    for order in itertools.permutations(members):
        assert shares(range(15, -1, -1), order) == expected


def test_without_members_nobody_owns_anything() -> None:
    """An empty fleet is no error."""
    assert shares(range(16), []) == {}


@pytest.mark.parametrize(("partitions", "members"), [(16, 2), (16, 4), (64, 4), (64, 10)])
def test_little_more_moves_than_the_leavers_share(partitions: int, members: int) -> None:
    """What was not the leaver's mostly stays where it is; pure hashing would balance far worse."""
    moved, had = 0, 0
    for turn in range(30):
        before = shares(range(partitions), names(members, f"{turn}-"))
        leaver = names(1, f"{turn}-")[0]
        after = shares(range(partitions), names(members, f"{turn}-")[1:])
        had += sum(owner == leaver for owner in before.values())
        moved += sum(before[n] != after[n] for n in range(partitions) if before[n] != leaver)
    assert moved <= had * 0.6, f"{moved} moved besides the {had} of the leavers"


def test_scores_never_change() -> None:
    """A fleet of two versions, or of two Pythons, must agree: the hash is part of the contract."""
    assert score("psm-worker-0", 0) == 0xA2A2719F62462368
    assert score("wörker", 63) == 0x3CC534B2232B8BC9
    owners = shares(range(8), ["a", "b", "c"])
    assert "".join(owners[number] for number in range(8)) == "acacacbb"
