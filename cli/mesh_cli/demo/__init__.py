"""`mesh demo`: a tour through a running mesh that checks everything it shows."""
