"""Settings: where values come from, and what is said of bad ones."""

from __future__ import annotations

import base64
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from mesh_core import settings
from mesh_core.settings import (
    CALL_CLASSES,
    AuthSettings,
    BadSettings,
    CallLimit,
    ClusterSettings,
    DatabaseSettings,
    EtcdSettings,
    LimitsSettings,
    LinksSettings,
    NetworkSettings,
    NodeSettings,
    ObjectsSettings,
    RedisSettings,
    SecretsSettings,
    ServerSettings,
    TelemetrySettings,
    parse_limits,
)

SECTIONS: dict[str, type[msgspec.Struct]] = {
    "server": ServerSettings,
    "database": DatabaseSettings,
    "etcd": EtcdSettings,
    "redis": RedisSettings,
    "limits": LimitsSettings,
    "objects": ObjectsSettings,
    "links": LinksSettings,
    "network": NetworkSettings,
    "cluster": ClusterSettings,
    "node": NodeSettings,
    "auth": AuthSettings,
    "secrets": SecretsSettings,
    "telemetry": TelemetrySettings,
}
MASTER_KEY = base64.b64encode(bytes(32)).decode()
REQUIRED = {
    "MESH_DATABASE_URL": "postgresql://mesh@127.0.0.1:5432/mesh",
    "MESH_ETCD_ENDPOINTS": "127.0.0.1:2379",
    "MESH_OBJECTS_URL": "file:///tmp/objects",
    "MESH_SECRETS_MASTER_KEY": MASTER_KEY,
}


class Everything(msgspec.Struct, frozen=True, kw_only=True):
    server: ServerSettings
    database: DatabaseSettings
    etcd: EtcdSettings
    redis: RedisSettings
    limits: LimitsSettings
    objects: ObjectsSettings
    links: LinksSettings
    network: NetworkSettings
    cluster: ClusterSettings
    node: NodeSettings
    auth: AuthSettings
    secrets: SecretsSettings
    telemetry: TelemetrySettings


class ServerOnly(msgspec.Struct, frozen=True, kw_only=True):
    server: ServerSettings


def read(**environment: str) -> Everything:
    return settings.read(Everything, REQUIRED | environment)


def refusal(**environment: str) -> str:
    with pytest.raises(BadSettings) as refused:
        read(**environment)
    text = str(refused.value)
    assert "\n" not in text
    return text


def test_the_commented_defaults_are_those_of_the_structs() -> None:
    written = tomllib.loads((files("mesh_core.settings") / "defaults.toml").read_text())
    assert set(written) == set(SECTIONS)
    for name, section in SECTIONS.items():
        fields = msgspec.structs.fields(section)
        assert set(written[name]) == {field.name for field in fields}, name
        for field in fields:
            if not field.required:
                value = written[name][field.name]
                if isinstance(value, dict):
                    assert not value
                elif name != "limits":  # a struct without settings limits nothing
                    assert (tuple(value) if isinstance(value, list) else value) == field.default, field.name


def test_every_default_has_a_comment_or_follows_one() -> None:
    lines = (files("mesh_core.settings") / "defaults.toml").read_text().splitlines()
    for before, line in pairwise(lines):
        if " = " in line and not line.startswith("#"):
            assert before.startswith("#") or " = " in before, line


def test_the_environment_overrides_the_file_and_the_file_the_defaults(tmp_path: Path) -> None:
    config = tmp_path / "mesh.toml"
    config.write_text('[server]\nlisten = "127.0.0.1:1000"\ndrain_seconds = 3\n[node]\nid = "n1"\n')
    read_settings = read(MESH_CONFIG=str(config), MESH_SERVER_LISTEN="127.0.0.1:2000")
    assert read_settings.server.listen == "127.0.0.1:2000"
    assert read_settings.server.drain_seconds == 3
    assert read_settings.node.id == "n1"
    assert read_settings.node.capacity == 5000


def test_sections_that_a_service_does_not_have_are_no_concern_of_it(tmp_path: Path) -> None:
    config = tmp_path / "mesh.toml"
    config.write_text('[server]\ndrain_seconds = 1\n[database]\nurl = ""\n')
    read_settings = settings.read(ServerOnly, {"MESH_CONFIG": str(config), "MESH_NODE_ID": "?"})
    assert read_settings.server.drain_seconds == 1


def test_lists_are_separated_by_commas() -> None:
    assert read(MESH_ETCD_ENDPOINTS="a:1, b:2,c:3").etcd.endpoints == ("a:1", "b:2", "c:3")


def test_limits_are_calls_of_a_class_in_seconds() -> None:
    given = read(MESH_LIMITS_KEY_ADDRESS="message=500/60s, instance_operation=100/300s").limits
    assert parse_limits("key_address", given.key_address) == {
        "message": CallLimit(500, 60.0),
        "instance_operation": CallLimit(100, 300.0),
    }


def test_by_default_an_account_and_a_tenant_have_limits_and_a_key_none() -> None:
    limits = read().limits
    for kind, entries in (("account", limits.account), ("tenant", limits.tenant)):
        assert set(parse_limits(kind, entries)) == set(CALL_CLASSES)
    assert (limits.key, limits.key_address) == ((), ())


def test_proxies_are_trusted_by_a_variable_of_their_own() -> None:
    assert read(MESH_TRUSTED_PROXIES="10.0.0.0/8,::1").server.trusted_proxies == ("10.0.0.0/8", "::1")


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("false", False), ("0", False)])
def test_booleans_are_words_or_digits(text: str, value: bool) -> None:
    assert read(MESH_DATABASE_PGBOUNCER=text).database.pgbouncer is value


def test_the_standard_otlp_variable_is_read_but_ours_wins() -> None:
    standard = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"}
    assert read(**standard).telemetry.otlp_endpoint == "http://127.0.0.1:4317"
    both = read(**standard, MESH_TELEMETRY_OTLP_ENDPOINT="http://127.0.0.1:9999")
    assert both.telemetry.otlp_endpoint == "http://127.0.0.1:9999"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        read().server.listen = "elsewhere:1"  # type: ignore[misc]  # that is the point


@pytest.mark.parametrize("variable", REQUIRED)
def test_a_required_value_that_is_missing_is_named(variable: str) -> None:
    present: Mapping[str, str] = {key: value for key, value in REQUIRED.items() if key != variable}
    with pytest.raises(BadSettings, match=rf"^{variable} is required"):
        settings.read(Everything, present)


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("MESH_SERVER_DRAIN_SECONDS", "soon", "float"),
        ("MESH_SERVER_DRAIN_SECONDS", "-1", ">= 0"),
        ("MESH_DATABASE_POOL_SIZE", "0", ">= 1"),
        ("MESH_DATABASE_PGBOUNCER", "perhaps", "bool"),
        ("MESH_TELEMETRY_LOG_LEVEL", "loud", "debug, info, warning, error"),
        ("MESH_TELEMETRY_SAMPLE_RATIO", "2", "<= 1"),
        ("MESH_SERVER_LISTEN", "localhost", "host:port"),
        ("MESH_SERVER_LISTEN", "localhost:70000", "host:port"),
        ("MESH_ETCD_ENDPOINTS", "a:1,b", "host:port"),
        ("MESH_ETCD_ENDPOINTS", "a:1,http://b:2379", "without http://"),
        ("MESH_SERVER_ADVERTISE", "fd00::1:7600", "in brackets"),
        ("MESH_REDIS_URL", "http://127.0.0.1", "redis://..."),
        ("MESH_LIMITS_KEY", "message=500", "class=calls/seconds"),
        ("MESH_LIMITS_KEY", "message=0/60s", "class=calls/seconds"),
        ("MESH_LIMITS_TENANT", "sends=5/60s", "message, instance_operation, query"),
        ("MESH_LIMITS_ACCOUNT", "query=1/1s,query=2/1s", "once"),
        ("MESH_SERVER_TRUSTED_PROXIES", "10.0.0.1/8", "networks"),
        ("MESH_CLUSTER_NAME", "Not/This", "a-z"),
        ("MESH_SERVER_TLS_CERTIFICATE", "/does/not/exist", "certificate and key"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(variable: str, value: str, allowed: str) -> None:
    text = refusal(**{variable: value})
    assert allowed in text
    assert text.startswith(f"{variable}={value!r}") or "must be set too" in text


def test_a_variable_that_is_no_setting_is_refused_with_those_that_are() -> None:
    text = refusal(MESH_SERVER_LISTN="127.0.0.1:1")
    assert text.startswith("MESH_SERVER_LISTN is not a setting")
    assert "MESH_SERVER_LISTEN" in text


def test_a_file_that_is_not_there_or_not_toml_is_named(tmp_path: Path) -> None:
    assert "MESH_CONFIG=/no/such/file cannot be read" in refusal(MESH_CONFIG="/no/such/file")
    broken = tmp_path / "broken.toml"
    broken.write_text("[server")
    assert f"MESH_CONFIG={broken} is not TOML" in refusal(MESH_CONFIG=str(broken))


@pytest.mark.parametrize(
    "variable", ["MESH_SECRETS_MASTER_KEY", "MESH_AUTH_MESH_KEY", "MESH_AUTH_BOOTSTRAP_KEY"]
)
def test_secrets_are_not_shown(variable: str) -> None:
    text = refusal(**{variable: "hunter2"})
    assert text.startswith(variable)
    assert "hunter2" not in text


def test_passwords_in_addresses_are_not_shown() -> None:
    assert "hunter2" not in refusal(MESH_REDIS_URL="http://user:hunter2@127.0.0.1")


@pytest.mark.parametrize("password", ["hunter2/ss", "hunter2#ss", "hunter2?ss", "[hunter2"])
def test_a_password_that_breaks_a_url_is_refused_with_how_to_write_it(password: str) -> None:
    said = refusal(MESH_DATABASE_URL=f"postgresql://mesh:{password}@127.0.0.1/mesh")
    assert "MESH_DATABASE_URL='postgresql://mesh:***@127.0.0.1/mesh' cannot be read as a URL" in said
    assert "%2F" in said


def test_the_mesh_key_is_not_the_administrators() -> None:
    same = "k" * 20
    assert "must differ" in refusal(MESH_AUTH_MESH_KEY=same, MESH_AUTH_BOOTSTRAP_KEY=same)


def test_stores_besides_the_main_one_have_names() -> None:
    others = '{"archive": {"url": "s3://archive", "encryption": "kms", "kms_key": "a-key"}}'
    archive = read(MESH_OBJECTS_OTHERS=others).objects.others["archive"]
    assert (archive.url, archive.encryption, archive.kms_key) == ("s3://archive", "kms", "a-key")


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ("archive", "is not JSON"),
        (
            '{"main": {"url": "s3://archive"}}',
            "must have names of 1 to 32 of a-z, 0-9 and '-', none of them main",
        ),
        (
            '{"archive": {"url": "ftp://archive", "secret_key": "hidden"}}',
            "url must be file://... or s3://...",
        ),
        ('{"archive": {"url": "file:///archive", "encryption": "s3"}}', "encryption is S3's"),
        ('{"archive": {"url": "s3://archive", "kms_key": "a-key"}}', "kms_key needs encryption kms"),
    ],
)
def test_a_store_that_cannot_be_is_refused_and_its_secrets_are_not_shown(others: str, why: str) -> None:
    told = refusal(MESH_OBJECTS_OTHERS=others)
    assert told.startswith("MESH_OBJECTS_OTHERS ")
    assert why in told
    assert "hidden" not in told
