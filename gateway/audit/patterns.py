"""Secrets that have a form: what is looked for in texts, and what they are replaced by. Pure.

Every pattern takes time linear in the text, whatever the text. The built-in ones start only where the characters they
run over start, and never give back what they took. `fault_of` holds those of the configuration to a dialect of which
the same is true.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

OURS = r"hmac:[0-9a-f]{8}:[0-9a-f]{32}(?![0-9a-f])"
ALREADY = re.compile(OURS)
_KEY = re.compile(
    OURS + r"|(?P<scheme>(?<![A-Za-z0-9])(?i:bearer)[ \t]{1,8}+)(?!hmac:)[A-Za-z0-9._~+/=-]{6,}+"
    r"|(?<![A-Za-z0-9])(?:(?:sk|pk|rk)[_-](?=[A-Za-z0-9_-]{8})|github_pat_|gh[opsur]_|xox[abeoprs]-|AIza|AKIA|ASIA|eyJ)"
    r"[A-Za-z0-9_-]{8,}+(?:\.[A-Za-z0-9_-]++)*+"
)
_KEY_SIGNS = (
    *("sk-", "sk_", "pk-", "pk_", "rk-", "rk_", "xox", "AIza", "AKIA", "ASIA", "eyJ"),
    *("ghp_", "gho_", "ghs_", "ghu_", "ghr_", "github_pat_"),
)
_EMAIL = re.compile(OURS + r"|(?<![\w.+%-])[\w.+%-]++@[\w-]++(?:\.[\w-]++)++")
_DIGITS = re.compile(OURS + r"|(?<!\w)(?=[0-9][0-9 -]{12})[0-9]{3,19}+(?:[ -][0-9]{3,19}+)*+")
_MANY_DIGITS = re.compile(r"[0-9][0-9 -]{12}")
_SHORTEST_KEY, _LONGEST_KEY = 8, 256
_WORDLIKE = re.compile(r"""[^\s"'<>()\[\]{},;=:\\]++""")
_PLAIN = bytes(48) + bytes(range(10)) + bytes(198)
_DOUBLED = bytes(48) + bytes([0, 2, 4, 6, 8, 1, 3, 5, 7, 9]) + bytes(198)
_CARD_DIGITS = range(13, 20)
_CARD_BEGINS = "23456"
BUILT_IN = ("email", "card", "key")

_OWN_UNIT = re.compile(
    r"\\[dDwWsSbB.\\/+*?\[\](){}|^$-]|\[\^?\]?(?:\\.|[^\]\\])+\]|[^\\\[\](){}|*+?^$]|(?P<edge>[\^$])|(?P<either>\|)"
)
_OWN_REPEAT = re.compile(r"\{(\d{1,3})\}|\{(\d{1,3}),(\d{1,3})\}\+|\?\+")
_OWN_WIDTH = 256


def fault_of(pattern: str) -> str | None:
    """What is wrong with an entry of `audit.redact.patterns`: `email`, `card`, `key`, or an expression of characters,
    classes, `\\b`, `|`, `{n}`, `{m,n}+` and `?+`, which reaches over at most 256 characters and thus cannot be slow."""
    if pattern in BUILT_IN:
        return None
    place, width, widest, is_after_unit = 0, 0, 0, False
    while place < len(pattern):
        if is_after_unit and (repeat := _OWN_REPEAT.match(pattern, place)):
            width += max(int(repeat[3] or repeat[1] or 1) - 1, 0)
            place, is_after_unit = repeat.end(), False
            continue
        unit = _OWN_UNIT.match(pattern, place)
        if unit is None:
            return f"{pattern!r} at {place + 1}: only characters, classes, |, {{n}}, {{m,n}}+ and ?+ are taken"
        widest, width = max(widest, width), 0 if unit["either"] else width + 1
        place, is_after_unit = unit.end(), not (unit["either"] or unit["edge"] or unit[0] in (r"\b", r"\B"))
    try:
        compiled = re.compile(pattern)
    except re.error as exc:
        return f"{pattern!r}: {exc.msg}"
    if max(widest, width) > _OWN_WIDTH:
        return f"{pattern!r} reaches over more than {_OWN_WIDTH} characters"
    return f"{pattern!r} matches an empty text" if compiled.match("") else None


class Patterns:
    """Text → the same without what was found. What is already marked stays as it is."""

    def __init__(
        self, wanted: Sequence[str], mark: Callable[[str], str], is_key: Callable[[str], bool] | None = None
    ) -> None:
        """`wanted` are entries of `audit.redact.patterns`; `is_key` knows keys of any form, whole words of them."""
        self._mark = mark
        self._is_key = is_key
        self._finds = {name: name in wanted for name in BUILT_IN}
        own = [f"(?:{pattern})" for pattern in wanted if pattern not in BUILT_IN]
        self._own = re.compile("|".join([OURS, *own])) if own else None

    def may_find(self, word: str) -> bool:
        """Whether a short word needs a closer look: cheaper than the look, and mostly no."""
        if self._own is not None or "@" in word or _may_hold_key(word):
            return True
        return _MANY_DIGITS.search(word) is not None

    def finds_card(self, number: int) -> bool:
        """Whether a number of a body is a card's."""
        return number >= 10**12 and self._finds["card"] and is_card(str(number))

    def __call__(self, text: str) -> str:
        """A text without what the patterns find."""
        if self._is_key is not None and (secrets := self._known_in(text)):
            text = re.sub("|".join(map(re.escape, secrets)), lambda found: self._mark(found[0]), text)
        if self._finds["key"] and _may_hold_key(text):
            text = _KEY.sub(self._mark_key, text)
        if self._finds["email"] and "@" in text:
            text = _EMAIL.sub(self._mark_match, text)
        if self._own is not None:
            text = self._own.sub(self._mark_match, text)
        if self._finds["card"] and _MANY_DIGITS.search(text):
            text = _DIGITS.sub(self._mark_cards, text)
        return text

    def _known_in(self, text: str) -> list[str]:
        """Keys of this gateway in a text, longest first."""
        assert self._is_key is not None
        if is_plain(text):
            return [text] if _SHORTEST_KEY <= len(text) <= _LONGEST_KEY and self._is_key(text) else []
        words: set[str] = set()
        for chunk in set(text.split()):  # a text has many words and few that differ
            if len(chunk) >= _SHORTEST_KEY:
                parts = _WORDLIKE.findall(chunk)
                words.update(parts, [part.strip(".!?*_`~") for part in parts])
        known = [
            word
            for word in words
            if _SHORTEST_KEY <= len(word) <= _LONGEST_KEY and not ALREADY.fullmatch(word) and self._is_key(word)
        ]
        return sorted(known, key=len, reverse=True)

    def _mark_match(self, found: re.Match[str]) -> str:
        return found[0] if ALREADY.fullmatch(found[0]) else self._mark(found[0])

    def _mark_key(self, found: re.Match[str]) -> str:
        if ALREADY.fullmatch(found[0]):
            return found[0]
        scheme = found["scheme"] or ""
        return scheme + self._mark(found[0][len(scheme) :])

    def _mark_cards(self, found: re.Match[str]) -> str:
        """Every card number that begins and ends with groups of a run of digits."""
        run = found[0]
        if ALREADY.fullmatch(run):
            return run
        groups = list(re.finditer(r"[0-9]+", run))
        if found.string[found.end() : found.end() + 1].isalnum():
            groups.pop()  # its digits go on into a word
        pieces, told, first = [], 0, 0
        while first < len(groups):
            last = _card_end(run, groups, first)
            if last is None:
                first += 1
                continue
            start, end = groups[first].start(), groups[last].end()
            pieces += [run[told:start], self._mark(run[start:end])]
            told, first = end, last + 1
        return "".join([*pieces, run[told:]])


def is_plain(word: str) -> bool:
    """Whether a word has ASCII letters, digits, `_` and `-` alone and begins with one of the first two, as ids do. Much
    cheaper than an expression."""
    return word.isascii() and word[:1].isalnum() and word.replace("_", "").replace("-", "").isalnum()


def _may_hold_key(text: str) -> bool:
    """Much cheaper than to look for one, and mostly no."""
    for sign in _KEY_SIGNS:  # `any` takes twice as long, and every request comes here
        if sign in text:
            return True
    return "bearer" in text.lower()


def _card_end(run: str, groups: Sequence[re.Match[str]], first: int) -> int | None:
    """The last group of the longest card number that begins with this group, None if none does."""
    digits, found = "", None
    if run[groups[first].start()] not in _CARD_BEGINS:
        return None
    for last in range(first, len(groups)):
        digits += groups[last][0]
        if len(digits) > _CARD_DIGITS[-1]:
            break
        if is_card(digits):
            found = last
    return found


def is_card(digits: str) -> bool:
    """Whether digits are as many as a card's, begin as one's do, and pass Luhn's check."""
    if len(digits) not in _CARD_DIGITS or digits[0] not in _CARD_BEGINS:
        return False
    values = digits.encode()
    return (sum(values[-1::-2].translate(_PLAIN)) + sum(values[-2::-2].translate(_DOUBLED))) % 10 == 0
