"""Servers of model APIs that others wrote, as vendors behind the gateway: they read what it sends with eyes that are
not ours, fail in ways that we did not think of, and keep a journal.

    aimock    @copilotkit/aimock (MIT): says what fixtures say, checks keys, injects faults
    llmock    llmock (MIT): makes its answers up, breaks them by chance, and judges how its clients take it

One folder each, with the lock of all it needs; `stand_in` is what both have in common. They are fetched to run tests
and shipped with nothing; what llmock needs is under MIT, BSD, Apache, ISC and PSF licences, but for certifi's MPL.
"""
