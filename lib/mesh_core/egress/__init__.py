"""Protection against server-side request forgery: no address that a caller names leads into our own network.

Names are resolved here, every answer is checked, and the connection is made to the very addresses that were
checked, so that a name cannot mean one thing to the check and another to the connection. One bad address
among good ones is enough to refuse. Whoever follows a redirect checks its address as the first one.

And what such a server answers with stops nobody else: connect by `connector`.
"""

from mesh_core.egress.addresses import AddressForbidden, is_forbidden, literal_address
from mesh_core.egress.answers import AnswerHandler, connector
from mesh_core.egress.names import Names
from mesh_core.egress.proxies import check_proxy, proxy_address
from mesh_core.egress.resolver import CheckedResolver
from mesh_core.egress.targets import MAX_URL_LENGTH, check_headers, check_url

__all__ = [
    "MAX_URL_LENGTH",
    "AddressForbidden",
    "AnswerHandler",
    "CheckedResolver",
    "Names",
    "check_headers",
    "check_proxy",
    "check_url",
    "connector",
    "is_forbidden",
    "literal_address",
    "proxy_address",
]
