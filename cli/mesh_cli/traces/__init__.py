"""Recent traces without a tracing server: a collector, and a picture of one trace for the terminal."""
