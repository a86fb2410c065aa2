"""What keeps a client from doing a thing twice, and from taking what is not the mesh's, with its removal."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

_PYTHON = "clients/python/mesh_client"
_TYPESCRIPT = "clients/typescript/src"
_WEBHOOKS = "tests/unit/test_client_webhooks.py"
_NODE = "tests/acceptance/test_typescript_package.py -k own_tests"

CLIENTS = (
    Mutation(
        "a webhook's signature is compared",
        f"{_PYTHON}/webhooks.py",
        "not any(hmac.compare_digest(signature, expected) for signature in given)",
        "not given",
        _WEBHOOKS,
    ),
    Mutation(
        "a webhook is not taken late",
        f"{_PYTHON}/webhooks.py",
        " or abs(present - int(timestamp)) > tolerance",
        "",
        _WEBHOOKS,
    ),
    Mutation(
        "on Node, a webhook is not taken late",
        f"{_TYPESCRIPT}/webhooks.ts",
        "Number(timestamp)) > toleranceSeconds",
        "Number(timestamp)) > 1e9 * toleranceSeconds",
        _NODE,
    ),
    Mutation(
        "on Node, what the contract does not let repeat is sent once",
        f"{_TYPESCRIPT}/caller.ts",
        "method.idempotency !== Idempotency.IDEMPOTENCY_UNKNOWN",
        'method.idempotency !== Idempotency.IDEMPOTENCY_UNKNOWN || method.name !== ""',
        _NODE,
    ),
    Mutation(
        "on Node, an upload begins again under the same request id",
        f"{_TYPESCRIPT}/uploads.ts",
        "const frames = framesOf(header, source, options.progress);",
        "const frames = framesOf({ ...header, requestId: newRequestId() }, source, options.progress);",
        _NODE,
    ),
    Mutation(
        "on Node, a bulk sender sends again what a broken stream left open",
        f"{_TYPESCRIPT}/bulk.ts",
        "      this.#items.takeBack();\n",
        "",
        _NODE,
    ),
    Mutation(
        "on Node, a subscription goes on where it was",
        f"{_TYPESCRIPT}/subscriptions.ts",
        'else if (this.#cursor !== "")',
        'else if (this.#cursor === "none")',
        _NODE,
    ),
)
