"""Stage 1. Generate a corpus of labelled speech with a Bark; see `--help`."""

from hf_bark_semantic.cli.generate_corpus import main

if __name__ == "__main__":
    main()
