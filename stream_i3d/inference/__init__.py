"""Windows in, recognitions out: engines, the runner shared by live and offline, the worker process (`worker`)."""
