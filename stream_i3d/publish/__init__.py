"""Where results go, one file per sink, all behind `sink.Sink`."""
