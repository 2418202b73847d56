"""Training, fine-tuning and evaluation of the I3D family on folders of videos or on generated scenes.

    TrainConfig -> annotations -> dataset (decode, sample, crop, jitter) -> loop -> checkpoint -> evaluation

Clips are sampled, resized, cropped and normalised by the live path's own code (`stream_i3d.sampling` and
`stream_i3d.preprocess`). The result is a checkpoint that `stream-i3d run` takes without further flags.
"""
