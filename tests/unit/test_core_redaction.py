"""Nothing shows a secret or a whole phone number: not settings, not a log line, whatever its values are."""

from __future__ import annotations

import base64
import json
import logging
import sys
from typing import Literal

import msgspec
import pytest
import structlog

from mesh_core.process import logs
from mesh_core.settings import (
    AuthSettings,
    DatabaseSettings,
    EtcdSettings,
    ObjectsSettings,
    SecretsSettings,
    StoreSettings,
    TelemetrySettings,
    secrets_of,
)
from mesh_core.telemetry.redaction import Redaction

MASTER, EARLIER = (base64.b64encode(bytes([byte]) * 32).decode() for byte in (1, 2))
KEY = "smk_01abcdefghjkmnpqrstvwxyz00_" + "a-B_" * 10


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    database: DatabaseSettings = DatabaseSettings(url="postgresql://mesh:data%40base@10.0.0.1/mesh")
    etcd: EtcdSettings = EtcdSettings(endpoints=("10.0.0.2:2379",), username="mesh", password="etcd-password")
    auth: AuthSettings = AuthSettings(bootstrap_key="administrators-key", mesh_key="key-of-the-mesh!")
    secrets: SecretsSettings = SecretsSettings(master_key=MASTER, previous_master_keys=(EARLIER,))
    objects: ObjectsSettings = ObjectsSettings(
        url="s3://files",
        access_key="access-of-s3",
        secret_key="secret-of-s3",
        others={"old": StoreSettings(url="s3://old", access_key="old-access", secret_key="old-secret")},
    )


SECRETS = {
    *("data%40base", "data@base", "etcd-password", "administrators-key", "key-of-the-mesh!", MASTER, EARLIER),
    *("access-of-s3", "secret-of-s3", "old-access", "old-secret"),
}


def test_all_secrets_of_settings_are_known() -> None:
    assert set(secrets_of(Settings())) == SECRETS


def test_settings_do_not_print_what_is_secret() -> None:
    printed = repr(Settings())
    assert not [secret for secret in SECRETS if secret in printed]
    assert "postgresql://mesh:***@10.0.0.1/mesh" in printed
    assert "username='mesh'" in printed


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://mesh:very@secret@db/mesh",  # which drivers take
        "postgresql://mesh@db/mesh?password=very@secret&sslmode=require",
        "postgresql://mesh@db/mesh?sslmode=require&sslpassword=very%40secret",
    ],
)
def test_a_password_is_known_wherever_a_url_may_have_it(url: str) -> None:
    database = DatabaseSettings(url=url)
    assert "secret" not in repr(database)
    assert "db/mesh" in repr(database)
    assert "very@secret" in set(secrets_of(database))


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("password authentication failed: data@base", "password authentication failed: ***"),
        (f"Bearer {KEY} is unknown", "Bearer *** is unknown"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "***"),
        ("sent to +4915112345678.", "sent to +49...78."),
        ("phone:+4915112345678", "phone:+49...78"),
        ("4915112345678@s.whatsapp.net", "491...78@s.whatsapp.net"),
        ("of 4915112345678:12@s.whatsapp.net", "of 491...78:12@s.whatsapp.net"),
        ("of 4915112345678.0:12@s.whatsapp.net", "of 491...78.0:12@s.whatsapp.net"),
        ("GET /?to=%2B4915112345678&of=phone%3A4915112345678", "GET /?to=%2B...78&of=phone%3A491...78"),
        ("at 2031-05-04T03:00:00+00:00", "at 2031-05-04T03:00:00+00:00"),
        ("revision 123456789 of node-12345678", "revision 123456789 of node-12345678"),
    ],
)
def test_texts_lose_secrets_and_the_middle_of_numbers_and_nothing_else(said: str, shown: str) -> None:
    assert Redaction(SECRETS).text(said) == shown


@pytest.mark.usefixtures("logging_put_back")
@pytest.mark.parametrize("form", ["json", "console"])
def test_logs_have_no_secret_wherever_it_stands(
    form: Literal["json", "console"], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("test", TelemetrySettings(log_format=form), Redaction(SECRETS))

    class Odd:
        def __repr__(self) -> str:
            return "Odd(etcd-password)"

    logger = structlog.get_logger("test")
    logger.warning("data@base", one=["old-secret", {"deep": "secret-of-s3"}], odd=Odd(), count=3, of=None)
    logger.warning("a name", names={"etcd-password": 1})
    logging.getLogger("library").error("cannot log in with %s", "etcd-password")
    try:
        raise ValueError("administrators-key")
    except ValueError:
        logger.exception("failed")
    said = capsys.readouterr().err
    assert not [secret for secret in SECRETS if secret in said]
    assert said.count("***") >= 6
    if form == "json":
        first = json.loads(said.splitlines()[0])
        assert (first["event"], first["one"], first["count"], first["of"]) == (
            "***",
            ["***", {"deep": "***"}],
            3,
            None,
        )


@pytest.mark.usefixtures("logging_put_back")
def test_colours_hide_no_secret_and_no_number(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    logs.configure("test", TelemetrySettings(), Redaction(SECRETS))
    structlog.get_logger("test").warning("sent", to="+4915112345678", key=KEY)
    said = capsys.readouterr().err
    assert "\x1b[" in said
    assert "+49...78" in said
    assert "4915112345678" not in said
    assert KEY not in said


@pytest.mark.usefixtures("logging_put_back")
@pytest.mark.parametrize("form", ["json", "console"])
def test_strangers_texts_neither_move_the_terminal_nor_look_like_other_lines(
    form: Literal["json", "console"], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("test", TelemetrySettings(log_format=form), Redaction())
    text = "one\n2031-01-01 [info] all is well\x1b[2J\x9b2J\u202e"
    structlog.get_logger("test").warning(text, fact=text, short="\x1b[2J", none=None)
    logging.getLogger("library").error("%s", text)
    try:
        raise ValueError("\x1b[2J\x9b2J\u202e")
    except ValueError:
        structlog.get_logger("test").exception("failed")
    said = capsys.readouterr().err
    assert not set(said) & set("\x1b\x9b\u202e")
    assert not [line for line in said.splitlines() if line.startswith("2031")]
    if form == "json":
        assert json.loads(said.splitlines()[0])["fact"] == text


@pytest.mark.usefixtures("logging_put_back")
@pytest.mark.parametrize("form", ["json", "console"])
def test_nothing_that_is_logged_raises(
    form: Literal["json", "console"], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("test", TelemetrySettings(log_format=form), Redaction())
    structlog.get_logger("test").warning("half \ud800", half="\ud800", large=2**70)
    assert "half" in capsys.readouterr().err
