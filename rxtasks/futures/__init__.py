"""The service as a concurrent.futures.Executor: see rxtasks.futures.executor."""
