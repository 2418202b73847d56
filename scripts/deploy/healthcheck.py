"""Ends with 0 while the service's loops turn, for a container's HEALTHCHECK; with 1 and the reason otherwise.

Asks /healthz at HEALTH_URL, with the token MONITOR_TOKEN where there is one. Needs nothing but Python.
"""

import os
import sys
from urllib.request import ProxyHandler, Request, build_opener

request = Request(os.environ.get("HEALTH_URL", "http://127.0.0.1:8556/healthz"))
if os.environ.get("MONITOR_TOKEN"):
    request.add_header("Authorization", f"Bearer {os.environ['MONITOR_TOKEN']}")
try:
    # Docker hands its proxies to containers by the environment: they know nothing of this one's loopback.
    with build_opener(ProxyHandler({})).open(request, timeout=4) as answer:
        print(answer.read(1000).decode())
except OSError as error:  # also every answer but 200
    sys.exit(f"unhealthy: {error}")
