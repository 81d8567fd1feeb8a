"""Decisions on orders before they are sent: pure functions of what they name."""
