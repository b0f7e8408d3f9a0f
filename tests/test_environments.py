"""How environments are kept, with builds that cost nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import environments


class Builder:
    """Builds a folder with one file in it, and knows how often; `fails` once it is told to."""

    def __init__(self) -> None:
        self.built: list[Path] = []
        self.fails = False

    def __call__(self, folder: Path) -> None:
        folder.mkdir()
        self.built.append(folder)
        if self.fails:
            raise environments.CannotBuild("no network")


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builder:
    monkeypatch.setattr(environments, "KEPT", tmp_path / "programs")
    return Builder()


def test_an_environment_is_built_once_for_each_lock_and_older_ones_go(build: Builder) -> None:
    first = environments._built("ann", b"lock", build)
    other = environments._built("bob", b"lock", build)
    assert environments._built("ann", b"lock", build) == first
    newer = environments._built("ann", b"another lock", build)
    assert build.built == [first, other, newer]
    assert [each.exists() for each in build.built] == [False, True, True]


def test_an_environment_that_was_left_half_built_is_built_again(build: Builder) -> None:
    build.fails = True
    with pytest.raises(environments.CannotBuild):
        environments._built("ann", b"lock", build)
    build.fails = False
    assert environments._built("ann", b"lock", build).exists()
    assert len(build.built) == 2


def test_a_tool_that_fails_says_why() -> None:
    with pytest.raises(environments.CannotBuild, match="no such option"):
        environments._run("python3", "-m", "pip", "--nonsense")
