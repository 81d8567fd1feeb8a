"""One loop of the risk engine: the state of its groups, what changes it, and its decisions."""

from psm.risk.engine.rules import ENGINE
from psm.risk.engine.slot import Slot

__all__ = ["ENGINE", "Slot"]
