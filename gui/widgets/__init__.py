"""One small file per widget. They show what `stream_i3d_gui.state` says, and emit signals for what people ask."""
