"""What scripts/faults.py and scripts/soak.py are made of: a real service, real cameras, a broker, and who watches."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# The RTSP camera is the tests' own (tests/rtsp.py), and a script's path has only the scripts.
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))
