"""How a run ends, whoever ends it: its patch is written, what it left open is closed, the lock of its thread opens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from gateway.engine.store.documents import Document, encode
from gateway.engine.store.events import EVENTS, KEPT_S

EndStatus = Literal["completed", "incomplete", "failed", "cancelled", "expired"]

END = (
    EVENTS
    + f"""
-- `by` is who ends it, so that a second time is known for what it is.
local function end_run(by, patch, message_patch, step_patch)
  local a = redis.call('HGETALL', A)
  local of = {{}}
  for i = 1, #a, 2 do
    of[a[i]] = a[i + 1]
    local kind, id = string.match(a[i], '^(%a+):(.+)$')
    if kind == 'message' then redis.call('HSET', M, id .. ':ended', message_patch) end
    if kind == 'step' then redis.call('HSET', S, id .. ':ended', step_patch) end
  end
  -- Members put in front of the others, which win: no JSON is read.
  if of.usage then patch = '{{"usage":' .. of.usage .. ',' .. string.sub(patch, 2) end
  if of.started then patch = '{{"started_at":' .. of.started .. ',' .. string.sub(patch, 2) end
  local closed = redis.call('HGET', T, 'n') .. ':' .. by .. ':' .. (of.cancel or '')
  redis.call('HSET', R, of.run .. ':ended', patch, of.run .. ':closed', closed)
  add_last_event(tonumber(of.epoch))
  redis.call('EXPIRE', EV, {KEPT_S})
  redis.call('UNLINK', A)
end

-- Who ended a run, and who had cancelled it; nil if it has not ended.
local function closed_by(run)
  local closed = redis.call('HGET', R, run .. ':closed')
  if not closed then return nil end
  local by, cancel = string.match(closed, '^%d+:(%w*):(%w*)$')
  return by, cancel
end
"""
)

_TIMES = {
    "completed": "completed_at",
    "failed": "failed_at",
    "cancelled": "cancelled_at",
    "expired": "expired_at",
}
_OPEN_MESSAGE: dict[EndStatus, str] = {
    "completed": "run_failed",
    "incomplete": "max_tokens",
    "failed": "run_failed",
    "cancelled": "run_cancelled",
    "expired": "run_expired",
}
"""What becomes of a message that the run leaves open. A run that completes leaves none."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended, and when. `usage` None: as it was when the run waited last. `error` is `last_error` of one that
    failed, `reason` why one is incomplete."""

    status: EndStatus
    now: float
    usage: Document | None = None
    error: Document | None = None
    reason: str | None = None

    def patches(self) -> tuple[bytes, bytes, bytes]:
        """Of the run, of messages that are open, of steps that are open."""
        return encode(self._run()), encode(self._message()), encode(self._step())

    def _run(self) -> dict[str, Any]:
        ended: dict[str, Any] = {"status": self.status, "required_action": None}
        if self.usage is not None:
            ended["usage"] = self.usage
        if self.status == "expired":  # it has no time of its own: `expires_at` stays and says when
            return ended
        ended["expires_at"] = None
        if (stamp := _TIMES.get(self.status)) is not None:
            ended[stamp] = int(self.now)
        if self.error is not None:
            ended["last_error"] = self.error
        if self.reason is not None:
            ended["incomplete_details"] = {"reason": self.reason}
        return ended

    def _message(self) -> dict[str, Any]:
        return interrupted_message(self.now, _OPEN_MESSAGE[self.status])

    def _step(self) -> dict[str, Any]:
        if self.status in ("completed", "incomplete"):
            return {"status": "completed", "completed_at": int(self.now)}
        ended = {"status": self.status, _TIMES[self.status]: int(self.now)}
        return ended | ({"last_error": self.error} if self.status == "failed" else {})


def interrupted_message(now: float, reason: str) -> dict[str, Any]:
    """What makes a message incomplete."""
    return {"status": "incomplete", "incomplete_at": int(now), "incomplete_details": {"reason": reason}}


def interrupted_step(now: float) -> dict[str, Any]:
    """What makes a step failed whose replica was lost in the middle of it."""
    error = {"code": "server_error", "message": "the step was interrupted, and its work was taken up again"}
    return {"status": "failed", "failed_at": int(now), "last_error": error}
