"""One TCP connection per client: framing, transfers of blobs, traffic shaping, timers."""
