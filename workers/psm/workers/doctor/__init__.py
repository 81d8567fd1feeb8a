"""Is this installation well? Read-only looks from outside, and what mends what they find."""
