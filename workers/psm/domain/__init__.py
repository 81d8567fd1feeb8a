"""The deterministic aggregate: pure functions over Decimal, no I/O, no clock, no randomness."""
