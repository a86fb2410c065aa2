"""The guards of accounts' settings, each with the edit that removes it."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

_NODE = "services/session-node/mesh_session_node"
_SETTINGS = "tests/unit/test_session_settings.py"
_PACING = "tests/unit/test_session_pacing.py"

SESSION_SETTINGS = (
    Mutation(
        "a login past the proxy that was set meanwhile is not used",
        f"{_NODE}/account/connector.py",
        "        if proxy_url != context.settings.proxy_url:\n",
        "        if False:\n",
        f"{_SETTINGS} -k meanwhile",
    ),
    Mutation(
        "another proxy has a live session connect anew",
        f"{_NODE}/calls/sessions/session_settings.py",
        "    if proxy_url != before.proxy_url and context.link is not None:\n",
        "    if False:\n",
        f"{_SETTINGS} -k another_proxy",
    ),
    Mutation(
        "settings do not change while the account is being paired",
        f"{_NODE}/calls/sessions/session_settings.py",
        "        if session.state == pb.SESSION_STATE_PAIRING:\n",
        "        if False:\n",
        f"{_SETTINGS} -k being_paired",
    ),
    Mutation(
        "a proxy is looked for at allowed addresses alone",
        "lib/mesh_core/egress/proxies.py",
        "    resolver.check_literal(host)\n",
        "",
        "tests/unit/test_egress_proxies.py -k before_each_connection",
    ),
    Mutation(
        "acts beyond the limit are refused",
        f"{_NODE}/outbound/limits.py",
        "            if window.total >= limit:\n",
        "            if False:\n",
        "tests/unit/test_session_acts.py -k beyond_the_limit",
    ),
    Mutation(
        "a gap follows each message",
        f"{_NODE}/outbound/sender.py",
        "                    self._wait(self._pacing.gap())\n",
        "                    pass\n",
        f"{_PACING} -k gaps_between",
    ),
    Mutation(
        "a text is written before it leaves",
        f"{_NODE}/outbound/sender.py",
        "                self._wait(seconds)\n                return False\n",
        "                self._wait(seconds)\n",
        f"{_PACING} -k written_before",
    ),
    Mutation(
        "a new number's day limits it",
        f"{_NODE}/outbound/pacing.py",
        "    return replace(limits, per_day=min(limits.per_day, plan[day - 1]))\n",
        "    return limits\n",
        f"{_PACING} -k its_day_allows",
    ),
    Mutation(
        "what is stored of a risk is not replaced before it was read",
        f"{_NODE}/context/risk.py",
        "        if not self._changed or not self._loaded or self._groups is None:\n",
        "        if not self._changed or self._groups is None:\n",
        "tests/unit/test_session_risk.py -k counts_on",
    ),
)
