"""Compares the fold of this tree with the fold of another commit, after every message."""
