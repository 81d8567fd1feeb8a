"""Commands that read: accounts, events, and why."""
