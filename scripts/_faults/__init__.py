"""What scripts/faults.py and scripts/soak.py are made of: a real service, real cameras, a broker, and who watches."""

import _root  # noqa: F401  so that `tests` is found: the camera and the broker are theirs
