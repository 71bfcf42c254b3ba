"""Another window of Bark's coarse stage: fewer steps that read the whole input again, and other tokens."""

from copy import deepcopy

from transformers import BarkModel

from .configs import bark_generation_configs


def with_window(bark: BarkModel, length: int):
    """A Bark's generation config, but with another window of the coarse stage, and the history that fits beside it."""
    config = deepcopy(bark.generation_config)
    coarse = bark_generation_configs(bark).coarse
    room = bark.coarse_acoustics.config.block_size - coarse.max_coarse_input_length - length
    history = min(coarse.max_coarse_history, room - room % coarse.n_coarse_codebooks)
    if length % coarse.n_coarse_codebooks or history < length:
        raise SystemExit(
            f"window={length} does not fit: it must hold whole frames of {coarse.n_coarse_codebooks} ids, and the "
            f"coarse model has {room + length} positions for the window and a history that is no shorter."
        )
    changed = {"sliding_window_len": length, "max_coarse_history": history}
    part = config.coarse_acoustics_config
    config.coarse_acoustics_config = {**(part if isinstance(part, dict) else part.to_dict()), **changed}
    return config
