"""Rules: the first that fits decides, and what a status decides waits for the end."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.audit.policy import Level, Policy, statuses_of
from gateway.config import AuditRule, ConfigError, load


def policy(*rules: dict[str, Any]) -> Policy:
    return Policy([AuditRule.model_validate(rule) for rule in rules])


def test_without_rules_everything_is_metadata() -> None:
    plan = policy().plan("alice", "create_message", "main")
    assert (plan.level(200), plan.certain, plan.possible) == (Level.METADATA, Level.METADATA, Level.METADATA)


@pytest.mark.parametrize(
    ("asked", "level"),
    [
        (("alice", "create_message", "main"), Level.FULL),  # the first rule, though the second fits too
        (("alice", "create_run", "main"), Level.REQUEST),
        (("bob", "create_message", "main"), Level.METADATA),
        (("alice", "create_run", "side"), Level.METADATA),
        ((None, None, None), Level.METADATA),  # no good key: no condition on it holds
        (("alice", None, None), Level.METADATA),
    ],
)
def test_the_first_rule_of_which_all_fits_decides(asked: tuple[str | None, ...], level: Level) -> None:
    rules = policy(
        {"tenant": "a*", "operation": ["create_m*", "modify_m*"], "level": "full"},
        {"tenant": ["alice", "carol"], "operation": "*", "provider": "main", "level": "request"},
    )
    assert rules.plan(*asked).level(200) is level
    assert rules.plan(*asked) is rules.plan(*asked)


def test_what_a_status_decides_is_held_until_the_end() -> None:
    plan = policy(
        {"status": [404, "5xx"], "level": "full"}, {"tenant": "alice", "level": "request"}, {"level": "metadata"}
    ).plan("alice", "create_run", "main")
    assert [plan.level(status) for status in (200, 404, 500, 599, 403, None)] == [
        *(Level.REQUEST, Level.FULL, Level.FULL, Level.FULL, Level.REQUEST, Level.REQUEST)
    ]
    assert (plan.certain, plan.possible) == (Level.REQUEST, Level.FULL)


def test_a_rule_after_one_without_a_status_holds_nothing() -> None:
    plan = policy({"level": "metadata"}, {"status": "5xx", "level": "full"}).plan("alice", "create_run", "main")
    assert plan.possible is Level.METADATA


def test_none_never_hides_what_was_refused() -> None:
    plan = policy({"operation": "get_*", "level": "none"}).plan("alice", "get_thread", "main")
    assert [plan.level(status) for status in (200, 304, 404, 502, None)] == [
        *(Level.NONE, Level.NONE, Level.METADATA, Level.METADATA, Level.METADATA)
    ]


def test_what_is_remembered_is_bounded() -> None:
    rules = policy({"tenant": "t1*", "level": "full"})
    for number in range(40_000):
        rules.plan(f"t{number}", "create_run", "main")
    assert len(rules._plans) <= 16_384
    assert rules.plan("t17", "create_run", "main").level(200) is Level.FULL


@pytest.mark.parametrize("wrong", ["600", "5x", "xxx", "20", "-1", "２00"])
def test_what_is_no_status_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="is no status such as 404 or 5xx"):
        statuses_of([wrong])


RULES = """
providers: {main: {vendor: openai, base_url: http://x, accounts: {acme: {keys: {one: "${ONE}"}}}}}
tenants: {alice: {keys: ["${ALICE}"]}}
audit: {policy: [%s]}
"""


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("{level: none}", "audit.policy[0].level: none is for plain reads alone; this rule is about"),
        ("{level: none, operation: ['get_*', cancel_run]}", "about cancel_run too"),
        ("{level: none, operation: passthrough}", "about passthrough too"),
        ("{level: none, operation: search_vector_store}", "about search_vector_store too"),
        ("{level: full, operation: creat_run}", "audit.policy[0].operation: no operation is named creat_run"),
        ("{level: full, provider: mian}", "audit.policy[0].provider: no provider is named mian"),
        ("{level: full, status: 6xx}", "audit.policy[0].status: '6xx' is no status"),
        ("{level: all}", "audit.policy[0].level"),
        ("{tenant: alice}", "audit.policy[0].level: is missing"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_a_fault(rule: str, told: str, tmp_path: Any) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(RULES % rule)
    with pytest.raises(ConfigError) as refused:
        load(path, {"ONE": "sk-one", "ALICE": "alice-key"})
    assert told in str(refused.value)


def test_a_rule_may_name_a_tenant_that_is_yet_to_come(tmp_path: Any) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(RULES % "{tenant: to-be-made, status: 404, level: full}, {operation: 'list_*', level: none}")
    config = load(path, {"ONE": "sk-one", "ALICE": "alice-key"})
    assert [rule.level for rule in config.audit.policy] == ["full", "none"]


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("{hmac_key: '${SHORT}'}", "audit.hmac_key: has fewer than 16 characters"),
        ("{redact: {paths: ['a..b']}}", "is no path such as metadata.*"),
        ("{redact: {paths: ['*']}}", "is no path such as metadata.*"),
        ("{redact: {patterns: ['(a+)+']}}", "only characters, classes"),
        ("{redact: {patterns: ['e-mail?']}}", "only characters, classes"),
    ],
)
def test_faults_of_the_section_are_told(section: str, told: str, tmp_path: Any) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(RULES.partition("audit:")[0] + f"audit: {section}")
    with pytest.raises(ConfigError) as refused:
        load(path, {"ONE": "sk-one", "ALICE": "alice-key", "SHORT": "planted-short"})
    assert told in str(refused.value)
    assert "planted-short" not in str(refused.value)
