"""`rxtasks top`: a live view of a pool in the terminal.

::

    pool ──/v1/status, /v1/tasks──> Feed (threads of its own) ──> Seen ──timer──> Screen (textual)
         ──/v1/logs/follow (SSE)──>      ^                                            │ keys
         <──pause, scale, kill, ...──────┴────────────── orders ──────────────────────┘

The view asks once a second and is told nothing by the pool but log lines, of which the server drops what is taken too slowly:
it can hold up nobody. Nothing in it waits on the terminal's thread: what is asked of the pool is asked on the feed's threads.
"""
