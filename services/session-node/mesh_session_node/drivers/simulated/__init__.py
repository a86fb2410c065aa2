"""The driver of the simulated network, which runs as a program of its own and stands in for WhatsApp."""
