"""The command line of the operators' commands: what is refused before anything is asked."""

from __future__ import annotations

import pytest

from gateway.cli import _parser, main


def wrong(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*words.split(), "--config", "nowhere.yaml"])
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("keys dance", "invalid choice"),
        ("keys rest", "required: --key"),
        ("keys rest --key a --for 10", "a time is written as 90s, 10m, 2h, 1d or 1h30m, not '10'"),
        ("keys rest --key a --for -5m", "--for"),
        ("keys rest --key a --for 0s", "more than nothing"),
        ("keys drain --key a --for 99999d", "at most ten years"),
        ("keys revive --key a --for 10m", "unrecognized arguments"),
        ("keys list --reason x", "unrecognized arguments"),
        ("tenants disable", "required: NAME, --reason"),
        ("providers disable a", "required: --reason"),
        ("providers disable a --reason \t", "expected one argument"),
        ("tenants enable", "required: NAME"),
        ("tenants usage --since yesterday", "a date is written as 2026-11-22, not 'yesterday'"),
        ("tenants usage --by tenant,colour", "takes some of tenant,provider,model,day"),
        ("tenants create", "required: NAME"),
        ("tenants create -x", "required: NAME"),
        ("tenants create a/b", "a name has letters, digits"),
        (f"tenants create {'x' * 48}", "at most 47"),
        ("tenants create a --requests-per-minute 0", "a whole number above 0, not '0'"),
        ("tenants create a --tokens-per-day many", "a whole number above 0, not 'many'"),
        ("tenant-keys create", "required: TENANT"),
        ("tenant-keys create a --expires-in 5", "a time is written as"),
        ("tenant-keys create a --expires-at soon", "a moment is written as 2027-01-01T00:00:00Z, not 'soon'"),
        ("tenant-keys create a --expires-at 2090-01-01T00:00:00", "a moment has a time zone"),
        ("tenant-keys create a --expires-at 2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z is over"),
        ("tenant-keys create a --expires-in 1d --expires-at 2090-01-01T00:00:00Z", "not allowed with"),
        ("tenant-keys create a --name x:y", "a name has letters, digits"),
        ("tenant-keys revoke", "required: KEY, --reason"),
        ("tenant-keys revoke x", "required: --reason"),
    ],
)
def test_a_wrong_command_line_is_told(words: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert told in wrong(words, capsys)


def test_a_reason_says_something(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["tenants", "disable", "a", "--reason", " \n", "--config", "nowhere.yaml"])
    assert "says nothing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86_400), ("1h30m", 5400), ("0s1s", 1)],
)
def test_times_are_written_as_people_say_them(text: str, seconds: int) -> None:
    given = _parser().parse_args(["keys", "rest", "--config", "x", "--key", "a", "--for", text])
    assert given.for_s == seconds


def test_a_rest_lasts_ten_minutes_and_a_drain_until_it_is_revived() -> None:
    rest, drain = (_parser().parse_args(["keys", act, "--config", "x", "--key", "a"]) for act in ("rest", "drain"))
    assert (rest.for_s, drain.for_s) == (600, None)


def test_a_configuration_that_is_wrong_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "list", "--config", "nowhere.yaml"]) == 2
    assert capsys.readouterr().err == "nowhere.yaml: cannot be read: No such file or directory\n"
