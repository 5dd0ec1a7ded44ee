"""Our Rx parts: a shielded subject, filters, backpressure strategies, and bridges to `for` and `async for`."""
