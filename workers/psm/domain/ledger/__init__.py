"""The ledger: amounts, positions, orders, and their canonical bytes."""
