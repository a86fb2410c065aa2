"""Buckets as the mesh wants them: there, nobody else's to read, and without what broken uploads leave."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import structlog
from minio import Minio
from minio.commonconfig import ENABLED, Filter
from minio.error import MinioException, S3Error
from minio.lifecycleconfig import AbortIncompleteMultipartUpload, LifecycleConfig, Rule
from urllib3.exceptions import HTTPError

from mesh_core.errors import StartupError

logger = structlog.get_logger(__name__)

RULE = "sessionmesh-abort-incomplete-uploads"
PROBE = "sessionmesh-probe"
"""An object that is written and deleted at the start by keys that may not look at the bucket."""
_FORBIDDEN = frozenset({"AccessDenied", "Forbidden"})


def prepare_bucket(client: Minio, bucket: str) -> None:
    """Makes a missing bucket, and has S3 throw away the parts of uploads that never ended, after a day.

    Blocks. Raises `StartupError` when the bucket cannot be used, or when everybody may read it.
    """
    try:
        _have(client, bucket)
    except (MinioException, HTTPError, OSError, ValueError) as error:
        raise StartupError(f"the bucket {bucket} cannot be used for objects: {error}") from None
    if _is_public(client, bucket):
        raise StartupError(f"the bucket {bucket} is open to everybody: take its public policy away")
    try:
        _keep_rule(client, bucket)
    except (MinioException, HTTPError, OSError) as error:
        if isinstance(error, S3Error) and error.code in _FORBIDDEN:
            logger.warning(
                "the keys may set no rules for the bucket: see to it that it throws broken uploads away",
                bucket=bucket,
            )
        else:  # a store that knows no such rule, as MinIO, which needs none
            logger.info("the bucket gets no rule for broken uploads", bucket=bucket, error=str(error))


def _have(client: Minio, bucket: str) -> None:
    try:
        if not client.bucket_exists(bucket):
            client.make_bucket(bucket)
    except S3Error as error:
        if error.code not in _FORBIDDEN:
            raise
        # Keys for objects only: whether the bucket is there, and they are right, shows when they are used.
        client.put_object(bucket, PROBE, BytesIO(), 0)
        client.remove_object(bucket, PROBE)
        logger.warning("the keys may not look at the bucket: its storage cannot be scanned", bucket=bucket)


def _keep_rule(client: Minio, bucket: str) -> None:
    try:
        present = client.get_bucket_lifecycle(bucket)
    except S3Error as error:
        if error.code != "NoSuchLifecycleConfiguration":
            raise
        present = None
    rules = list(present.rules) if present else []
    if any(rule.rule_id == RULE for rule in rules):
        return
    ours = Rule(
        ENABLED,
        rule_filter=Filter(prefix=""),
        rule_id=RULE,
        abort_incomplete_multipart_upload=AbortIncompleteMultipartUpload(days_after_initiation=1),
    )
    client.set_bucket_lifecycle(bucket, LifecycleConfig([*rules, ours]))


def _is_public(client: Minio, bucket: str) -> bool:
    try:
        policy = json.loads(client.get_bucket_policy(bucket))
    except (MinioException, HTTPError, OSError, ValueError):  # it has none, or the keys may not see it
        return False
    statements = policy.get("Statement", [])
    return any(map(_opens, statements if isinstance(statements, list) else [statements]))


def _opens(statement: dict[str, Any]) -> bool:
    who = statement.get("Principal")
    named = who.get("AWS", []) if isinstance(who, dict) else who
    everybody = "*" in (named if isinstance(named, list) else [named])
    return statement.get("Effect") == "Allow" and everybody and "Condition" not in statement
