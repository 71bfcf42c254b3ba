"""Training of the encoder and of Bark's models: loop, batches, validation and initial weights."""
