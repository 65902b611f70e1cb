"""How it is tried."""
