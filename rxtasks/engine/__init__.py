"""The engine: claims tasks, assigns them, records and publishes what they do."""
