"""What a task is and how it may change: values and rules, no work."""
