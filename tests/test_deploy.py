"""What stands in `deploy/` fits the code, and the files in it fit each other. No image is built here."""

from __future__ import annotations

import asyncio
import re
import sys
import tomllib
from pathlib import Path

import orjson
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

from gateway import cli
from gateway.config import Config, ConfigError, load
from gateway.health import Health
from tests.conftest import StartGateway, StartVendor
from tests.test_process import free_port

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COMPOSE = YAML(typ="safe", pure=True).load(DEPLOY / "compose.yaml")
SERVICES = COMPOSE["services"]
GATEWAY, VALKEY = SERVICES["gateway"], SERVICES["valkey"]


# --- the Dockerfile -------------------------------------------------------------------------------------------------


def stages() -> list[list[tuple[str, str]]]:
    """The Dockerfile's instructions by stage, each with its arguments on one line."""
    lines = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    instructions = [line.split(None, 1) for line in "\n".join(lines).replace("\\\n", "").splitlines() if line]
    starts = [place for place, (word, _) in enumerate(instructions) if word == "FROM"]
    assert starts[0] == 0
    return [
        [(word, rest) for word, rest in instructions[a:b]] for a, b in zip(starts, [*starts[1:], None], strict=True)
    ]


BUILDER, FINAL = stages()


def the(instruction: str, stage: list[tuple[str, str]] = FINAL) -> str:
    [arguments] = [rest for word, rest in stage if word == instruction]
    return arguments


def exec_form(arguments: str) -> list[str]:
    """No shell is asked for anything."""
    parsed: list[str] = orjson.loads(arguments[arguments.index("[") :])
    return parsed


PORT = int(the("EXPOSE"))
CHECK = exec_form(the("HEALTHCHECK"))
RUNS = exec_form(the("ENTRYPOINT")) + exec_form(the("CMD"))


def test_every_stage_has_the_same_pinned_base_with_a_python_that_the_project_takes() -> None:
    bases = {the("FROM", stage).split()[0] for stage in (BUILDER, FINAL)}
    [base] = bases  # the environment is copied from one to the other: it names the interpreter by its path
    version = re.fullmatch(r"python:(\d+\.\d+(?:\.\d+)?)-slim-[a-z]+(@sha256:[0-9a-f]{64})?", base)
    assert version
    assert version[1] in SpecifierSet(PROJECT["requires-python"])
    assert f"Programming Language :: Python :: {version[1]}" in PROJECT["classifiers"]


def test_what_the_dockerfile_copies_is_there_and_all_that_the_build_may_see() -> None:
    copied = [path for word, rest in BUILDER if word == "COPY" for path in rest.split()[:-1]]
    assert all((ROOT / path).exists() for path in copied)
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignore
    assert {line[1:] for line in ignore if line.startswith("!")} == set(copied)


def test_the_image_installs_by_hash_from_its_lock_and_nothing_else() -> None:
    first, second = (exec_form(rest) for word, rest in BUILDER if word == "RUN" and '"install"' in rest)
    assert "--require-hashes" in first
    assert (ROOT / first[first.index("-r") + 1]) == DEPLOY / "requirements.lock"
    assert {"--no-deps", "--no-index", "--no-build-isolation"} <= set(second)


def test_the_image_runs_as_somebody_who_is_not_root() -> None:
    user, group = map(int, the("USER").split(":"))
    assert user > 0
    assert group > 0
    words = [word for word, _ in FINAL]
    assert words.index("USER") < words.index("ENTRYPOINT")


def test_the_image_starts_a_command_that_exists_on_the_configuration_that_compose_mounts() -> None:
    program, *arguments = RUNS
    assert Path(program).name in PROJECT["scripts"]
    given = cli._parser().parse_args(arguments)
    assert given.command == "serve"
    [mount] = [volume for volume in GATEWAY["volumes"] if volume.endswith(":ro")]
    source, target, _ = mount.split(":")
    assert Path(target) == given.config
    assert (DEPLOY / source).resolve() == DEPLOY / "gateway.yaml"


def test_the_image_offers_the_port_that_is_the_default() -> None:
    assert Config.model_fields["listener"].default.port == PORT


def test_the_image_checks_a_health_page_that_exists() -> None:
    path = re.search(r"'GET', '([^']+)'", CHECK[-1])
    assert path
    page = Health(lambda: True).page("GET", path[1])
    assert page is not None
    assert page.status == 200


async def test_the_images_health_check_ends_0_beside_a_gateway_and_1_beside_none(
    start_vendor: StartVendor, start_gateway: StartGateway
) -> None:
    """The very command, but for the port."""

    async def check(port: int) -> int:
        command = [sys.executable, *(word.replace(str(PORT), str(port)) for word in CHECK[1:])]
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
        return await process.wait()

    assert CHECK[0] == "python"
    gateway = await start_gateway(await start_vendor())
    assert await check(int(gateway.url.rpartition(":")[2])) == 0
    assert await check(free_port()) == 1


# --- compose --------------------------------------------------------------------------------------------------------


def secrets() -> dict[str, str]:
    """The example's names, each with a value of its own."""
    names = re.findall(r"^(\w+)=$", (DEPLOY / "secrets.env.example").read_text(), flags=re.MULTILINE)
    return {name: f"the value of {name}, long enough" for name in names}


CONFIG = load(DEPLOY / "gateway.yaml", secrets())


def test_the_composed_configuration_asks_for_exactly_the_secrets_of_the_example() -> None:
    """With one of them missing it is refused, so nothing starts half configured."""
    text = (DEPLOY / "gateway.yaml").read_text()
    assert set(re.findall(r"^[^#\n]*\$\{(\w+)\}", text, flags=re.MULTILINE)) == secrets().keys()
    with pytest.raises(ConfigError):
        load(DEPLOY / "gateway.yaml", dict.fromkeys(secrets(), ""))
    assert GATEWAY["env_file"] == "secrets.env"
    assert "deploy/secrets.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_composed_gateway_listens_where_its_port_is_published() -> None:
    assert CONFIG.listener.host == "0.0.0.0"
    assert GATEWAY["ports"] == [f"127.0.0.1:{CONFIG.listener.port}:{PORT}"]
    assert CONFIG.listener.port == PORT


def test_the_composed_gateway_finds_its_store_on_a_network_of_their_own() -> None:
    assert CONFIG.store.url is not None
    assert CONFIG.store.url.reveal() == "redis://valkey:6379"
    assert COMPOSE["networks"]["store"] == {"internal": True}
    assert VALKEY["networks"] == ["store"]
    assert "store" in GATEWAY["networks"]
    assert "ports" not in VALKEY


def test_the_composed_store_keeps_what_it_is_given() -> None:
    settings = dict(zip(VALKEY["command"][1::2], VALKEY["command"][2::2], strict=True))
    assert settings == {"--appendonly": "yes", "--save": "", "--maxmemory-policy": "noeviction"}
    assert VALKEY["volumes"] == ["valkey:/data"]
    assert "valkey" in COMPOSE["volumes"]
    assert GATEWAY["depends_on"] == {"valkey": {"condition": "service_healthy"}}
    assert re.fullmatch(r"valkey/valkey:\d+\.\d+-alpine", VALKEY["image"])


@pytest.mark.parametrize("service", SERVICES)
def test_no_composed_service_may_write_gain_rights_or_log_without_end(service: str) -> None:
    settings = SERVICES[service]
    assert settings["read_only"] is True
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges:true"]
    assert settings["logging"] == {"driver": "local"}


def test_the_composed_gateway_may_drain_before_it_is_killed() -> None:
    assert float(GATEWAY["stop_grace_period"].removesuffix("s")) >= CONFIG.listener.shutdown_s + 10


def test_the_image_is_built_from_the_dockerfile_that_is_tested_here() -> None:
    build = GATEWAY["build"]
    assert (DEPLOY / build["context"]).resolve() == ROOT
    assert ROOT / build["dockerfile"] == DEPLOY / "Dockerfile"


# --- the locks ------------------------------------------------------------------------------------------------------

EXTRAS = PROJECT["optional-dependencies"]


def pins(lock: Path) -> dict[str, set[str]]:
    """Versions by name: packages that differ between platforms have several."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^ ;\\]+)", lock.read_text(), flags=re.MULTILINE):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("deploy/requirements.lock", ["foundry"]),  # what serves: every vendor, no test, no demo
        ("deploy/demo.lock", ["demo"]),
        ("tests/requirements.lock", ["demo", "foundry", "sql", "test"]),
    ],
)
def test_every_lock_has_what_the_project_wants_and_all_of_them_the_same_versions(lock: str, extras: list[str]) -> None:
    locked = pins(ROOT / lock)
    wanted = [*PROJECT["dependencies"], *(each for extra in extras for each in EXTRAS[extra])]
    for requirement in map(Requirement, wanted):
        assert all(version in requirement.specifier for version in locked[canonicalize_name(requirement.name)])
    everything = pins(ROOT / "tests/requirements.lock")
    assert {name: everything.get(name) for name in locked} == locked
    assert "flit-core" in locked  # the gateway itself is built without another look at an index
    unwanted = {canonicalize_name(Requirement(each).name) for name in EXTRAS.keys() - extras for each in EXTRAS[name]}
    assert not unwanted & locked.keys()


def test_make_run_and_make_lock_know_these_locks() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for lock in ("deploy/requirements.lock", "deploy/demo.lock", "tests/requirements.lock"):
        assert f"-o {lock} " in makefile
    assert "--require-hashes -r deploy/demo.lock" in makefile
