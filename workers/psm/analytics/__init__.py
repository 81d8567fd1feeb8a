"""Figures of performance and risk over what the fold says: pure, over Decimal, rebuildable."""
