"""Training of the encoder and of Bark's models: the loop, batches, held-out figures and where weights start."""
