"""The demo: a feed written as any trading service would write one, and a table to watch."""
