"""One partition: recover, fold, commit, snapshot."""
