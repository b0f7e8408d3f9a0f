"""A vendor of chat completions that needs no key, account or money, and has no model behind.

`make run` starts it, and the gateway serves threads over it. `model` is the pretend model, whose docstring lists the
words that steer it; `echo` reads requests and makes the events of answers; `echo_server` is the only one that does I/O.
"""
