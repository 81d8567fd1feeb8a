"""What every process has: settings, readiness, crash points."""
