"""The keys that S3 is asked with, for both of its clients alike: those of the settings, or what a process at
Amazon finds around it, made anew before they end.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import TYPE_CHECKING

from minio.credentials.credentials import Credentials
from minio.credentials.providers import (
    AWSConfigProvider,
    EnvAWSProvider,
    IamAwsProvider,
    Provider,
    StaticProvider,
)
from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError

from mesh_core.settings import StoreSettings

if TYPE_CHECKING:  # obstore has them for type checkers only
    from obstore.store import S3Credential, S3CredentialProvider

MARGIN = timedelta(minutes=5)
"""How long before keys end new ones are asked for: Amazon has them by then."""
ASKING = Timeout(connect=2.0, read=5.0)
"""Seconds: whoever gives keys is near."""


class NoCredentials(ValueError):
    """The settings have no keys, and none were found."""


class FoundCredentials(Provider):
    """Keys of the environment, of `~/.aws/credentials`, or of a role that a web identity, the container or
    the instance has. Blocks; for any thread.
    """

    def __init__(self, region: str) -> None:
        self._region = region
        self._found: Credentials | None = None
        self._lock = Lock()

    def retrieve(self) -> Credentials:
        """Raises `NoCredentials`."""
        with self._lock:
            if self._found is None or _ends_within(self._found, MARGIN):
                try:
                    self._found = self._ask()
                except NoCredentials:
                    if self._found is None or _ends_within(self._found, timedelta(0)):
                        raise
            return self._found

    def _ask(self) -> Credentials:
        for provider in (EnvAWSProvider(), AWSConfigProvider()):
            try:
                return provider.retrieve()
            except ValueError:  # it has none
                continue
        asking = PoolManager(timeout=ASKING, retries=Retry(total=2, backoff_factor=0.2))
        role = IamAwsProvider(custom_endpoint=_endpoint_of_roles(), region=self._region, http_client=asking)
        try:
            return role.retrieve()
        except (HTTPError, OSError, ValueError, KeyError, AttributeError) as error:
            raise NoCredentials(
                "there are no keys: access_key is empty, and none are in the environment (AWS_ACCESS_KEY_ID) "
                f"or ~/.aws/credentials, nor given by a web identity, the container or the instance: {error}"
            ) from error


def credentials_of(settings: StoreSettings) -> Provider:
    """Asks for nothing yet."""
    if settings.access_key:
        return StaticProvider(settings.access_key, settings.secret_key, settings.session_token or None)
    return FoundCredentials(settings.region)


def for_obstore(provider: Provider) -> S3CredentialProvider:
    """The same keys, as obstore asks for them: when it has none, or they end within some minutes."""

    async def found() -> S3Credential:
        keys = await asyncio.to_thread(provider.retrieve)
        return {
            "access_key_id": keys.access_key,
            "secret_access_key": keys.secret_key,
            "token": keys.session_token,
            "expires_at": end_of(keys),
        }

    return found


def end_of(keys: Credentials) -> datetime | None:
    """When they end; None where they do not."""
    return keys.expiration.replace(tzinfo=UTC) if keys.expiration else None


def _ends_within(keys: Credentials, time: timedelta) -> bool:
    end = end_of(keys)
    return end is not None and end <= datetime.now(UTC) + time


def _endpoint_of_roles() -> str | None:
    """Where Amazon's programs are told to ask instead of at Amazon's own addresses."""
    if os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        return os.environ.get("AWS_ENDPOINT_URL_STS")
    if any(name.startswith("AWS_CONTAINER_CREDENTIALS_") for name in os.environ):
        return None
    return os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT")
