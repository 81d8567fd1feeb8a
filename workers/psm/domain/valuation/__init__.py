"""What a ledger is worth."""
