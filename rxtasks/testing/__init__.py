"""Shipped suites and strategies for those who write stores, workers or operators; needs the test extra."""
