"""Derived views in PostgreSQL; they may be dropped and rebuilt at any time."""
