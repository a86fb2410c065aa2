"""Parses what it reads: a text a line, in base64. Answers with a line for each, its canonical form or `-`."""

import sys
from base64 import b64decode

from addresses import parse_address  # type: ignore[import-not-found] # lies beside it once it is built

for line in sys.stdin:
    try:
        sys.stdout.write(parse_address(b64decode(line).decode()) + "\n")
    except ValueError:
        sys.stdout.write("-\n")
