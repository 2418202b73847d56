"""Training, fine-tuning and evaluation of the I3D family on folders of videos or on generated scenes.

    TrainConfig -> annotations -> dataset (decode, sample, crop, jitter) -> loop -> checkpoint -> evaluation

What a clip is (sampling to the model's rate, resize, crop, normalisation) is the live path's own code: `sampling` and
`preprocess`. What comes out is a checkpoint that `run` takes without another flag.
"""
