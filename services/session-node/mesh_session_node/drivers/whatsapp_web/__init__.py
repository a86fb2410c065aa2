"""The driver of WhatsApp as a linked device: a sidecar process speaks to the network, this side keeps the state."""
