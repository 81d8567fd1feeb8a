"""Risk decisions made again from the logs: validation, explanation, candidates for limits."""
