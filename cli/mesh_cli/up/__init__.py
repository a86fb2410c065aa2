"""`mesh up`: the whole mesh on one machine, under one state directory."""
