"""One Threads API in front of many AI providers.

One request is one straight line, and `gateway.flow` reads it aloud:

    authenticate   who calls                                 phases/authenticate.py
    find           which operation                           phases/find_operation.py, operations.py
    check scope    what the key may do                       phases/check_scope.py, scoping.py
    receive        the body, in memory or spooled            phases/receive.py
    locate         which provider and account: ids say so    phases/locate.py
    cached?        kept bytes, or else what follows          caching.py
    rewrite out    ids, headers and path for the vendor      phases/rewrite_out.py
    take a key     one of the account's ready keys           pool.py, strategies/
    send           one attempt; `judge` says what follows    phases/send.py, phases/judge.py
    rewrite in     public ids, reference shapes, one error   phases/rewrite_in.py
    relay          a stream event by event, a file in chunks relaying.py, phases/relay.py
    record         one log line, whatever happened           telemetry.py

Phases are plain functions: they take the values they need and return values. Only `receive`, `send` and `relay`
touch the network. What differs between vendors is data and a few functions in one file of `gateway.vendors`.

Words used everywhere: *tenant* calls us; a *provider* is a configured endpoint of a *vendor*; an *account* is one
organisation there, and threads live in it and nowhere else; its *keys* are interchangeable; the *public id* is what
callers see, the *upstream id* what the provider sees; an *attempt* is one try at a provider.
"""

__version__ = "0.1.0"
