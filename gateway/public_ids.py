"""How one answer calls the provider's objects: upstream ids → public ids, in fields and in prose."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from gateway.ids import IdSigner
from gateway.phases.locate import RAW, Located
from gateway.shapes import BY_PREFIX, PREFIX_KINDS, PROSE

_ID_SHAPED = re.compile(
    # Possessive, and only then a look back: going back over every shorter word would take the square of the length.
    rf"(?<![A-Za-z0-9_-])({'|'.join(map(re.escape, PREFIX_KINDS))})[A-Za-z0-9_-]*+(?<=[A-Za-z0-9]{{16}})"
)
_SECRET = re.compile(r"(?<![A-Za-z0-9])(sk|org|proj)[-_][A-Za-z0-9_*.-]{7,}[A-Za-z0-9_*-]")

_FOUND_BY_ID = frozenset({"assistant", "thread", "file", "vector_store"})
"""Kinds whose id alone leads to an object; the others are found only below an id of these."""

_KINDS = {"run step": "step", "vector store": "vector_store", "file batch": "batch"}
_TEMPLATES = (
    re.compile(r"No (?P<kind>[a-z ]+) found with id '(?P<id>[^']+)'"),
    re.compile(r"to (?P<kind>thread) (?P<id>\S+) while a run"),
    re.compile(r"while a (?P<kind>run) (?P<id>\S+) is active"),
    re.compile(r"(?P<kind>Thread) (?P<id>\S+) already has an active run"),
    re.compile(r"has an active (?P<kind>run) (?P<id>[^\s']*[^\s'.,;:!?])"),
)
"""OpenAI's sentences with ids in them; clients parse some (recorded answers and public issues, 2023–2026)."""


def join_place(upstream: str, route: str) -> str:
    """How served objects name an assistant of another account than their own."""
    return f"{upstream}@{route}"


def split_place(named: str, home: str) -> tuple[str, str]:
    """An assistant's id and route, as an object of the account `home` names it."""
    upstream, _, route = named.partition("@")
    return upstream, route or home


class PublicIds:
    """The naming of one answer: bound to tenant, route and spelling, with a memory, because lists repeat ids."""

    def __init__(self, signer: IdSigner, *, tenant: str, located: Located) -> None:
        self._signer = signer
        self._tenant = tenant
        self._route = located.target.account.route
        self._spelling = located.spelling
        self._known = located.known
        self._is_served = located.target.provider.is_served
        self._is_shared_account = located.target.account.owned_by is None
        self._secrets = [key.secret.reveal() for key in located.target.account.keys]
        self._memory: dict[tuple[str, str], str] = {}

    def __call__(self, kind: str, value: str) -> str:
        """The replacement that `shapes.rewrite` asks for: an id of a kind, or one of the markers."""
        if kind == PROSE:
            return self.in_prose(value)
        if kind == BY_PREFIX:
            found = _ID_SHAPED.fullmatch(value)
            return self(PREFIX_KINDS[found[1]], value) if found else value
        public = self._memory.get((kind, value))
        if public is None:
            public = self._memory[kind, value] = self._name(kind, value)
        return public

    def _name(self, kind: str, upstream: str) -> str:
        if self._spelling == RAW:
            return upstream
        route = self._route
        if self._is_served and kind == "assistant":
            upstream, route = split_place(upstream, route)
        return self._signer.sign(upstream, kind=kind, tenant=self._tenant, route=route, key=self._spelling)

    def in_prose(self, text: str) -> str:
        """A vendor's sentence with its ids made public and its secrets masked.

        Replaced are exact ids of this request, ids in the known sentences, and long words with an id's prefix;
        nothing else, because the rest may be the caller's own words. On an account that tenants share what may be
        another's id is masked: vendors repeat what they were sent, and to sign an id that a caller put into a sentence
        would give that caller the object.
        """
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = _SECRET.sub(lambda found: f"{found[1]}-***", text)
        done: set[str] = set(self._known.values())
        for template in _TEMPLATES:
            text = template.sub(lambda found: self._fill(found, done), text)
        text = _known_words(self._known).sub(lambda found: self._known[found[0]], text) if self._known else text
        return _ID_SHAPED.sub(lambda found: self._word(found, done), text)

    def _fill(self, sentence: re.Match[str], done: set[str]) -> str:
        kind = _KINDS.get(word := sentence["kind"].lower(), word)
        upstream = sentence["id"]
        if kind not in PREFIX_KINDS.values() or self._is_public(kind, upstream, done):
            return sentence[0]
        public = self._known.get(upstream) or self._guess(kind, upstream)
        done.add(public)
        start, end = (place - sentence.start() for place in sentence.span("id"))
        return sentence[0][:start] + public + sentence[0][end:]

    def _word(self, word: re.Match[str], done: set[str]) -> str:
        kind = PREFIX_KINDS[word[1]]
        return word[0] if self._is_public(kind, word[0], done) else self._guess(kind, word[0])

    def _guess(self, kind: str, word: str) -> str:
        """How a word that seems to be an id is told. What this answer has in a field is this caller's."""
        if self._is_shared_account and kind in _FOUND_BY_ID and (kind, word) not in self._memory:
            return next((prefix for prefix in PREFIX_KINDS if word.startswith(prefix)), "") + "***"
        return self(kind, word)

    def _is_public(self, kind: str, word: str, done: set[str]) -> bool:
        return word in done or self._signer.verify(word, kind=kind, tenant=self._tenant) is not None


def _known_words(known: Mapping[str, str]) -> re.Pattern[str]:
    """Exact ids of the request as whole words; a very short id only inside quotes, where it is meant as an id."""
    words = (
        re.escape(upstream) if len(upstream) >= 8 else rf"(?<='){re.escape(upstream)}(?=')"
        for upstream in sorted(known, key=len, reverse=True)
    )
    return re.compile(rf"(?<![A-Za-z0-9_-])(?:{'|'.join(words)})(?![A-Za-z0-9_-])")


def rewrite_all_prose(value: Any, in_prose: Callable[[str], str]) -> Any:
    """Every text in an error's further fields, as prose."""
    if isinstance(value, str):
        return in_prose(value)
    if isinstance(value, list):
        return [rewrite_all_prose(item, in_prose) for item in value]
    if isinstance(value, dict):
        return {name: rewrite_all_prose(item, in_prose) for name, item in value.items()}
    return value
