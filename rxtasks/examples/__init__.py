"""Examples that do real work, on the public API only."""
