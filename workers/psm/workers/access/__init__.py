"""Who may do what at the doors of PSM: principals, rights, tokens."""
