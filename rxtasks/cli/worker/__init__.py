"""`rxtasks worker ...`: start, watch and steer the pool of a store."""
