"""One live session per account, always: which node owns which shard.

`participant` is a session-node's part, `view` a router's; `planning` decides which node should own what.
Taking a shard over needs both etcd (a key under the node's lease) and Postgres (the fence); keeping it needs
either, so neither being down stops a session.
"""
