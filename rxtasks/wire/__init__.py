"""What crosses a process boundary: messages, their encoding and their bounds; no I/O here."""
