"""`rxtasks store ...`: the upkeep of a durable store."""
