"""Instruments and marks."""
