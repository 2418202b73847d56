"""The Qt overlay; installed as `stream_i3d_gui`. It imports neither cv2 nor torch."""
