"""Commands that operate: streams, fleet, views, repairs."""
