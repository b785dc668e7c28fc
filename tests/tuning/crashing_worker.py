"""A measuring process that opens every kernel and dies of the first candidate."""

import os
import sys

for line in sys.stdin:
    if '"open"' not in line:
        os.abort()
    print('{"microseconds": 1.0}', flush=True)
