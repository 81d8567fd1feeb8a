"""Guided ways on after a loss: each looks first, refuses when in doubt, and is recorded in OPS."""
