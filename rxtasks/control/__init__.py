"""The control of a pool that runs: where it is found, its server, and the client of a command."""
