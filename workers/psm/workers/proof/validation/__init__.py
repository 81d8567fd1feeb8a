"""The determinism gate: the same log folded twice, and against what was published."""
