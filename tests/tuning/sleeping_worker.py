"""A measuring process that opens every kernel and never answers for a candidate."""

import sys
import time

for line in sys.stdin:
    if '"open"' not in line:
        time.sleep(60)
    print('{"microseconds": 1.0}', flush=True)
