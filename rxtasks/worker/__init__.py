"""What runs inside a worker: handlers, their context, and the way of their events out."""
