"""The threads and assistants of one tenant, removed with everything below them.

Runs in work are lost with their thread: whoever works on one finds it gone at the next write, or within a second.
Gateways that run must know before that the tenant was erased (`gateway/store/switches.py`), or requests under way there
make some of it anew. What stays ends by itself: ids of deleted threads within the hour, those of deleted assistants
when others follow.
"""

from __future__ import annotations

from collections import Counter

from gateway.engine.store.stored import open_stored
from gateway.store.connection import Store

_AT_ONCE = 100


async def erase_holdings(store: Store, tenant: str, *, now: float) -> Counter[str]:
    """How many there were of each kind. Raises StoreAway; then it can be done again, and goes on. `now` is in seconds
    since 1970."""
    stored = open_stored(store, owner="erasure")
    removed = Counter({"served threads": 0, "served assistants": 0})
    while holdings := await stored.holdings.first(tenant, _AT_ONCE):
        for holding in holdings:
            if holding.kind == "thread":
                removed["served threads"] += await stored.threads.erase(holding.id, now=now)
            else:
                removed["served assistants"] += await stored.assistants.erase(holding.account, holding.id)
        await stored.holdings.drop(tenant, holdings)
    return removed
