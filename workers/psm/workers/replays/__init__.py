"""Replays of more than one account: whole log, bundles, recorded streams; and their records."""
