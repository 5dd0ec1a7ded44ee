"""The command line: `rxtasks run` and, later, the operators' commands."""
