"""The configuration is checked as a whole before anything starts; its faults are told, its secrets are not."""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme
from ruamel.yaml import YAML

from gateway import vendors
from gateway.config import Config, ConfigError, Secret, digest_of_key, load
from gateway.ids import route_of
from gateway.vendors.vendor import Vendor

SECRETS = {
    "ONE": "sk-planted-one",
    "TWO": "sk-planted-two",
    "SIDE": "sk-planted-side",
    "ALICE": "planted-alice",
    "BOB": "planted-bob",
    "SIGN": "planted signing key",
    "SHORT": "planted-short",
    "REDIS": "redis://:planted-password@redis:6379",
    "PROXY": "http://planted:planted@proxy:3128",
    "EMPTY": "",
}
GOOD: dict[str, Any] = {
    "providers": {
        "main": {"vendor": "openai", "accounts": {"acme": {"keys": {"one": "${ONE}"}}}},
        "side": {"vendor": "aimlapi", "accounts": {"acme": {"keys": {"two": {"secret": "${SIDE}"}}}}},
    },
    "tenants": {
        "alice": {"keys": ["${ALICE}"]},
        "bob": {"keys": ["${BOB}"], "providers": ["main"]},
    },
    "signing_keys": ["${SIGN}"],
}
DELETED = object()
ACME = "providers.main.accounts.acme"


def put(values: dict[str, Any]) -> dict[str, Any]:
    """GOOD with other values at dotted places."""
    settings = copy.deepcopy(GOOD)
    for place, value in values.items():
        *folders, name = place.split(".")
        section = settings
        for folder in folders:
            section = section.setdefault(folder, {})
        if value is DELETED:
            del section[name]
        else:
            section[name] = value
    return settings


def load_settings(settings: Mapping[str, Any], folder: Path, environ: Mapping[str, str]) -> Config:
    """Through a file, as in production."""
    path = folder / "gateway.yaml"
    with path.open("w") as file:
        YAML(typ="safe", pure=True).dump(settings, file)
    return load(path, environ)


def faults(settings: Any, folder: Path) -> list[str]:
    """What is wrong, one line each; no line may show a secret."""
    with pytest.raises(ConfigError) as refused:
        load_settings(settings, folder, SECRETS)
    assert "planted" not in str(refused.value)
    assert "planted" not in repr(refused.value)
    assert all(f"{folder}/" in line for line in str(refused.value).splitlines())  # the file is named in each
    return refused.value.faults


def fault(settings: Any, folder: Path) -> str:
    (only,) = faults(settings, folder)
    return only


# --- what is good --------------------------------------------------------------------------------------------------


def test_a_small_configuration_is_enough(tmp_path: Path) -> None:
    config = load_settings(GOOD, tmp_path, SECRETS)
    assert config.providers["main"].accounts["acme"].keys["one"].secret.reveal() == "sk-planted-one"
    assert config.providers["side"].accounts["acme"].keys["two"].secret.reveal() == "sk-planted-side"
    assert config.tenants["alice"].keys == [digest_of_key("planted-alice")]
    assert (config.listener.host, config.listener.port, config.store.url, config.demo) == (
        "127.0.0.1",
        8080,
        None,
        None,
    )


def test_secrets_come_from_the_environment_or_from_files_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "one").write_text("  from-a-file\n")
    (tmp_path / "alice").write_text("key of alice\n")
    absolute = tmp_path / "absolute"
    absolute.write_text("from-elsewhere")
    settings = put(
        {
            f"{ACME}.keys": {"a": "file:keys/one", "b": {"secret": f"file:{absolute}"}, "c": "${ONE}"},
            "tenants.alice.keys": ["file:alice", digest_of_key("another")],
        }
    )
    config = load_settings(settings, tmp_path, SECRETS)
    keys = config.providers["main"].accounts["acme"].keys
    assert [key.secret.reveal() for key in keys.values()] == ["from-a-file", "from-elsewhere", "sk-planted-one"]
    assert config.tenants["alice"].keys == [digest_of_key("key of alice"), digest_of_key("another")]


def test_the_environment_of_the_process_is_used_when_none_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    assert load_settings(GOOD, tmp_path, os.environ) == load_settings(GOOD, tmp_path, SECRETS)


def test_a_secret_does_not_show(tmp_path: Path) -> None:
    config = load_settings(put({"store.url": "${REDIS}", "providers.main.proxy": "${PROXY}"}), tmp_path, SECRETS)
    for shown in (repr(config), str(config), f"{config}", repr(config.model_dump())):
        assert "planted" not in shown
    key = config.providers["main"].accounts["acme"].keys["one"].secret
    assert repr(key) == str(key) == f"{key}" == "<secret from ${ONE}>"


def test_a_digest_of_a_key_is_its_sha256() -> None:
    assert digest_of_key("demo-key") == "sha256:c48a01f49fd0f2cc404bc3cbbc80e91457a3d41bb429a695243de4c61794155c"
    assert len(digest_of_key("\udcff")) == 71  # a header may hold any bytes


@pytest.mark.parametrize("change", [{"listener": None}, {"limits.json_bytes": None}, {f"{ACME}.id": None}])
def test_a_name_without_a_value_is_as_good_as_not_written(change: dict[str, Any], tmp_path: Path) -> None:
    assert load_settings(put(change), tmp_path, SECRETS) == load_settings(GOOD, tmp_path, SECRETS)


def test_a_configuration_is_frozen(tmp_path: Path) -> None:
    config = load_settings(GOOD, tmp_path, SECRETS)
    with pytest.raises(Exception, match="frozen"):
        config.listener.port = 1


# --- one fault, its place and its value ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("listener.port", "eighty", "listener.port: Input should be a valid integer"),
        ("listener.port", 70000, "listener.port: Input should be less than or equal to 65535 (given: 70000)"),
        ("listener.keepalive_s", 0, "listener.keepalive_s: Input should be greater than 0 (given: 0)"),
        ("limits.json_bytes", -5, "limits.json_bytes: Input should be greater than 0 (given: -5)"),
        ("limits.json_bytes", 1.5, "limits.json_bytes: Input should be a valid integer"),
        ("limits.json_depth", 901, "limits.json_depth: Input should be less than or equal to 900 (given: 901)"),
        ("providers.main.max_attempts", 0, "providers.main.max_attempts: Input should be greater than or equal to 1"),
        ("providers.main.timeouts.idle_s", "soon", "providers.main.timeouts.idle_s: Input should be a valid number"),
        (
            "providers.main.vendor",
            "opnai",
            "providers.main.vendor: unknown vendor; known: aimlapi, anthropic, apilaplas, azure, foundry, gemini,",
        ),
        ("providers.main.vendor", DELETED, "providers.main.vendor: is missing"),
        ("providers.main.base_url", "ftp://x", "providers.main.base_url: URL scheme should be 'http' or 'https'"),
        ("providers.main.base_url", "x", "providers.main.base_url: Input should be a valid URL"),
        ("providers.main.ca_file", "nowhere.pem", "providers.main.ca_file: no such file (given: 'nowhere.pem')"),
        ("providers.main.accounts", {}, "providers.main.accounts: Dictionary should have at least 1 item"),
        (f"{ACME}.keys", {}, f"{ACME}.keys: Dictionary should have at least 1 item"),
        (f"{ACME}.raw_ids", "perhaps", f"{ACME}.raw_ids: Input should be a valid boolean"),
        (f"{ACME}.id", "a b", f"{ACME}.id: a name has letters, digits, '.', '_' and '-', at most 64 (given: 'a b')"),
        (f"{ACME}.id", "x" * 65, f"{ACME}.id: a name has letters"),
        (f"{ACME}.id", "a:b", f"{ACME}.id: a name has letters"),  # would part the keys of the store
        ("providers.a/b", GOOD["providers"]["main"], "providers.a/b: a name has letters"),
        ("tenants._x", {"keys": ["${ONE}"]}, "tenants._x: a name has letters"),
        ("tenants.alice.keys", [], "tenants.alice.keys: List should have at least 1 item"),
        ("tenants", {}, "tenants: Dictionary should have at least 1 item"),
        ("providers", DELETED, "providers: is missing"),
        ("store.prefix", "a:b", "store.prefix: a name has letters"),
        ("demo", {"port": -1, "provider": "main"}, "demo.port: Input should be greater than or equal to 0"),
        # settings nobody knows
        ("listener.prot", 1, "listener.prot: no such setting"),
        ("loging", {"level": "info"}, "loging: no such setting"),
        (f"{ACME}.key", "sk-planted", f"{ACME}.key: no such setting"),
        # references that lead nowhere
        (f"{ACME}.keys.one", "${NOWHERE}", f"{ACME}.keys.one.secret: the environment has no NOWHERE"),
        (f"{ACME}.keys.one", "${EMPTY}", f"{ACME}.keys.one.secret: the environment has no EMPTY"),
        (f"{ACME}.keys.one", "file:nowhere", f"{ACME}.keys.one.secret: file:nowhere cannot be read: No such file"),
        (f"{ACME}.keys.one", "file:.", f"{ACME}.keys.one.secret: file:. cannot be read: Is a directory"),
        (f"{ACME}.keys.one", "file:empty", f"{ACME}.keys.one.secret: file:empty is empty"),
        (f"{ACME}.keys.one", "file:bytes", f"{ACME}.keys.one.secret: file:bytes cannot be read: not text"),
        (f"{ACME}.keys.one", "file:a\0b", f"{ACME}.keys.one.secret: file:a\0b cannot be read: not text"),
        ("signing_keys", ["${NOWHERE}"], "signing_keys[0]: the environment has no NOWHERE"),
        ("tenants.alice.keys", ["${ALICE}", "${NOWHERE}"], "tenants.alice.keys[1]: the environment has no NOWHERE"),
        # secrets that are written as themselves
        (f"{ACME}.keys.one", "sk-planted", f"{ACME}.keys.one.secret: a secret is written as ${{ENV_NAME}}"),
        (f"{ACME}.keys.one", "x${ONE}", f"{ACME}.keys.one.secret: a secret is written as"),
        ("signing_keys", ["planted"], "signing_keys[0]: a secret is written as"),
        ("tenants.alice.keys", ["planted"], "tenants.alice.keys[0]: a secret is written as"),
        ("tenants.alice.keys", ["sha256:planted"], "tenants.alice.keys[0]: sha256: is followed by 64 lower-case hex"),
        ("tenants.alice.keys", ["sha256:" + "A" * 64], "tenants.alice.keys[0]: sha256: is followed by 64 lower-case"),
        ("store.url", "redis://planted:planted@x", "store.url: a URL with a password is written as ${ENV_NAME}"),
        ("store.url", "planted", "store.url: a secret is written as"),
        ("providers.main.proxy", "http://u:planted@x", "providers.main.proxy: a URL with a password"),
        ("providers.main.base_url", "https://u:planted@x/v1", "providers.main.base_url: a base URL has no credentials"),
        ("providers.main.base_url", "https://x/v1?key=planted", "providers.main.base_url: a base URL has no cred"),
        ("providers.main.base_url", "https://x/v1#planted", "providers.main.base_url: a base URL has no credentials"),
        ("providers.main.base_url", "htps://x/v1?key=planted", "providers.main.base_url: URL scheme should be"),
        ("providers.main.base_url", "htps://u:planted@x/v1", "providers.main.base_url: URL scheme should be"),
        # secrets where a list or a section belongs
        (f"{ACME}.keys", "sk-planted", f"{ACME}.keys: Input should be a valid dictionary"),
        (f"{ACME}.keys", ["sk-planted"], f"{ACME}.keys: Input should be a valid dictionary"),
        (f"{ACME}.keys.one", ["sk-planted"], f"{ACME}.keys.one: Input should be a valid dictionary or instance of Key"),
        (f"{ACME}.keys.one", {"key": "sk-planted", "secret": "${ONE}"}, f"{ACME}.keys.one.key: no such setting"),
        ("providers.main.accounts", "sk-planted", "providers.main.accounts: Input should be a valid dictionary"),
        ("signing_keys", "planted", "signing_keys: Input should be a valid list"),
        ("signing_keys", {"a": "planted"}, "signing_keys: Input should be a valid list"),
        ("tenants.alice.keys", "planted", "tenants.alice.keys: Input should be a valid list"),
        ("tenants.alice", "planted", "tenants.alice: Input should be a valid dictionary"),
        ("store", "redis://:planted", "store: Input should be a valid dictionary"),
    ],
)
def test_a_fault_is_told_with_its_place(place: str, value: Any, told: str, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe planted")
    only = fault(put({place: value}), tmp_path)
    assert only.startswith(told)
    assert "\n" not in only


def test_a_key_that_is_a_number_is_not_shown(tmp_path: Path) -> None:
    only = fault(put({f"{ACME}.keys.one": 987654321}), tmp_path)
    assert only.startswith(f"{ACME}.keys.one: ")
    assert "987654321" not in only


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [1\nb: 2\n", "line 2, column 2: expected ',' or ']', but got ':'"),
        ("tenants: {}\ntenants: {}\n", "line 2, column 1: 'tenants' is given twice"),
        ("a:\n  sk: planted-1\n  sk: planted-2\n", "line 3, column 3: 'sk' is given twice"),
        ("key: *planted\n", "line 1, column 6: found undefined alias …"),
        ("key: !planted x\n", "line 1, column 6: could not determine a constructor for the tag …"),
        ("key: 'planted\n", "line 2, column 1: found unexpected end of stream"),
        ('key: "\\q planted"\n', "line 1, column 8: found unknown escape character 'q'"),
        ("key: planted: planted\n", "line 1, column 13: mapping values are not allowed here"),
        ("\tkey: planted\n", "line 1, column 1: found character '\\t' that cannot start any token"),
        ("\x07planted", "not valid YAML"),
        ("", "the file: Input should be a valid dictionary"),
        ("sk-planted", "the file: Input should be a valid dictionary"),  # somebody's key in place of a configuration
        ("- planted", "the file: Input should be a valid dictionary"),
    ],
)
def test_a_file_that_is_no_configuration_is_told_with_line_and_column(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(path, {})
    assert str(refused.value).startswith(f"{path}: {told}")
    assert "planted" not in str(refused.value)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    for path, told in ((tmp_path / "nowhere.yaml", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError, match=f"cannot be read: {told}"):
            load(path, {})
    (tmp_path / "latin").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load(tmp_path / "latin", {})


def test_no_is_a_word(tmp_path: Path) -> None:
    """YAML 1.1 would take it for false."""
    (tmp_path / "gateway.yaml").write_text("tenants: {no: {keys: ['${ALICE}']}}\nproviders: {}\n")
    with pytest.raises(ConfigError) as refused:
        load(tmp_path / "gateway.yaml", SECRETS)
    assert refused.value.faults == ["providers: Dictionary should have at least 1 item after validation, not 0"]


# --- what no single field can see ----------------------------------------------------------------------------------


def _colliding() -> tuple[str, str]:
    """Two accounts of provider main whose ids could not be told apart."""
    seen: dict[str, str] = {}
    for name in map("account-{:06}".format, itertools.count()):
        if (other := seen.setdefault(route_of("main", name), name)) != name:
            return other, name
    raise AssertionError


BOLT = {"keys": {"two": "${TWO}"}}
SERVED = {"providers.main.serve": "threads", "providers.main.model_api": "chat_completions"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({f"{ACME}.raw_ids": True}, f"{ACME}.raw_ids: needs owned_by"),
        (
            {"providers.main.accounts.bolt": {**BOLT, "owned_by": "zoe"}},
            "providers.main.accounts.bolt.owned_by: no tenant is named zoe",
        ),
        ({"tenants.bob.providers": ["main", "nix"]}, "tenants.bob.providers: no provider is named nix"),
        ({"tenants.alice.default_provider": "nix"}, "tenants.alice.default_provider: nix is none of the tenant's"),
        ({"tenants.bob.default_provider": "side"}, "tenants.bob.default_provider: side is none of the tenant's"),
        ({"tenants.bob.home_accounts": {"nix": "a"}}, "tenants.bob.home_accounts: no provider is named nix"),
        (
            {"tenants.bob.home_accounts": {"main": "bolt"}},
            "tenants.bob.home_accounts.main: no account of main is named bolt",
        ),
        (
            {
                "providers.main.accounts.bolt": {**BOLT, "owned_by": "alice"},
                "tenants.bob.home_accounts": {"main": "bolt"},
            },
            "tenants.bob.home_accounts.main: bolt is owned by another tenant",
        ),
        ({f"{ACME}.owned_by": "alice"}, "tenants.bob.providers: main has no account that is not owned by another"),
        # serving threads
        ({"providers.main.model_api": "chat_completions"}, "providers.main.model_api: needs serve: threads"),
        ({"providers.main.dialect": "mistral"}, "providers.main.dialect: needs serve: threads"),
        ({"providers.main.max_tokens": 100}, "providers.main.max_tokens: needs serve: threads"),
        ({**SERVED, "providers.main.max_tokens": 0}, "providers.main.max_tokens: "),
        (
            {"providers.main.vendor": "anthropic"},
            "providers.main.serve: is missing; vendor anthropic has no threads of its own",
        ),
        (
            {"providers.main.serve": "threads"},
            "providers.main.model_api: is missing; serve: threads needs it: anthropic_messages, chat_completions",
        ),
        (
            {"providers.main.vendor": "gemini"},
            "providers.main.serve: is missing; vendor gemini has no threads of its own: serve: threads",
        ),
        (
            {"providers.main.serve": "threads", "providers.main.model_api": "gemini", "providers.main.dialect": "x"},
            "providers.main.dialect: gemini has no such dialect; known: google",
        ),
        (
            {"providers.main.serve": "threads", "providers.main.model_api": "x"},
            "providers.main.model_api: unknown model",
        ),
        (
            {**SERVED, "providers.main.dialect": "klingon"},
            "providers.main.dialect: chat_completions has no such dialect; known: deepseek, gemini, mistral, ollama",
        ),
        (
            {**SERVED, "providers.main.vendor": "openai_v1", "providers.main.base_url": "https://v1.example"},
            "providers.main.vendor: openai_v1 is a server of threads",
        ),
        (
            {**SERVED, "providers.main.accounts.bolt": {**BOLT, "owned_by": "alice", "raw_ids": True}},
            "providers.main.accounts.bolt.raw_ids: threads that are served here were never anywhere else",
        ),
        # the same twice
        ({f"{ACME}.keys.zwei": "${ONE}"}, f"{ACME}.keys.zwei: the same secret as {ACME}.keys.one"),
        (
            {"providers.side.accounts.acme.keys.two": "${ONE}"},
            f"providers.side.accounts.acme.keys.two: the same secret as {ACME}.keys.one",
        ),
        ({"tenants.bob.keys": ["${ALICE}"]}, "tenants.bob.keys: a key that tenant alice has too"),
        ({"tenants.bob.keys": [digest_of_key("planted-alice")]}, "tenants.bob.keys: a key that tenant alice has too"),
        ({"tenants.bob.id": "alice"}, "tenants.bob.id: the same as that of tenant alice"),
        (
            {"providers.side.id": "main"},
            f"providers.side.accounts.acme: its ids would look like those of {ACME}; give one of them another `id`",
        ),
        (
            {"providers.main.accounts.bolt": {**BOLT, "id": "acme"}},
            f"providers.main.accounts.bolt: its ids would look like those of {ACME}",
        ),
        # the store and what signs
        ({"signing_keys": ["${SIGN}", "${SHORT}"]}, "signing_keys[1]: has fewer than 16 characters"),
        ({"store.url": "redis://x", "signing_keys": DELETED}, "signing_keys: is missing; with a store of your own"),
        ({"store.url": "http://x"}, "store.url: begins with redis://, rediss://, unix://, redis+cluster:// or rediss"),
        ({"store.url": "${PROXY}"}, "store.url: begins with redis://"),
        ({"store.url": "unix+cluster://x"}, "store.url: begins with redis://"),
        (
            {"store.url": "redis+cluster://x:1/2"},
            "store.url: names servers of the cluster, host:port,host:port, and no",
        ),
        ({"store.url": "redis+cluster:///"}, "store.url: names servers of the cluster"),
        ({"providers.main.proxy": "${REDIS}"}, "providers.main.proxy: begins with http:// or https://"),
        ({"audit": {"signing_key": "${SIGN}"}}, "audit.signing_key: is no private key in PEM without a passphrase"),
        ({"audit": {"checkpoint_to": {"webhook": "ftp://x"}}}, "audit.checkpoint_to.webhook: begins with http://"),
        ({"demo": {"tenant_key": "x"}}, "demo.provider: no provider is named demo"),
        ({"prices": {"models": {"nix": {}}}}, "prices.models.nix: no provider is named nix"),
        # files that are there and no good
        ({"providers.main.ca_file": "bad.pem"}, "providers.main: ca_file or client_cert cannot be used: "),
        ({"providers.main.client_cert": "bad.pem"}, "providers.main: ca_file or client_cert cannot be used: "),
        (
            {"listener.tls": {"certificate": "bad.pem", "private_key": "bad.pem"}},
            "listener.tls: certificate and private key cannot be used: ",
        ),
    ],
)
def test_a_contradiction_is_told(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("planted")
    assert fault(put(change), tmp_path).startswith(told)


def test_routes_that_collide_are_refused(tmp_path: Path) -> None:
    """Ids of the one account would lead to the other."""
    one, other = _colliding()
    accounts: dict[str, Any] = {one: {"keys": {"a": "${ONE}"}}, other: {"keys": {"b": "${TWO}"}}}
    settings = put({"providers.main.accounts": accounts})
    told = "its ids would look like those of"
    assert fault(settings, tmp_path).startswith(
        f"providers.main.accounts.{other}: {told} providers.main.accounts.{one}"
    )
    accounts[other]["id"] = "another"
    assert load_settings(settings, tmp_path, SECRETS).providers["main"].accounts.keys() == {one, other}


def test_a_vendor_without_an_address_needs_a_base_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vendors.VENDORS, "homely", Vendor("homely"))
    settings = put({"providers.main.vendor": "homely"})
    assert fault(settings, tmp_path).startswith("providers.main.base_url: is missing; vendor homely has no address")
    settings["providers"]["main"]["base_url"] = "http://localhost:1/v1"
    assert load_settings(settings, tmp_path, SECRETS)


def test_certificates_that_fit_are_used(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    settings = put(
        {
            "providers.main.ca_file": "ca.pem",
            "providers.main.client_cert": "both.pem",
            "listener.tls": {"certificate": "both.pem", "private_key": "both.pem"},
        }
    )
    config = load_settings(settings, tmp_path, SECRETS)
    assert config.listener.tls is not None
    assert config.listener.tls.context().get_ca_certs() == []
    assert config.providers["main"].tls_context() is not True
    assert config.providers["side"].tls_context() is True


# --- everything at once --------------------------------------------------------------------------------------------


def test_all_faults_of_fields_are_told_at_once(tmp_path: Path) -> None:
    values = {
        "listener.port": "x",
        "limits.json_bytes": 0,
        "providers.main.vendor": "x",
        "tenants.alice.keys": ["planted"],
        "signing_keys": ["${NOWHERE}"],
        "nonsense": 1,
    }
    told = faults(put(values), tmp_path)
    assert sorted(line.partition(": ")[0] for line in told) == sorted(
        place + ("[0]" if isinstance(value, list) else "") for place, value in values.items()
    )


def test_all_contradictions_are_told_at_once(tmp_path: Path) -> None:
    values = {
        f"{ACME}.owned_by": "zoe",
        "tenants.alice.default_provider": "nix",
        "tenants.bob.id": "alice",
        "signing_keys": ["${SHORT}"],
        "demo": {},
    }
    places = {line.partition(": ")[0] for line in faults(put(values), tmp_path)}
    assert places >= {
        f"{ACME}.owned_by",
        "tenants.alice.default_provider",
        "tenants.bob.id",
        "signing_keys[0]",
        "demo.provider",
    }


SHOWN_AT: list[Callable[[str], dict[str, Any]]] = [
    lambda text: put({"providers": text}),
    lambda text: put({"providers.main": text}),
    lambda text: put({"tenants": [text]}),
    lambda text: put({ACME: text}),
    lambda text: put({f"{ACME}.keys": {"one": text, "two": {"secret": text}, "three": {"value": text}}}),
    lambda text: put({f"{ACME}.keys": [{"one": text}]}),
    lambda text: put({f"{ACME}.api_key": text, "api_key": text}),
    lambda text: put({"tenants.alice.keys": {"one": text}, "signing_keys": [[text], {"a": text}, text]}),
    lambda text: put({"store": {"url": text, "password": text}, "providers.main.proxy": text}),
    lambda text: put({"store.url": [text]}),
    lambda text: put({"providers.main.base_url": f"https://user:{text}@example.com"}),
    lambda text: put({"providers.main.base_url": f"example.com?api-key={text}"}),
]


@pytest.mark.parametrize("place", range(len(SHOWN_AT)))
@pytest.mark.parametrize(
    "text", ["sk-planted", "planted:x", "redis://:planted@x", "$planted", "${planted", "file planted"]
)
def test_a_secret_in_any_wrong_place_is_not_shown(place: int, text: str, tmp_path: Path) -> None:
    assert faults(SHOWN_AT[place](text), tmp_path)


def test_every_setting_is_described() -> None:
    """The schema is what editors show."""

    def undescribed(schema: Any) -> list[str]:
        return [
            f"{title}.{name}"
            for title, section in {"Config": schema, **schema["$defs"]}.items()
            for name, setting in section.get("properties", {}).items()
            if not setting.get("description") and "$ref" not in setting
        ]

    assert [name for name in undescribed(Config.model_json_schema()) if not name.startswith("Config.demo")] == []


def test_secrets_are_equal_by_value_and_not_by_origin() -> None:
    assert Secret("a", "x") == Secret("a", "y")
    assert hash(Secret("a", "x")) == hash(Secret("a", "y"))
    assert Secret("a", "x") != Secret("b", "x")
    assert Secret("a", "x") != "a"


# --- shared objects ------------------------------------------------------------------------------------------------
ASSISTANT = {"kind": "assistant", "id": "asst_1", "provider": "main", "account": "acme", "tenants": ["alice", "bob"]}
TWO_ACCOUNTS = {"acme": {"keys": {"one": "${ONE}"}}, "bolt": {"keys": {"two": "${TWO}"}}}
OWNED = {**TWO_ACCOUNTS, "bolt": {**TWO_ACCOUNTS["bolt"], "owned_by": "alice"}}


@pytest.mark.parametrize(
    ("entry", "more", "expected"),
    [
        ({"provider": "none"}, {}, "shared[0].provider: no provider is named none"),
        ({"account": "none"}, {}, "shared[0].account: no account of main is named none"),
        ({"tenants": ["zoe"]}, {}, "shared[0].tenants: no tenant is named zoe"),
        ({"withdrawn_from": ["zoe"]}, {}, "shared[0].withdrawn_from: no tenant is named zoe"),
        ({"withdrawn_from": ["bob"]}, {}, "shared[0].withdrawn_from: bob is listed in tenants too"),
        ({"kind": "file"}, {}, "shared[0].id: asst_1 begins like the id of another kind: assistant"),
        (
            {"id": f"asst_1{route_of('main', 'acme')}{'0f' * 10}"},
            {},
            f"shared[0].id: asst_1{route_of('main', 'acme')}{'0f' * 10} is a public id; the provider's own is without"
            " the last 24 characters",
        ),
        (
            {"account": "bolt", "tenants": []},
            {"providers.main.accounts": OWNED},
            "shared[0].account: bolt is owned by tenant alice; nobody else reaches it",
        ),
        (
            {"tenants": ["alice"]},
            {"providers.main.accounts": OWNED},
            "shared[0].tenants: the home account of alice at main is bolt, and accounts cannot meet",
        ),
        (
            {},
            {"providers.main.accounts": TWO_ACCOUNTS, "tenants.bob.home_accounts": {"main": "bolt"}},
            "shared[0].tenants: the home account of bob at main is bolt, and accounts cannot meet",
        ),
        ({"provider": "side", "id": "asst_9"}, {}, "shared[0].tenants: bob may not use provider side"),
        (
            {"kind": "vector_store", "id": "vs_1"},
            {"providers.main.vendor": "openai_v1", "providers.main.base_url": "https://v1.example.com"},
            "shared[0].kind: vendor openai_v1 has no vector stores",
        ),
    ],
)
def test_a_shared_object_that_nobody_could_use_is_a_fault(
    entry: dict[str, Any], more: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    assert fault(put({**more, "shared": [ASSISTANT | entry]}), tmp_path) == expected


def test_a_shared_object_stands_once(tmp_path: Path) -> None:
    twice = [ASSISTANT, {**ASSISTANT, "id": "asst_2"}, {**ASSISTANT, "tenants": []}]
    assert fault(put({"shared": twice}), tmp_path) == "shared[2]: the same object as shared[0]"


@pytest.mark.parametrize("entry", [{"kind": "thread"}, {"id": ""}, {"id": "asst/1"}])
def test_only_what_stands_in_lists_is_shared(entry: dict[str, Any], tmp_path: Path) -> None:
    (where,) = (f"shared[0].{name}: " for name in entry)
    assert fault(put({"shared": [ASSISTANT | entry]}), tmp_path).startswith(where)


def test_a_shared_object_is_good_where_the_home_account_is_set_or_open(tmp_path: Path) -> None:
    """One that is chosen by hashing may turn out to be another: that is a 400 when the two are to meet."""
    for accounts, home in ((OWNED, {"main": "acme"}), (TWO_ACCOUNTS, {"main": "acme"}), (TWO_ACCOUNTS, {})):
        more = {"providers.main.accounts": accounts, "tenants.alice.home_accounts": home}
        config = load_settings(put({**more, "shared": [ASSISTANT]}), tmp_path, SECRETS)
        assert config.shared[0].tenants == ["alice", "bob"]


# ---- the demo ----------------------------------------------------------------------------------------------------


def with_demo(vendors: Any, *names: str) -> dict[str, Any]:
    """GOOD with a tenant who says nothing of providers, more providers, and `echo` as the demo's."""
    added = {
        f"providers.{name}": {
            "vendor": "openai",
            "base_url": "http://example.com",
            "accounts": {"main": {"keys": {"main": f"${{{name.upper()}_KEY}}"}}},
        }
        for name in ("echo", *names)
    }
    return put({**added, "demo": {"provider": "echo", "vendors": vendors}, "tenants.zoe": {"keys": ["${ZOE}"]}})


VENDORS = {name: {"key": f"{name.upper()}_KEY", "model": "m"} for name in ("first", "second")}
DEMO_SECRETS = {**SECRETS, "ECHO_KEY": "echo", "ZOE": "zoe"}


@pytest.mark.parametrize(
    ("keys", "ready"), [(("", ""), []), (("", "second"), ["second"]), (("first", "second"), ["first", "second"])]
)
def test_vendors_of_the_demo_are_there_while_the_environment_has_their_keys(
    keys: tuple[str, str], ready: list[str], tmp_path: Path
) -> None:
    """An empty key is none."""
    environ = {**DEMO_SECRETS, **dict(zip(("FIRST_KEY", "SECOND_KEY"), keys, strict=True))}
    config = load_settings(with_demo(VENDORS, *VENDORS), tmp_path, environ)
    assert config.providers.keys() - GOOD["providers"].keys() == {"echo", *ready}
    assert config.tenants["zoe"].default_provider == [*ready, "echo"][0]
    told = load_settings(GOOD, tmp_path, SECRETS).tenants
    said = [name for name, tenant in told.items() if tenant.default_provider or tenant.providers]
    assert said
    assert all(config.tenants[name].default_provider == told[name].default_provider for name in said)


@pytest.mark.parametrize("key", ["", "first"])
def test_a_vendor_of_the_demo_without_a_provider_is_told_with_and_without_its_key(key: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load_settings(with_demo(VENDORS, "second"), tmp_path, {**DEMO_SECRETS, "FIRST_KEY": key})
    assert refused.value.faults == ["demo.vendors.first: no provider is named first"]


@pytest.mark.parametrize(
    ("vendors", "places"),
    [
        ("main", ["demo.vendors"]),
        (["main"], ["demo.vendors"]),
        ({"main": "KEY"}, ["demo.vendors.main"]),
        ({"main": {"key": "$KEY"}}, ["demo.vendors.main.key", "demo.vendors.main.model"]),
        ({"main": {"key": [], "model": "m"}}, ["demo.vendors.main.key"]),
    ],
)
def test_vendors_of_the_demo_in_another_form_are_told(vendors: Any, places: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load_settings(with_demo(vendors), tmp_path, DEMO_SECRETS)
    assert [line.partition(": ")[0] for line in refused.value.faults if line.startswith("demo")] == places
