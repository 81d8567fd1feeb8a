"""Anchors: signed sizes and roots of a Merkle tree over the log, kept out of its reach."""
