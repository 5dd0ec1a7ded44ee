"""The durable truth about tasks: one contract, several stores."""
