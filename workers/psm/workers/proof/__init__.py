"""Audit, validation, anchors."""
