"""Windows in, recognitions out: the engine, the runner shared by live and offline, the worker process."""
