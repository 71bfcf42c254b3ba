"""Import a corpus of Bark's tokens from another program; see `--help`."""

from hf_bark_semantic.cli.import_corpus import main

if __name__ == "__main__":
    main()
