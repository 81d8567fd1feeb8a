"""What commands share: output, connections, processes, approvals."""
