"""GetMediaPolicy and UpdateMediaPolicy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from asyncpg.pgproto.pgproto import UUID

from mesh_core import validation
from mesh_core.errors import InvalidField
from mesh_core.rpc.auth import current_identity
from mesh_media.repository.policy_repository import Policy, PolicyRepository, Rule
from sessionmesh.v1 import media_pb2

CHANGEABLE = ("compression", "keep_original", "retention_rules")
MAX_KEEP_FOR = timedelta(days=3650)


class Policies:
    """The tenants' rules, checked before they are stored."""

    def __init__(self, policies: PolicyRepository) -> None:
        self._policies = policies

    async def get(self, request: media_pb2.GetMediaPolicyRequest) -> media_pb2.GetMediaPolicyResponse:
        """Raises `NotFound`."""
        policy = await self._policies.get(_tenant(request.tenant_id))
        return media_pb2.GetMediaPolicyResponse(
            policy=_message(policy),
            default_retention_rules=map(_rule_message, await self._policies.mesh_rules()),
        )

    async def update(
        self, request: media_pb2.UpdateMediaPolicyRequest
    ) -> media_pb2.UpdateMediaPolicyResponse:
        """Raises `InvalidField`, `NotFound`, and `Aborted` for an etag that is not the present one."""
        tenant = _tenant(request.tenant_id)
        paths = validation.field_mask(request.update_mask, CHANGEABLE)
        given = request.policy
        changed = Policy(
            validation.choice(
                "policy.compression", given.compression, media_pb2.Compression.values(), "the levels"
            ),
            given.keep_original,
            _rules(given.retention_rules),
        )
        policy = await self._policies.update(tenant, changed, paths, given.etag)
        return media_pb2.UpdateMediaPolicyResponse(policy=_message(policy))


def _tenant(explicit: str) -> UUID:
    return UUID(current_identity().tenant_for(explicit).bytes)


def _rules(given: Iterable[media_pb2.RetentionRule]) -> Sequence[Rule]:
    rules: dict[int, Rule] = {}
    for at, rule in enumerate(given):
        field = f"policy.retention_rules[{at}]"
        validation.choice(
            f"{field}.category", rule.category, media_pb2.MediaCategory.values()[1:], "the categories"
        )
        if rule.category in rules:
            raise InvalidField(f"{field}.category", "has a rule already")
        keep_for = max_bytes = None
        if rule.HasField("keep_for"):
            keep_for = validation.duration(
                f"{field}.keep_for", rule.keep_for, least=timedelta(), most=MAX_KEEP_FOR
            )
        if rule.HasField("max_bytes"):
            max_bytes = validation.at_least(f"{field}.max_bytes", rule.max_bytes, 0)
        rules[rule.category] = Rule(rule.category, keep_for, max_bytes)
    return [*rules.values()]


def _message(policy: Policy) -> media_pb2.MediaPolicy:
    return media_pb2.MediaPolicy(
        compression=media_pb2.Compression.ValueType(policy.compression),
        keep_original=policy.keep_original,
        retention_rules=map(_rule_message, policy.rules),
        update_time=validation.to_timestamp(policy.update_time) if policy.update_time else None,
        etag=validation.etag(policy.version),
    )


def _rule_message(rule: Rule) -> media_pb2.RetentionRule:
    return media_pb2.RetentionRule(
        category=media_pb2.MediaCategory.ValueType(rule.category),
        keep_for=None if rule.keep_for is None else validation.to_duration(rule.keep_for),
        max_bytes=rule.max_bytes,
    )
