"""What may stand in the trail as itself, and what as `hmac:<kid>:<hex>`. Pure: facts → facts, a body → a body.

Of a record, the facts in `_CLEAR` stand as they are, each in the form it is known to have: a fact that is new, or does
not look as it should, is marked whole. Everything that a caller or a provider has chosen is searched for secrets even
then. Bodies are what people said: they stand as they are but for marked fields and for what the patterns find.

A path stands as the words of the API and the ids in it; any other segment is marked, for a caller may write anything
there. Ids are taken for ids once the request was located, because they were verified then; before that (a forged one,
another tenant's) they must look like one. Queries, headers and error texts are no facts at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote

from gateway import codec
from gateway.audit.hmac_key import HmacKey
from gateway.audit.patterns import ALREADY, Patterns, is_plain
from gateway.operations import OPERATIONS

if TYPE_CHECKING:
    from gateway.config import AuditRedact

_CACHED = 16_384
_CACHED_LENGTH = 256
_INT64 = 2**63

# --- facts that stand as they are -----------------------------------------------------------------------------------
_NUMBER, _REQUEST, _NAME, _CODE, _IDS, _VERIFIED, _LABEL, _PEER, _PERSON, _TEXT, _PATH, _COUNTS, _ATTEMPTS = (
    *("number", "request", "name", "code", "ids", "verified", "label", "peer", "person", "text", "path", "counts"),
    "attempts",
)
_CLEAR: Final[Mapping[str, str]] = {
    **dict.fromkeys(("request_id", "generation_id"), _REQUEST),
    **dict.fromkeys(("tenant", "tenant_id", "tenant_key", "method", "operation", "provider", "vendor"), _NAME),
    **dict.fromkeys(("account", "level", "outcome", "error_source", "cache", "idempotency"), _NAME),
    **dict.fromkeys(("act", "what", "name", "sections", "digest", "version", "replica"), _NAME),
    **dict.fromkeys(("error_code", "run_status", "finish_reason"), _CODE),
    **dict.fromkeys(("public_ids", "upstream_ids", "public_id", "upstream_id", "thread", "run"), _IDS),
    **dict.fromkeys(("status", "bytes_in", "bytes_out", "events", "text_length", "attempts_total"), _NUMBER),
    **dict.fromkeys(("first_byte_s", "duration_s", "acted_s", "records", "bodies", "bytes", "takeovers"), _NUMBER),
    **dict.fromkeys(("client_request_id", "model", "upstream_model"), _LABEL),
    "client": _PEER,
    "who": _PERSON,
    "reason": _TEXT,
    "path": _PATH,
    "usage": _COUNTS,
    "attempts": _ATTEMPTS,
}
_CLEAR_OF_ATTEMPT: Final[Mapping[str, str]] = {
    **dict.fromkeys(("key", "provider", "operation", "error"), _NAME),
    **dict.fromkeys(("status", "duration_s"), _NUMBER),
}
_ID_WORDS = "asst|assistant|thread|msg|message|run|step|file|vs|vector_store|vsfb|batch"
_FORMS: Final[Mapping[str, re.Pattern[str]]] = {
    _REQUEST: re.compile(r"(?:req|gen)_[0-9a-f]{32}"),
    _NAME: re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,199}"),
    _CODE: re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,63}"),
    _IDS: re.compile(rf"(?:{_ID_WORDS})[_-][A-Za-z0-9_-]{{1,200}}"),
    _VERIFIED: re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:~-]{0,255}"),
    _LABEL: re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@+-]{0,255}"),
    _PEER: re.compile(r"[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9]{1,16})?"),
    _PERSON: re.compile(r"[\w.+-]{1,64}@[\w.-]{1,253}"),
    _TEXT: re.compile(r"(?s:.{0,2000})"),
}
_SPOKEN = (_NAME, _CODE, _LABEL, _TEXT)
"""Forms of what people write, and of what comes again and again; the others are looked at closer where need be."""
_TRUSTED = (_REQUEST, _VERIFIED, _PERSON)
"""Forms that the gateway gave or verified, and operators, whose names may look like addresses."""
_WORDS_OF_ANY_SORT, _SHORT = (_NAME, _LABEL), 200
"""Forms that every plain word has which is no longer."""
_NEW_EACH_TIME = (_REQUEST, _VERIFIED)
"""Forms of values that are different with every request: not worth remembering."""
_SEGMENTS = 32
_WORDS: Final = frozenset(
    {"v1", "openai", "providers", "healthz", "readyz", "openapi.json", ""}
    | {word for row in OPERATIONS for word in row.template.split("/") if not word.startswith("{")}
)

Step = str
_ANY: Final[Step] = "*"
_STEP = re.compile(r"\*|[^.\[\]*$\s]+")


def steps_of(path: str) -> tuple[bool, tuple[Step, ...]]:
    """Whether a path begins at the top, and its names. Raises ValueError for what is no path."""
    is_rooted = path.startswith("$.")
    steps = tuple(path.removeprefix("$.").replace("[*]", "").split("."))
    if not all(map(_STEP.fullmatch, steps)) or steps == (_ANY,):
        raise ValueError(f"{path!r} is no path such as metadata.* or $.thread.messages.content")
    return is_rooted, steps


class Before(NamedTuple):
    """The facts of an earlier record, as they were and as they stand in the trail."""

    told: Mapping[str, Any]
    shown: Mapping[str, Any]


_NOTHING_BEFORE = Before({}, {})


class Redactor:
    """One for the process. Remembers what it marked: the same values come again and again."""

    def __init__(
        self,
        key: HmacKey,
        settings: AuditRedact,
        *,
        is_key: Callable[[str], bool] | None = None,
        words: Collection[str] = (),
    ) -> None:
        """`is_key` tells whether a word is a key that this gateway knows, a tenant's or an account's; `words` are
        segments of paths that are no secret, such as names of providers."""
        self._key = key
        self._words = _WORDS | frozenset(words)
        self._clear = {**dict.fromkeys(settings.clear, _TEXT), **_CLEAR}
        paths = [steps_of(path) for path in settings.paths]
        self._rooted = tuple(steps for is_rooted, steps in paths if is_rooted)
        self._anywhere = tuple(steps for is_rooted, steps in paths if not is_rooted)
        self._first = frozenset(steps[0] for steps in self._anywhere)
        for steps in self._anywhere + self._rooted:
            if len(steps) == 1:
                self._clear.pop(steps[0], None)
        self._patterns = Patterns(settings.patterns, self.mark, is_key)
        self._shown: dict[tuple[str, str], str] = {}
        self._marks: dict[str, str] = {}

    # --- one value
    def mark(self, value: Any) -> str:
        """What stands in place of a value: text as its UTF-8, anything else as its canonical JSON."""
        if type(value) is not str:
            try:
                return self._key.mark(codec.canonical(value))
            except (TypeError, ValueError, RecursionError):
                return self._key.mark(repr(type(value)))
        found = self._marks.get(value)
        if found is None:
            found = value if self._is_ours(value) else self._key.mark(value)
            if len(value) <= _CACHED_LENGTH:
                _bound(self._marks)
                self._marks[value] = found
        return found

    def mark_bytes(self, value: bytes) -> str:
        """The same for what is no text."""
        return self._key.mark(value)

    def _is_ours(self, value: str) -> bool:
        return len(value) == 46 and value.startswith(f"hmac:{self._key.kid}:") and bool(ALREADY.fullmatch(value))

    def text(self, text: str) -> str:
        """A text without what the patterns find."""
        return self._patterns(text)

    # --- a record
    def facts(self, facts: Mapping[str, Any], before: Before | None = None) -> dict[str, Any]:
        """Facts as they may stand in the trail. Never raises; what is already marked stays as it is. What is the very
        same value as in the record `before`, of the same request, is not looked at again."""
        is_located = bool(facts.get("upstream_ids"))
        clear, known = self._clear, self._shown
        told, told_as = before or _NOTHING_BEFORE
        shown: dict[Any, Any] = {}
        for name, value in facts.items():
            if name in told and told[name] is value and name in told_as:
                shown[name] = told_as[name]
                continue
            form = clear.get(name)
            if form == _IDS and is_located:
                form = _VERIFIED
            kind = type(value)
            if form is None:
                shown[self._name(name)] = value if value is None else self.mark(value)
            elif form in _NEW_EACH_TIME and kind is str:
                shown[name] = self._once(form, value)
            elif kind is str and (found := known.get((form, value))) is not None:
                shown[name] = found
            elif form == _NUMBER and (kind is int or kind is float) and -(10**12) < value < 10**12:
                shown[name] = value
            elif form == _PATH:
                shown[name] = self._path(value, facts.get("public_ids") if is_located else None)
            else:
                shown[name] = self._fact(form, value)
        return shown

    def _name(self, name: Any) -> str:
        return self._one(_NAME, name) if type(name) is str else self.mark(name)

    def _once(self, form: str, value: str) -> str:
        """A string that hardly comes again, and that the gateway made or verified if it has its form."""
        is_ours = form == _VERIFIED or value.startswith(("req_", "gen_"))
        if is_ours and is_plain(value) and len(value) <= _CACHED_LENGTH:
            return value
        return self._one(form, value)

    def _fact(self, form: str, value: Any) -> Any:
        kind = type(value)
        if kind is str:
            if form in _NEW_EACH_TIME:
                return self._once(form, value)
            return self._shown.get((form, value)) or self._one(form, value)
        if value is None or kind is bool:
            return value
        if kind is int or kind is float:
            return self._number(value) if form == _NUMBER else self.mark(value)
        if kind is list or kind is tuple:
            if form == _ATTEMPTS:
                return [self._attempt(each) for each in value]
            return [self._fact(form, each) for each in value] if form in _FORMS else self.mark(value)
        return self._counts(value) if kind is dict and form == _COUNTS else self.mark(value)

    def _one(self, form: str, value: str) -> str:
        """A string in a form: as it is if it has that form, but for what the patterns find."""
        shown = self._shown.get((form, value))
        if shown is None:
            pattern = _FORMS.get(form)
            if form in _WORDS_OF_ANY_SORT and is_plain(value) and len(value) <= _SHORT:
                shown = self._patterns(value)
            elif pattern is None or not pattern.fullmatch(value):
                shown = self.mark(value)
            elif form in _TRUSTED:
                shown = value
            elif form in _SPOKEN or self._patterns.may_find(value):
                shown = self._patterns(value).encode("utf-8", "replace").decode()
            else:
                shown = value
            if len(value) <= _CACHED_LENGTH:
                _bound(self._shown)
                self._shown[form, value] = shown
        return shown

    def _number(self, value: float) -> float | str:
        if type(value) is int and (not -_INT64 <= value < _INT64 or self._patterns.finds_card(value)):
            return self.mark(value)
        return value

    def _attempt(self, attempt: Any) -> Any:
        if type(attempt) is not dict:
            return self.mark(attempt)
        shown = {}
        for name, value in attempt.items():
            form = _CLEAR_OF_ATTEMPT.get(name)
            shown[name if form else self._name(name)] = self._fact(form, value) if form else self.mark(value)
        return shown

    def _counts(self, counts: Mapping[str, Any], depth: int = 3) -> dict[str, Any]:
        """`{"total_tokens": 5, "details": {…}}`: numbers under names."""
        shown: dict[str, Any] = {}
        for name, value in counts.items():
            if type(value) is dict and depth:
                shown[self._name(name)] = self._counts(value, depth - 1)
            else:
                shown[self._name(name)] = self._fact(_NUMBER, value)
        return shown

    def _path(self, value: Any, ids: Any) -> str:
        if type(value) is not str:
            return self.mark(value)
        if not isinstance(ids, list | tuple):
            ids = ()
        return "/".join(
            [word if word in self._words else self._segment(word, ids) for word in value.split("/", _SEGMENTS)]
        )

    def _segment(self, segment: str, ids: Sequence[Any]) -> str:
        spelt = unquote(segment) if "%" in segment else segment
        return self._once(_VERIFIED, spelt) if spelt in ids else self._one(_IDS, spelt)

    # --- a body
    def document(self, value: Any) -> Any:
        """JSON as it may be kept: a new value; names too are searched by the patterns. Nests in Python's own stack, so
        whoever calls has looked at the depth."""
        return self._walk(value, self._rooted)

    def _walk(self, value: Any, open_paths: tuple[tuple[Step, ...], ...]) -> Any:
        kind = type(value)
        if kind is str:
            return self._said(value)
        if kind is dict:
            return {self._said(name): self._member(name, inner, open_paths) for name, inner in value.items()}
        if kind is list:
            return [self._walk(item, open_paths) for item in value]
        return self.mark(value) if kind is int and self._patterns.finds_card(value) else value

    def _member(self, name: str, value: Any, open_paths: tuple[tuple[Step, ...], ...]) -> Any:
        if not open_paths and name not in self._first and _ANY not in self._first:
            return self._walk(value, ())
        left = []
        for steps in (*open_paths, *self._anywhere):
            if steps[0] == name or steps[0] == _ANY:
                if len(steps) == 1:
                    return value if value is None else self.mark(value)
                left.append(steps[1:])
        return self._walk(value, tuple(left))

    def _said(self, text: str) -> str:
        if len(text) > _CACHED_LENGTH:
            return self._patterns(text)
        shown = self._shown.get(("", text))
        if shown is None:
            _bound(self._shown)
            shown = self._shown["", text] = self._patterns(text)
        return shown


def _bound(cache: dict[Any, str]) -> None:
    if len(cache) >= _CACHED:
        cache.clear()
