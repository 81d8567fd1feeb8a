"""The record of operations: journal, approvals, keys."""
