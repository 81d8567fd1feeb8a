"""The past of accounts and of the log, folded again."""
