"""A consumer of republished updates knows an account exactly, or knows that it does not."""

from __future__ import annotations

from psm.contracts.feed import WAITING_IN_ALL_MAX, WAITING_MAX, FeedInput, UpdateFeed

ACCOUNT = "acc_001"


def message(at: int, number: int, count: int, previous: int | None) -> tuple[dict[str, str], bytes]:
    """Return headers and body as the broker republishes them."""
    headers = {
        "Nats-Subject": f"psm.state.updated.3.{ACCOUNT}",
        "Psm-Position": f"{at}/{number}/{count}",
    }
    if previous is not None:
        headers["Psm-Previous"] = str(previous)
    return headers, f"{at}/{number}".encode()


def of(at: int, count: int, previous: int) -> list[tuple[dict[str, str], bytes]]:
    """Return all messages of one input."""
    return [message(at, number, count, previous) for number in range(1, count + 1)]


def taken(feed: UpdateFeed, *messages: tuple[dict[str, str], bytes]) -> list[int]:
    """Return the log sequences of what was applied."""
    return [found.log_sequence for one in messages for found in feed.take(*one)]


def test_inputs_are_applied_whole_and_in_order() -> None:
    """With the last of its messages, not before."""
    feed = UpdateFeed()
    first, second = of(5, 2, 0)
    assert feed.take(*first) == []
    expected = FeedInput(account_id=ACCOUNT, log_sequence=5, previous=0, updates=(b"5/1", b"5/2"))
    assert feed.take(*second) == [expected]
    assert taken(feed, *of(9, 3, 5), *of(10, 1, 9)) == [9, 10]
    assert (feed.is_known(ACCOUNT), feed.last_input(ACCOUNT), feed.unknown()) == (True, 10, [])


def test_a_lost_input_makes_the_account_unknown() -> None:
    """Until somebody says as of which input it was read; what waited goes on from there."""
    feed = UpdateFeed()
    assert taken(feed, *of(5, 2, 0)) == [5]
    assert taken(feed, *of(9, 2, 7), *of(11, 1, 9)) == []
    assert (feed.is_known(ACCOUNT), feed.last_input(ACCOUNT)) == (False, None)
    assert feed.unknown() == [ACCOUNT]
    assert [one.log_sequence for one in feed.repaired(ACCOUNT, 7)] == [9, 11]
    assert (feed.last_input(ACCOUNT), feed.unknown()) == (11, [])
    assert feed.repaired(ACCOUNT, 8) == []
    assert taken(feed, *of(12, 1, 11)) == [12]


def test_each_lost_message_of_an_input_is_noticed() -> None:
    """The first, one between, the last: half an input is never applied."""
    for lost in range(3):
        feed = UpdateFeed()
        messages = of(5, 3, 0)
        del messages[lost]
        assert taken(feed, *messages, *of(6, 1, 5)) == []
        assert not feed.is_known(ACCOUNT)
        assert [one.log_sequence for one in feed.repaired(ACCOUNT, 5)] == [6]


def test_what_a_repair_held_is_not_applied_again() -> None:
    """The state was read as of a later input than what arrives."""
    feed = UpdateFeed()
    assert feed.repaired(ACCOUNT, 9) == []
    assert taken(feed, *of(5, 1, 0), *of(9, 2, 5)) == []
    assert feed.is_known(ACCOUNT)
    assert taken(feed, *of(12, 1, 9)) == [12]


def test_a_repair_that_is_not_far_enough_leaves_it_unknown() -> None:
    """The chain must meet: a hole behind the repair is one."""
    feed = UpdateFeed()
    assert taken(feed, *of(9, 1, 7)) == []
    assert feed.repaired(ACCOUNT, 6) == []
    assert not feed.is_known(ACCOUNT)
    assert [one.log_sequence for one in feed.repaired(ACCOUNT, 7)] == [9]


def test_an_account_that_was_there_before_is_unknown() -> None:
    """Its first input here is not its first."""
    feed = UpdateFeed()
    assert not feed.is_known(ACCOUNT)
    assert taken(feed, *of(9, 2, 7)) == []
    assert feed.unknown() == [ACCOUNT]


def test_what_belongs_to_no_account_stands_alone() -> None:
    """A refusal on a subject that nobody opened says nothing of what was lost."""
    feed = UpdateFeed()
    assert taken(feed, message(4, 1, 1, None), message(3, 1, 1, None)) == [4, 3]
    assert taken(feed, *of(5, 1, 0)) == [5]


def test_other_messages_are_left_alone() -> None:
    """Whoever publishes on such a subject without our headers changes nothing."""
    feed = UpdateFeed()
    assert feed.take(None, b"x") == []
    assert feed.take({"Nats-Subject": "psm.get.state"}, b"x") == []
    assert feed.take({"Psm-Position": "1/1/1"}, b"x") == []


def test_what_waits_is_bounded() -> None:
    """An account that nobody repairs costs no memory without end."""
    feed = UpdateFeed()
    for at in range(2, WAITING_MAX + 5):
        assert taken(feed, *of(at, 1, at - 1)) == []
    assert len(feed._places[ACCOUNT].waiting) <= WAITING_MAX
    found = feed.repaired(ACCOUNT, WAITING_MAX + 1)
    assert [one.log_sequence - WAITING_MAX for one in found] == [2, 3, 4]


def test_copies_of_an_unfinished_input_are_left_alone() -> None:
    """A message that comes twice is no loss."""
    feed = UpdateFeed()
    first, second, third = of(5, 3, 0)
    assert taken(feed, first, first, second, first, second, third, third) == [5]
    assert feed.is_known(ACCOUNT)


def test_a_repair_ends_an_unfinished_input() -> None:
    """Its rest may have been lost; the account is known beyond it all the same."""
    feed = UpdateFeed()
    assert taken(feed, *of(5, 1, 0), of(6, 2, 5)[0], of(8, 2, 6)[0]) == [5]
    assert not feed.is_known(ACCOUNT)
    assert feed.repaired(ACCOUNT, 8) == []
    assert taken(feed, *of(9, 1, 8)) == [9]


def test_a_place_without_an_update_may_be_repaired_to() -> None:
    """A live document is as of a message that did nothing to the account."""
    feed = UpdateFeed()
    assert taken(feed, *of(9, 1, 7), *of(20, 1, 9)) == []
    assert [one.log_sequence for one in feed.repaired(ACCOUNT, 15)] == [20]
    assert taken(feed, *of(25, 1, 20)) == [25]


def test_what_waits_is_applied_in_order() -> None:
    """However it came."""
    feed = UpdateFeed()
    assert taken(feed, *of(13, 1, 11), *of(9, 1, 7), *of(11, 1, 9)) == []
    assert [one.log_sequence for one in feed.repaired(ACCOUNT, 7)] == [9, 11, 13]


def test_an_account_is_lost_and_forgotten() -> None:
    """Where something else tells of a loss; and where nobody asks any more."""
    feed = UpdateFeed()
    assert taken(feed, *of(5, 1, 0)) == [5]
    feed.lose(ACCOUNT)
    assert (feed.is_known(ACCOUNT), feed.unknown()) == (False, [ACCOUNT])
    assert taken(feed, *of(6, 1, 5)) == []
    assert [one.log_sequence for one in feed.repaired(ACCOUNT, 5)] == [6]
    feed.lose("other")
    feed.forget("other")
    feed.forget(ACCOUNT)
    assert (feed.last_input(ACCOUNT), feed.unknown()) == (None, [])


def test_what_waits_of_all_is_bounded() -> None:
    """Many unknown accounts keep some of them together; each its newest."""
    feed = UpdateFeed()
    count = WAITING_IN_ALL_MAX // WAITING_MAX + 3
    for number in range(count):
        for at in range(2, WAITING_MAX):
            headers, data = message(at, 1, 1, at - 1)
            feed.take({**headers, "Nats-Subject": f"psm.state.updated.3.a{number}"}, data)
    kept = [len(place.waiting) for place in feed._places.values()]
    assert sum(kept) == feed._waiting <= WAITING_IN_ALL_MAX + count
    assert min(kept) >= 1
    for number in range(count):
        feed.forget(f"a{number}")
    assert feed._waiting == 0
