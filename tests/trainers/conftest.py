"""Fixtures that interrupt a training."""

from contextlib import contextmanager

import pytest

from hf_bark_semantic.trainers.encoder_batches import CropBatches


@pytest.fixture
def interrupted(monkeypatch):
    """A context in which the training of an encoder is interrupted when it asks for the batch of a step."""

    @contextmanager
    def context(step: int):
        batch_of = CropBatches.__getitem__

        def batch_or_interrupt(batches, number):
            if number == step:
                raise KeyboardInterrupt
            return batch_of(batches, number)

        with monkeypatch.context() as patch, pytest.raises(SystemExit, match="130"):
            patch.setattr(CropBatches, "__getitem__", batch_or_interrupt)
            yield

    return context
