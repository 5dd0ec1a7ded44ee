"""Where a worker lives: in this process, in a thread, in a process of its own. One contract, one file each."""
