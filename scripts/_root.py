"""The repository's folder, which importing this puts on the path: what tests are made of serves scripts too."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))
