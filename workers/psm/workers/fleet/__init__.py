"""The fleet of workers: who is there, who should own what, and how it changes hands.

Membership is a hint, the commit cursor is the truth: whatever goes wrong here costs a refused
commit or a moment of waiting, never a wrong number.
"""

from psm.workers.fleet.coordinator import Fleet, FleetSettings
from psm.workers.fleet.members import Holding, Member, MemberEntry, this_member
from psm.workers.fleet.nats_fleet import NatsMembers, NatsProber

__all__ = [
    "Fleet",
    "FleetSettings",
    "Holding",
    "Member",
    "MemberEntry",
    "NatsMembers",
    "NatsProber",
    "this_member",
]
