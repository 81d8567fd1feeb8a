"""Lines folded without a server; recordings played back."""
