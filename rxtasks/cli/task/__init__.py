"""`rxtasks task ...`: tasks of a durable store, with or without a pool that runs on it."""
