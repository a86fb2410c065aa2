"""The driver of WhatsApp as a linked device: a sidecar speaks to the network, this side keeps the state."""
