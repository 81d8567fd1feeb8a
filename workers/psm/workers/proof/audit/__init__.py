"""The audit: the whole log by sequence, folded again, against everything that was made from it."""
