"""What people read of analytics: figures of accounts and groups, tear sheets, tables."""
