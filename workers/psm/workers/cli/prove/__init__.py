"""Commands that prove: audit, validation, anchors, approvals."""
