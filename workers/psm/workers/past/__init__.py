"""The past: what an account's stream did place by place, and its state at any of them."""
