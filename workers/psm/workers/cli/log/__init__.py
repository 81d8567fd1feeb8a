"""Commands on the log: publish, fold, replay, export."""
