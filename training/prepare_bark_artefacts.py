"""Stage 1. Make one labelled corpus of real artefacts of Bark; see `--help`."""

from hf_bark_semantic.cli.prepare_bark_artefacts import main

if __name__ == "__main__":
    main()
