"""Settings: frozen structs made of sections, filled from defaults, a file and the environment, in that order.

A service composes its own struct from `sections` and calls `load`:

    class RouterSettings(msgspec.Struct, frozen=True, kw_only=True):
        server: ServerSettings
        database: DatabaseSettings
        telemetry: TelemetrySettings

Section `server`, key `listen` is the environment variable MESH_SERVER_LISTEN. The file that MESH_CONFIG names
is TOML with one table per section. A service's own sections may have a commented `defaults.toml` beside its
settings module.
"""

from __future__ import annotations

import os
import sys
import tomllib
import typing
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import msgspec

from mesh_core.settings.secrets import is_secret, without_password
from mesh_core.settings.sections import InvalidSetting

EXIT_BAD_SETTINGS = 64
"""EX_USAGE of sysexits."""

S = TypeVar("S")


class BadSettings(Exception):
    """A setting is missing or wrong; the text is one line that names its variable."""


def load(settings: type[S]) -> S:
    """The settings of this process, or one line on stderr and exit 64."""
    try:
        return read(settings, os.environ)
    except BadSettings as error:
        _exit(str(error))


def read(settings: type[S], environment: Mapping[str, str]) -> S:
    """Like `load`, from a given environment; raises `BadSettings`."""
    layers = [_toml(files(__package__) / "defaults.toml", "defaults.toml")]
    own_package = settings.__module__.rpartition(".")[0]
    if own_package:
        own_defaults = files(own_package) / "defaults.toml"
        if own_defaults.is_file():
            layers.append(_toml(own_defaults, "defaults.toml"))
    if path := environment.get("MESH_CONFIG"):
        layers.append(_toml(Path(path), f"MESH_CONFIG={path}"))
    sections = typing.get_type_hints(settings, include_extras=True)
    _refuse_unknown(layers[-1], sections, environment)
    filled = {name: _section(name, section, layers, environment) for name, section in sections.items()}
    return settings(**filled)


_LISTS = (tuple, list)
_ALIASES = {
    "MESH_TELEMETRY_OTLP_ENDPOINT": "OTEL_EXPORTER_OTLP_ENDPOINT",
    "MESH_SERVER_TRUSTED_PROXIES": "MESH_TRUSTED_PROXIES",
}


def _section(
    name: str, section: type[msgspec.Struct], layers: list[dict[str, Any]], environment: Mapping[str, str]
) -> msgspec.Struct:
    values: dict[str, Any] = {}
    for key, kind in typing.get_type_hints(section, include_extras=True).items():
        variable = f"MESH_{name}_{key}".upper()
        for layer in layers:
            if key in layer.get(name, ()):
                values[key] = layer[name][key]
        given = environment.get(variable, environment.get(_ALIASES.get(variable, "")))
        if given is not None:
            values[key] = _given(name, key, given.strip(), kind)
        if key in values:
            values[key] = _convert(name, key, values[key], kind)
    try:
        return section(**values)
    except InvalidSetting as error:
        raise BadSettings(_sentence(name, error.key, values.get(error.key, ""), error.allowed)) from None
    except TypeError:
        missing = next(key for key in section.__struct_fields__ if key not in values)
        raise BadSettings(_sentence(name, missing, "", "is required")) from None


def _given(section: str, key: str, text: str, kind: Any) -> Any:
    """What a variable's text stands for: lists are split at commas, tables are JSON."""
    if typing.get_origin(kind) in _LISTS:
        return _split(text)
    if typing.get_origin(kind) is not dict:
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise BadSettings(_sentence(section, key, "", f"is not JSON: {error}")) from None


def _convert(section: str, key: str, value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        allowed = str(error).partition(" - at ")[0].replace("`", "")
        if choices := typing.get_args(kind):
            allowed += (
                f" (allowed: {', '.join(map(str, choices))})" if typing.get_origin(kind) is Literal else ""
            )
        raise BadSettings(_sentence(section, key, value, f"is wrong: {allowed}")) from None


def _sentence(section: str, key: str, value: Any, problem: str) -> str:
    variable = f"MESH_{section}_{key}".upper()
    if value in ("", ()) or isinstance(value, dict) or is_secret(key):  # a table may have secrets in it
        return f"{variable} {problem}"
    shown = ",".join(map(str, value)) if isinstance(value, _LISTS) else str(value)
    return f"{variable}={without_password(shown)!r} {problem}"


def _refuse_unknown(
    config: dict[str, Any], sections: dict[str, type[msgspec.Struct]], environment: Mapping[str, str]
) -> None:
    for name, section in sections.items():
        known = section.__struct_fields__
        prefix = f"MESH_{name}_".upper()
        given = {variable[len(prefix) :].lower() for variable in environment if variable.startswith(prefix)}
        for key in sorted(given.union(config.get(name, ())).difference(known)):
            allowed = ", ".join(f"{prefix}{field.upper()}" for field in known)
            raise BadSettings(f"{prefix}{key.upper()} is not a setting (allowed: {allowed})")


def _toml(path: Any, named: str) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSettings(f"{named} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettings(f"{named} is not TOML: {error}") from None


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _exit(message: str) -> NoReturn:
    sys.stderr.write(f"{message}\n")
    sys.exit(EXIT_BAD_SETTINGS)
