"""The stages of a pipeline, by what they start from. `pipeline.Stage` is their union."""
